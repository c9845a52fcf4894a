"""``python -m load_tests.report [--quick] [--only NAME ...]``: run all benchmarks, and write the page of their results.

Each is a process of its own, and they run one after the other, because they measure. What they find is kept as JSON in
``results/`` beside the page, with plots of it: a benchmark that is left out or cannot run here, such as that of a GPU,
keeps its chapter with what it found before. A quick run has a page of its own, so that its numbers, which mean little,
replace no others.
"""

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

from load_tests import bars
from load_tests.report.machine import machine
from load_tests.report.page import Chapter, page
from load_tests.report.plots import draw_plots
from load_tests.report.runs import FailedError, UnavailableError, earlier, run
from server.demo import terminated

BENCHMARKS = (
    "text",
    "answers",
    "contention",
    "feedback",
    "pool",
    "fan_out",
    "scale",
    "open_loop",
    "gpu",
    "profiles",
)
PAGE = "RESULTS.md"
FOLDER = "results"
QUICK_MINUTES = 15.0
"""That a quick run may take on two cores."""


def main() -> int:
    """Run, and write. Returns the exit code: 1 if a benchmark failed, however good the numbers of the others are."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.report", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a quarter of an hour on two cores")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=BENCHMARKS, default=BENCHMARKS, help="run these")
    parser.add_argument("--out", type=Path, help="folder of the page; load_tests, or out/load_tests for a quick run")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)  # benchmarks are processes of their own: whatever ends this ends them
    out: Path = arguments.out or Path("out/load_tests" if arguments.quick else "load_tests")
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    on = machine()  # before the benchmarks leave files
    begin = time.monotonic()
    chapters = [chapter(name, name in arguments.only, arguments.quick, folder) for name in BENCHMARKS]
    minutes = (time.monotonic() - begin) / 60
    command = shlex.join(["python", "-m", "load_tests.report", *sys.argv[1:]])
    (out / PAGE).write_text(page(chapters, on, command))
    print(f"\n{out / PAGE}")
    for each in chapters:
        for goal in each.goals:
            print(f"bar {goal.name} {goal.value:.3f} {goal.goal:.3f} {'met' if goal.met else 'missed'}")
        if each.trouble:
            print(f"{each.benchmark}: {each.trouble}")
    if arguments.quick:
        bars.at_most("report_quick_minutes", minutes, QUICK_MINUTES)
    return int(any(each.failed for each in chapters))


def chapter(benchmark: str, wanted: bool, quick: bool, folder: Path) -> Chapter:
    """Run a benchmark if it is wanted, and tell of what it found, now or before."""
    trouble, failed = "Not run this time.", False
    if wanted:
        print(f"\n== {benchmark}", flush=True)
        begin = time.monotonic()
        try:
            found = run(benchmark, quick, folder)
            return Chapter(benchmark, found, draw_plots(found, folder))
        except UnavailableError as error:
            trouble = str(error)
        except FailedError as error:
            trouble, failed = str(error), True
        finally:
            print(f"== {benchmark}: {time.monotonic() - begin:.0f} s", flush=True)
    results = earlier(benchmark, folder)
    if results is None:
        return Chapter(benchmark, None, [], trouble, failed)
    return Chapter(benchmark, results, draw_plots(results, folder), f"{trouble} What follows was found before.", failed)


if __name__ == "__main__":
    sys.exit(main())
