"""What a soak found: printed as it comes, a table and the goals at the end, and all of it as JSON."""

from dataclasses import asdict
from typing import Any

from load_tests import bars
from load_tests.service.holdings import Process
from load_tests.soak.outcome import Checkpoint, Outcome, Plan

MIB = 2**20
MOST_GROWTH = 1.02
JUDGED_FROM_S = 900.0
"""Traffic that a run must have had for its memory to be judged. Allocators take some minutes to get what they need."""
SHOWN = 20


def print_checkpoint(checkpoint: Checkpoint) -> None:
    """Print what the service held at one rest."""
    held = checkpoint.holdings
    processes = "; ".join(
        f"{name} {process.resident / MIB:.1f} MiB, {process.files} files"
        + (f", {process.tasks} tasks" if process.tasks is not None else "")
        for name, process in held.processes.items()
    )
    leaked = ", ".join(f"{name} {what}" for name, what in checkpoint.leaks.items()) or "nothing"
    print(f"after {checkpoint.after_s / 60:5.1f} min at rest: {processes}; leaked: {leaked}", flush=True)


def report(outcome: Outcome, plan: Plan) -> bool:
    """Print all of it. Returns whether the soak was passed."""
    _print_visits(outcome)
    _print_memory(outcome)
    for fault in outcome.record.faults[:SHOWN]:
        print(f"FAULT {fault}")
    for name, what in outcome.leaks.items():
        print(f"LEAK {name}: {what}")
    met = [
        bars.at_most("soak_faults", len(outcome.record.faults), 0),
        bars.at_most("soak_leaks", len(outcome.leaks), 0),
    ]
    if plan.seconds >= JUDGED_FROM_S:
        met += [bars.at_most(f"soak_{name}", ratio, MOST_GROWTH) for name, ratio in outcome.growth.items()]
    else:
        print(f"memory is not judged: that takes {JUDGED_FROM_S / 60:g} minutes of traffic")
    return all(met)


def as_json(outcome: Outcome, plan: Plan, passed: bool) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "passed": passed,
        "plan": asdict(plan),
        "capacity_per_s": outcome.capacity,
        "visits": {name: dict(counted) for name, counted in sorted(outcome.record.visits.items())},
        "statuses": {str(status): count for status, count in sorted(outcome.record.statuses.items())},
        "faults": outcome.record.faults,
        "leaks": outcome.leaks,
        "memory_growth": outcome.growth,
        "checkpoints": [asdict(checkpoint) for checkpoint in outcome.checkpoints],
    }


def _print_visits(outcome: Outcome) -> None:
    record = outcome.record
    print(f"\n{'visits':26}{'served':>8}{'refused':>9}{'late':>6}{'fault':>7}")
    for name, counted in sorted(record.visits.items()):
        print(f"{name:26}{counted['served']:8}{counted['refused']:9}{counted['late']:6}{counted['fault']:7}")
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(record.statuses.items()))
    print(f"{record.total} visits, {record.refused} refused; statuses of their latest responses: {statuses}")


def _print_memory(outcome: Outcome) -> None:
    names = list(outcome.checkpoints[0].holdings.processes)
    print("\nMiB at rest, and how many of them are no pages of files")
    print(f"{'visits':>20}" + "".join(f"{name:>18}" for name in names) + f"{'files':>8}{'tasks':>7}{'keys':>6}")
    for checkpoint in outcome.checkpoints:
        held = checkpoint.holdings
        resident = "".join(_memory(held.processes[name]) for name in names if name in held.processes)
        files = sum(process.files for process in held.processes.values())
        tasks = sum(process.tasks or 0 for process in held.processes.values())
        print(f"{checkpoint.after_s / 60:7.1f} min{checkpoint.visits:9}{resident}{files:8}{tasks:7}{len(held.keys):6}")


def _memory(process: Process) -> str:
    anonymous = "" if process.anonymous is None else f"{process.anonymous / MIB:9.1f}"
    return f"{process.resident / MIB:9.1f}{anonymous:>9}"
