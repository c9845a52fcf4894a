"""``python -m tests.operations.traced_server``: a server that logs and traces as ``dreamserve serve`` does.

Its language model is a scripted one; see :mod:`tests.operations.release`.
"""

import asyncio

from server.observe.logging import configure_logging
from server.observe.tracing import configure_tracing
from server.settings import Settings
from tests.operations.release import serve

if __name__ == "__main__":
    log = Settings().log
    configure_logging(log.level, log.format)
    configure_tracing("dreamserve-server")
    asyncio.run(serve())
