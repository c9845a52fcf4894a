"""What a worker does while Redis is away."""

import asyncio
import logging

from redis.exceptions import RedisError

from server.observe import worker as metrics

logger = logging.getLogger(__name__)

RETRY_S = 0.2


async def pause(what: str, error: RedisError) -> None:
    """Say what cannot be done, and wait a moment before it is tried again."""
    metrics.REDIS_ERRORS.inc()
    logger.warning("%s: %s", what, error)
    await asyncio.sleep(RETRY_S)
