"""A server or a worker of another release, as a process of its own: one that speaks another version of the wire.

``python -m tests.operations.release WIRE_VERSION server|worker`` is the real thing, with settings from the environment,
but for the version and the server's language model: that tells a story with two pictures, and stops before the second
until there is a line on the standard input.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from server.pool import envelope

# Nothing is imported here that takes over the version before it is set.
if TYPE_CHECKING:
    from server.backend import Backend, OpenBackend
    from server.settings import Settings
    from tests.scripted.engine import ScriptedEngine
    from tests.scripted.script import Gate


def speak(version: int) -> None:
    """Have this process speak a version of the wire."""
    assert "server.pool.wire" not in sys.modules
    envelope.WIRE_VERSION = version


def storyteller(gate: "Gate") -> "ScriptedEngine":
    """A language model with one story, which goes on when the gate is opened."""
    from tests.api.serving import scripted_engine
    from tests.scripted.script import DREAM, EOS

    return scripted_engine(["Once", DREAM], [" upon", gate, DREAM], [" a time.", EOS])


def illustrated(engine: "ScriptedEngine") -> "OpenBackend":
    """Opens a backend of a scripted language model and of real workers behind Redis."""
    import torch

    from models.diffusion.description import DecoderDescription
    from models.diffusion.fingerprint import checkpoint_id
    from server.backend import Backend
    from server.llm.prompt import PromptBuilder
    from server.pool.drawing import job_limits
    from server.pool.redis.pool import RedisPool
    from tests.api.serving import DRAWING, TEXT

    @asynccontextmanager
    async def open_backend(settings: "Settings") -> "AsyncIterator[Backend]":
        folder = settings.model.path / "diffusion"
        description = DecoderDescription.from_pretrained(folder)
        limits = job_limits(settings.model.path, description, settings.limits)
        pool = RedisPool(settings.redis, description, checkpoint_id(folder), limits)
        await pool.start(torch.zeros(limits.states_shape))
        try:
            yield Backend(engine, PromptBuilder(engine), pool, DRAWING, TEXT, draws_here=False)
        finally:
            await pool.close()

    return open_backend


async def serve() -> None:
    """Be a server."""
    from server.app import create_app
    from server.http_server import HTTPServer
    from server.settings import Settings
    from tests.scripted.script import Gate

    gate = Gate()
    asyncio.get_running_loop().add_reader(sys.stdin, gate.open)
    app = create_app(Settings(), illustrated(storyteller(gate)))
    await HTTPServer(app, app.state.service, on_ready=lambda _: None).serve()


def work() -> None:
    """Be a worker."""
    from server import cli

    sys.argv = ["dreamserve", "worker"]
    cli.main()


if __name__ == "__main__":
    speak(int(sys.argv[1]))
    if sys.argv[2] == "server":
        asyncio.run(serve())
    else:
        work()
