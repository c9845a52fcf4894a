"""``python -m load_tests.fuzz --requests 10000``: what the service does with requests that nobody should send.

Exit codes: 1 it did what it must not do, or did not come to rest; 3 it did not start.
"""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from load_tests import bars
from load_tests.fuzz.fuzz import Outcome, Plan, fuzz
from load_tests.service.choice import add_choice, chosen
from load_tests.service.deployment import FEW_KERNELS, Deployment
from server.demo import NotStartedError
from server.guard.keys import new_key

MIB = 2**20
MOST_GROWTH = 1.02
JUDGED_FROM = 5000
"""Requests that a run must have for its memory to be judged. Allocators take a while to get what they need."""
SETTLING_SHARE = 0.3
SHOWN = 40
SETTINGS = {
    # However wild a request is, it costs little.
    "DREAMSERVE_LIMITS__IMAGES": "2",
    "DREAMSERVE_LIMITS__STEPS": "8",
    "DREAMSERVE_LIMITS__IMAGE_PIXELS": str(128 * 128),
    "DREAMSERVE_LIMITS__DEFAULT_MAX_TOKENS": "16",
    "DREAMSERVE_LIMITS__BODY_BYTES": str(MIB),
    # What never ends is given up soon, and what is stored is gone soon.
    "DREAMSERVE_SERVER__BODY_TIMEOUT_S": "3",
    "DREAMSERVE_SERVER__HEADER_TIMEOUT_S": "3",
    "DREAMSERVE_JOURNAL__RETENTION_S": "20",
    "DREAMSERVE_JOURNAL__ABANDON_AFTER_S": "10",
    "DREAMSERVE_FILES__TTL_S": "20",
    "DREAMSERVE_LLM__MAX_MODEL_LEN": "512",
    "DREAMSERVE_LLM__KV_CACHE_GIB": "0.04",
    "DREAMSERVE_LLM__IMAGE_CACHE_GIB": "0.01",
    **FEW_KERNELS,
}


def main() -> int:
    """Fuzz, print, and write the JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="with --requests 1: make one again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--deadline", type=float, default=60.0, metavar="SECONDS", help="past which a request hangs")
    parser.add_argument("--rest", type=float, default=180.0, metavar="SECONDS", help="to come to rest, at most")
    add_choice(parser, default="scripted")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="folder for requests, result.json and logs")
    given = parser.parse_args()
    settling = int(given.requests * SETTLING_SHARE)
    plan = Plan(given.requests, settling, given.first, given.concurrency, given.deadline, given.rest, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    key = os.environ.get("DREAMSERVE_API_KEY") or new_key()
    keys = {"DREAMSERVE_AUTH__ENABLED": "true", "DREAMSERVE_AUTH__KEYS": key}
    try:
        with chosen(given, {**SETTINGS, **keys}, given.out) as service:
            print(f"fuzzing {given.url or given.kind} with seed {plan.seed}", flush=True)
            outcome = asyncio.run(run(service, key, plan, given.out))
    except NotStartedError as error:
        print(error, file=sys.stderr)
        return 3
    passed = report(outcome, plan)
    (given.out / "result.json").write_text(json.dumps(as_json(outcome, plan, passed), indent=1))
    return 0 if passed else 1


async def run(service: Deployment, key: str, plan: Plan, folder: Path) -> Outcome:
    """Fuzz a service."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=plan.rest_s, trust_env=False) as client:
        return await fuzz(service, client, headers, plan, folder)


def report(outcome: Outcome, plan: Plan) -> bool:
    """Print what was found. Returns whether the service passed."""
    findings = outcome.findings
    for title, counted in (
        ("statuses (0: none)", findings.statuses),
        ("operations", findings.operations),
        ("mutations", findings.mutations),
    ):
        print(f"{title}: {', '.join(f'{name} {count}' for name, count in sorted(counted.items()))}")
    print(f"the slowest request took {findings.slowest_s:.2f} s")
    for fault in findings.faults[:SHOWN]:
        print(f"FAULT {fault}")
    for name, what in outcome.leaks.items():
        print(f"LEAK {name}: {what}")
    met = [
        bars.at_most("fuzz_faults", len(findings.faults), 0),
        bars.at_most("fuzz_leaks", len(outcome.leaks), 0),
    ]
    before, after = outcome.settled.processes, outcome.last.processes
    for name in sorted(before.keys() & after.keys()):
        process, last = before[name], after[name]
        print(f"{name}: {process.resident / MIB:.1f} MiB after {plan.settling}, {last.resident / MIB:.1f} at the end")
        if plan.requests >= JUDGED_FROM:
            met.append(bars.at_most(f"fuzz_memory_{name}", last.resident / process.resident, MOST_GROWTH))
    return all(met)


def as_json(outcome: Outcome, plan: Plan, passed: bool) -> dict[str, Any]:
    """All of it, for programs."""
    findings = outcome.findings
    counted = {name: dict(getattr(findings, name)) for name in ("statuses", "operations", "mutations")}
    found = {"faults": findings.faults, "slowest_s": findings.slowest_s, "leaks": dict(outcome.leaks)}
    held = {"settled": asdict(outcome.settled), "last": asdict(outcome.last)}
    return {"passed": passed, "plan": asdict(plan), **counted, **found, **held}


if __name__ == "__main__":
    sys.exit(main())
