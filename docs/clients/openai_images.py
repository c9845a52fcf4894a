import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="http://localhost:8000/v1", api_key="none")
images = client.images.generate(model="dreamllm-tiny", prompt="a big red circle", n=2, extra_body={"seed": 7})
for i, image in enumerate(images.data):
    picture = Path(f"picture-{i}.png")
    picture.write_bytes(base64.b64decode(image.b64_json))
    print(f"[{picture}]", end="")
