"""A server process of its own, whose model says one word and then nothing for ever: to be killed.

``python -m tests.api.scripted_server REDIS_URL NAMESPACE`` prints its URL.
"""

import asyncio
import sys

from server.app import create_app
from server.http_server import HTTPServer
from server.settings import Settings
from tests.api.serving import MODEL, NO_AUTH, scripted_backend, scripted_engine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import Gate


async def serve(redis_url: str, namespace: str) -> None:
    """Serve until killed."""
    redis = {"url": redis_url, "namespace": namespace, "lease_s": 0.6}
    settings = Settings(model=MODEL, auth=NO_AUTH, server={"port": 0}, redis=redis)  # type: ignore[arg-type]
    app = create_app(settings, scripted_backend(scripted_engine(["Once", Gate()]), ScriptedPool()))
    await HTTPServer(app, app.state.service, on_ready=lambda url: print(url, flush=True)).serve()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
