"""The Lua scripts, as they lie in ``lua/``."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from server.pool.queue.keys import Keys

_FOLDER = resources.files(__package__) / "lua"

Argument = str | bytes | int | float


class Scripts:
    """Runs scripts on the keys of one pool.

    Args:
        client: of the Redis.
        keys: of the pool.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._shared = (_FOLDER / "_shared.lua").read_text()
        self._scripts: dict[str, AsyncScript] = {}

    async def run(self, name: str, arguments: Sequence[Argument]) -> Any:
        """What ``lua/<name>.lua`` returns. It is sent to Redis once, and by its hash from then on.

        Raises:
            RedisError: Redis cannot be reached, or refuses.
        """
        if name not in self._scripts:
            source = self._shared + (_FOLDER / f"{name}.lua").read_text()
            self._scripts[name] = self._client.register_script(source)
        return await self._scripts[name](keys=[self._keys.prefix], args=list(arguments))
