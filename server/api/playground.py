"""``/`` and ``/playground/…``: a page to try the server with. Plain files, which ask nothing of anyone else."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

WEB = Path(__file__).parents[1] / "web"
PAGE = "index.html"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Text of the model that became markup would be an error, not a hole.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Names stay the same from version to version, so a browser asks each time whether its copy is still right.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page.

    Attributes:
        content: its bytes.
        media_type: of the content.
        etag: changes with the content.
    """

    content: bytes = field(repr=False)
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "Asset":
        """The file at a path."""
        content = path.read_bytes()
        return cls(content, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def respond(self, request: Request) -> Response:
        """The file, or that the browser has it already."""
        headers = {**HEADERS, "ETag": self.etag}
        known = (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        if self.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def read_assets(folder: Path) -> dict[str, Asset]:
    """All files of a folder, by their paths in it."""
    files = (path for path in folder.rglob("*") if path.suffix in MEDIA_TYPES)
    return {path.relative_to(folder).as_posix(): Asset.read(path) for path in files}


def playground_router() -> APIRouter:
    """The page at ``/`` and its files below ``/playground``. They are read now, and once."""
    assets = read_assets(WEB)
    index = assets.pop(PAGE)
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return index.respond(request)

    @router.api_route("/playground/{path:path}", methods=["GET", "HEAD"])
    async def asset(path: str, request: Request) -> Response:
        if not path:
            return RedirectResponse("../")
        if path not in assets:
            raise HTTPException(404)
        return assets[path].respond(request)

    return router
