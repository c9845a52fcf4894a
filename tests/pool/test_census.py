"""The census of a pool: taken once for all who ask at the same time, whether or not Redis answers."""

import asyncio

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from server.pool.queue.keys import Keys
from server.pool.queue.producer import Census, Producer
from server.pool.redis import census
from server.pool.redis.census import CensusTaker, PoolCensus
from tests.pool.deployment import Deployment
from tests.pool.rendering import eventually


class SlowProducer(Producer):
    """Answers, or breaks, when it is told to."""

    def __init__(self, deployment: Deployment) -> None:
        keys = Keys(deployment.namespace, "0")
        super().__init__(deployment.client, deployment.client, keys, "server", lease_s=1.0)
        self.asked = 0
        self.answer = asyncio.Event()
        self.broken = False

    async def census(self) -> Census:
        self.asked += 1
        await self.answer.wait()
        if self.broken:
            raise RedisTimeoutError("no answer")
        return await super().census()


@pytest.mark.parametrize("broken", [True, False], ids=["no answer", "an answer"])
async def test_all_who_ask_together_wait_for_one_answer(broken: bool, deployment: Deployment) -> None:
    producer = SlowProducer(deployment)
    producer.broken = broken
    taker = CensusTaker(producer)
    asking = [asyncio.create_task(taker.take()) for _ in range(20)]
    await eventually(lambda: producer.asked > 0)
    producer.answer.set()

    assert await asyncio.gather(*asking) == [None if broken else PoolCensus((), 0, 0.0, 0)] * 20
    assert producer.asked == 1


async def test_a_redis_that_answers_again_is_asked_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "FRESH_S", -1.0)
    producer = SlowProducer(deployment)
    producer.broken = True
    producer.answer.set()
    taker = CensusTaker(producer)
    assert await taker.take() is None
    producer.broken = False

    assert await taker.take() == PoolCensus((), 0, 0.0, 0)
