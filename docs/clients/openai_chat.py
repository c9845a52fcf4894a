import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="http://localhost:8000/v1", api_key="none")
stream = client.chat.completions.create(
    model="dreamllm-tiny",
    messages=[{"role": "user", "content": "Draw two pictures: a red circle, then a blue star."}],
    seed=7,
    stream=True,
    extra_body={"images": {"steps": 20}},
)
for chunk in stream:
    delta = chunk.choices[0].delta
    print(delta.content or "", end="")
    for image in getattr(delta, "images", []):
        picture = Path(f"picture-{image['part']}.png")
        picture.write_bytes(base64.b64decode(image["image_url"]["url"].partition(",")[2]))
        print(f"[{picture}]", end="")
