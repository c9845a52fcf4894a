"""An answer as the client keeps it: its parts in order, and the files that it becomes."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from server.client.page import PageImage, PageText, render_page
from server.schema.events import (
    DocumentCompletedEvent,
    DocumentFailedEvent,
    DocumentStartedEvent,
    ImageCompletedEvent,
    ImageFailedEvent,
    InterleavedEvent,
    TextDeltaEvent,
)
from server.schema.interleaved import DocumentUsage

PICTURE_FILE = re.compile(r"picture-[1-9][0-9]*\.(png|webp|jpeg)")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of an answer.

    Attributes:
        data: encoded.
        format: png, webp or jpeg.
        width: in pixels.
        height: in pixels.
    """

    data: bytes = field(repr=False)
    format: str
    width: int
    height: int


@dataclass(slots=True)
class Answer:
    """What has come so far.

    Attributes:
        prompt: what was asked.
        model: that answers.
        texts: by part.
        pictures: by part.
        failures: why pictures are missing, by part.
        finish_reason: why the document ended, if it ended well.
        usage: what it cost, once it has ended.
    """

    prompt: str
    model: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    pictures: dict[int, Picture] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: DocumentUsage | None = None

    def apply(self, event: InterleavedEvent) -> None:
        """Add what one event tells."""
        match event:
            case DocumentStartedEvent(model=model):
                self.model = model
            case TextDeltaEvent(part=part, text=text):
                self.texts[part] = self.texts.get(part, "") + text
            case ImageCompletedEvent(part=part, image=image):
                self.pictures[part] = Picture(image.decoded(), image.format, image.width, image.height)
            case ImageFailedEvent(part=part, error=error):
                self.failures[part] = error.message
            case DocumentCompletedEvent(finish_reason=reason, usage=usage):
                self.finish_reason, self.usage = reason, usage
            case DocumentFailedEvent(usage=usage):
                self.usage = usage

    def save(self, folder: Path) -> Path:
        """Write the pictures and ``answer.html``, which holds them too, and return its path.

        Pictures of an earlier answer in the same folder are removed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if PICTURE_FILE.fullmatch(path.name):
                path.unlink()
        for number, picture in enumerate(self._pictures_in_order(), start=1):
            (folder / f"picture-{number}.{picture.format}").write_bytes(picture.data)
        page = folder / "answer.html"
        page.write_text(render_page(self.prompt, self._page_parts(), self._caption()), encoding="utf-8")
        return page

    def _pictures_in_order(self) -> list[Picture]:
        return [self.pictures[part] for part in sorted(self.pictures)]

    def _page_parts(self) -> list[PageText | PageImage]:
        parts: list[PageText | PageImage] = []
        for part in sorted({*self.texts, *self.pictures, *self.failures}):
            if part in self.pictures:
                picture = self.pictures[part]
                parts.append(PageImage(picture.data, picture.format, picture.width, picture.height))
            elif part in self.failures:
                parts.append(PageText(f"[no picture: {self.failures[part]}]"))
            else:
                parts.append(PageText(self.texts[part]))
        return parts

    def _caption(self) -> str:
        if self.usage is None:
            return self.model
        tokens, steps = self.usage.completion_tokens, self.usage.denoising_steps
        return f"{self.model} · {tokens} tokens · {len(self.pictures)} pictures · {steps} denoising steps"
