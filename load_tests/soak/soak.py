"""The run: capacity, rest, and then traffic and rest by turns."""

import httpx

from load_tests.service.deployment import Deployment
from load_tests.service.holdings import at_rest
from load_tests.soak.outcome import Checkpoint, Outcome, Plan
from load_tests.soak.report import print_checkpoint
from load_tests.soak.traffic import Traffic

LOAD = 0.8


async def soak(service: Deployment, client: httpx.AsyncClient, plan: Plan) -> Outcome:
    """Run one.

    Args:
        service: that nobody else uses.
        client: to ask it with.
        plan: how long.
    """
    traffic = Traffic(client, plan.seed, plan.kept_s)
    capacity = await traffic.capacity(plan.capacity_s)
    print(f"capacity: {capacity:.2f} visits a second; from now on {LOAD * capacity:.2f} come", flush=True)
    before, leaks = await at_rest(service, client, None, plan.rest_s)
    checkpoints = [Checkpoint(0.0, traffic.record.total, before, leaks)]
    print_checkpoint(checkpoints[0])
    while (done := checkpoints[-1].after_s) < plan.seconds:
        seconds = min(plan.every_s, plan.seconds - done)
        await traffic.flow(LOAD * capacity, seconds)
        now, leaks = await at_rest(service, client, before, plan.rest_s)
        checkpoints.append(Checkpoint(done + seconds, traffic.record.total, now, leaks))
        print_checkpoint(checkpoints[-1])
    return Outcome(capacity, traffic.record, tuple(checkpoints))
