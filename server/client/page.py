"""An answer as a web page of one file, pictures included."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { color-scheme: light dark;
          --paper: #fbfaf8; --ink: #23211e; --quiet: #77716a; --rule: #e5e1da; --ask: #f1eee8; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #171614; --ink: #e9e5de; --quiet: #958f86; --rule: #33302c; --ask: #22201d; }
  }
  * { box-sizing: border-box; }
  body { margin: 0; background: var(--paper); color: var(--ink); font: 18px/1.65 Charter, Georgia, serif; }
  main { max-width: 38rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 5rem) 1.25rem; }
  .ask { margin: 0 0 2.5rem; padding: 1rem 1.25rem; border-radius: .75rem; background: var(--ask);
         white-space: pre-wrap; font: 1rem/1.5 ui-sans-serif, system-ui, sans-serif; }
  p { margin: 0 0 1.25rem; white-space: pre-wrap; overflow-wrap: anywhere; }
  figure { margin: 2rem 0; }
  img { display: block; width: 100%; height: auto; border-radius: .75rem; border: 1px solid var(--rule); }
  footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--quiet);
           font: .8rem/1.5 ui-sans-serif, system-ui, sans-serif; }
</style>
</head>
<body>
<main>
<div class="ask">$prompt</div>
$parts
<footer>$caption</footer>
</main>
</body>
</html>
""")


@dataclass(frozen=True, slots=True)
class PageText:
    """A stretch of text."""

    text: str


@dataclass(frozen=True, slots=True)
class PageImage:
    """An encoded picture and its size in pixels."""

    data: bytes = field(repr=False)
    format: str
    width: int
    height: int


def render_page(prompt: str, parts: Sequence[PageText | PageImage], caption: str) -> str:
    """The page. Whatever prompt and text say, they are text on it."""
    pictures = 0
    rendered = []
    for part in parts:
        if isinstance(part, PageImage):
            pictures += 1
            rendered.append(render_image(part, pictures))
        elif text := part.text.strip():
            rendered.append(f"<p>{escape(text)}</p>")
    title = escape(prompt if len(prompt) <= 60 else f"{prompt[:59]}…")
    return PAGE.substitute(title=title, prompt=escape(prompt), parts="\n".join(rendered), caption=escape(caption))


def render_image(image: PageImage, number: int) -> str:
    """A figure with the picture inside. Small pictures are enlarged, not past four times their size."""
    url = f"data:image/{image.format};base64,{base64.b64encode(image.data).decode()}"
    size = f'width="{image.width}" height="{image.height}" style="max-width: {4 * image.width}px"'
    return f'<figure><img alt="Picture {number}" {size} src="{url}"></figure>'
