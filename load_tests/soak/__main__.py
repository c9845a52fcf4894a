"""``python -m load_tests.soak --minutes 30``: what is left of half an hour of mixed traffic.

Exit codes: 1 something leaked, grew, or failed that must not; 3 the service did not start.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
import torch

from load_tests.conditions import print_conditions
from load_tests.service.choice import add_choice, chosen
from load_tests.service.deployment import FEW_KERNELS, Deployment
from load_tests.service.threads import service_threads
from load_tests.soak.outcome import Outcome, Plan
from load_tests.soak.report import as_json, report
from load_tests.soak.soak import soak
from server.demo import NotStartedError

SETTINGS = {
    "DREAMSERVE_JOURNAL__ABANDON_AFTER_S": "30",
    "DREAMSERVE_SERVER__SEND_TIMEOUT_S": "10",
    # What fills once and stays is full within minutes.
    "DREAMSERVE_LLM__KV_CACHE_GIB": "0.04",
    "DREAMSERVE_LLM__IMAGE_CACHE_GIB": "0.01",
    **FEW_KERNELS,
    "DREAMSERVE_LIMITS__DEFAULT_MAX_TOKENS": "96",
}


def main() -> int:
    """Soak, print, and write the JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of traffic")
    parser.add_argument("--every", type=float, default=5.0, metavar="MINUTES", help="of traffic before each rest")
    parser.add_argument("--capacity", type=float, default=1.0, metavar="MINUTES", help="for measuring capacity")
    parser.add_argument("--rest", type=float, default=240.0, metavar="SECONDS", help="to come to rest, at most")
    parser.add_argument(
        "--kept",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long the service keeps what is stored, which is gone at each rest; one at --url must be set so",
    )
    parser.add_argument("--seed", type=int, default=0)
    add_choice(parser, default="worker")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="folder for result.json and logs")
    arguments = parser.parse_args()
    plan = Plan(
        seconds=arguments.minutes * 60,
        every_s=arguments.every * 60,
        capacity_s=arguments.capacity * 60,
        rest_s=arguments.rest,
        kept_s=arguments.kept,
        seed=arguments.seed,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = {"DREAMSERVE_JOURNAL__RETENTION_S": str(plan.kept_s), "DREAMSERVE_FILES__TTL_S": str(plan.kept_s)}
    try:
        with chosen(arguments, {**SETTINGS, **kept}, arguments.out) as service:
            threads = "threads unknown" if arguments.url else service_threads(arguments.kind, SETTINGS)
            served_by = f"service: {arguments.url or arguments.kind}"
            print_conditions(torch.device("cpu"), threads, served_by, f"seed {plan.seed}")
            outcome = asyncio.run(run(service, plan))
    except NotStartedError as error:
        print(error, file=sys.stderr)
        return 3
    passed = report(outcome, plan)
    (arguments.out / "result.json").write_text(json.dumps(as_json(outcome, plan, passed), indent=1))
    return 0 if passed else 1


async def run(service: Deployment, plan: Plan) -> Outcome:
    """Soak a service, with the API key of the environment if there is one."""
    key = os.environ.get("DREAMSERVE_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else None
    # A visit has a time limit of its own; here nothing waits for a connection.
    timeout, limits = httpx.Timeout(None), httpx.Limits(max_keepalive_connections=16)
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, timeout=timeout, limits=limits, trust_env=False
    ) as client:
        return await soak(service, client, plan)


if __name__ == "__main__":
    sys.exit(main())
