import base64
from pathlib import Path

from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url="http://localhost:8000/v1",
    api_key="none",
    model="dreamllm-tiny",
    seed=7,
    extra_body={"image_output": "content"},
)
message = model.invoke("Draw two pictures: a red circle, then a blue star.")
for i, part in enumerate(message.content):
    if part["type"] == "text":
        print(part["text"], end="")
    elif part["type"] == "image_url":
        picture = Path(f"picture-{i}.png")
        picture.write_bytes(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
        print(f"[{picture}]", end="")
