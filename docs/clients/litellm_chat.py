import base64
from pathlib import Path

import litellm

stream = litellm.completion(
    model="openai/dreamllm-tiny",
    api_base="http://localhost:8000/v1",
    api_key="none",
    messages=[{"role": "user", "content": "Draw two pictures: a red circle, then a blue star."}],
    seed=7,
    stream=True,
)
for chunk in stream:
    delta = chunk.choices[0].delta
    print(delta.content or "", end="")
    for image in getattr(delta, "images", None) or []:
        picture = Path(f"picture-{image['part']}.png")
        picture.write_bytes(base64.b64decode(image["image_url"]["url"].partition(",")[2]))
        print(f"[{picture}]", end="")
