"""Every store of pictures."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from server.files.base import ImageStore
from server.files.opening import open_image_store
from server.settings import Settings


@pytest.fixture(params=["memory", "redis", "file"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, namespace: str) -> Settings:
    """Of a server with a store of each kind."""
    target = f"{request.param}://" if request.param != "file" else (tmp_path / "new" / "pictures").as_uri()
    redis: dict[str, Any] = {}
    if request.param == "redis":
        redis = {"url": request.getfixturevalue("redis_server").url, "namespace": namespace}
    return Settings(files={"target": target, "ttl_s": 60}, redis=redis)


@pytest_asyncio.fixture
async def store(settings: Settings) -> AsyncIterator[ImageStore]:
    """A store of each kind."""
    async with open_image_store(settings) as opened:
        yield opened
