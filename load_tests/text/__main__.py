"""``python -m load_tests.text``: throughput and latency of text, in those of ``vllm serve``.

Both servers run from the start to the end, with the same checkpoint, settings and limits, and only one at a time has
callers, who are a process of their own. A round is a slice of each at every concurrency, and who begins changes from
one round to the next. Requests are for text alone (``modalities: ["text"]``, of which vLLM takes no notice), greedy, to
a fixed length. Throughput is the median over the rounds of the ratio within a round; latencies are those of all rounds
together. The CPU is that of the process that listens and streams, without the engine's.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch

from load_tests.results import Results, Series, arguments_of
from load_tests.service.threads import vllm_threads
from load_tests.text.callers import OUTPUT_TOKENS, PROMPT_WORDS, Slice, body
from load_tests.text.servers import LLM, MODEL, Server, our_server, vllm_server

CONCURRENCIES = (1, 8, 32)
OURS, THEIRS = "DreamServe", "vllm serve"
PERCENTILES = (50, 99)
ANSWER_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A slice, and what it took of the process that streams.

    Attributes:
        seen: by the callers.
        cpu_s: seconds of CPU.
    """

    seen: Slice
    cpu_s: float


Slices = dict[tuple[str, int], list[Measured]]
"""By server and concurrency, in the order of the rounds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: of slices of both servers at every concurrency.
        each: requests of each caller of a slice, by concurrency.
    """

    rounds: int
    each: dict[int, int]


FULL = Scale(rounds=10, each={1: 25, 8: 6, 32: 4})
QUICK = Scale(rounds=1, each={1: 4, 8: 2, 32: 1})


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("text", __doc__).parse_args()
    scale = QUICK if arguments.quick else FULL
    results = Results("text")
    with tempfile.TemporaryDirectory() as logs, ExitStack() as at_end:
        import vllm  # here: the child processes that only call should not wait for it

        results.describe(
            torch.device("cpu"),
            f"{vllm_threads(LLM)} in both servers",
            f"vLLM {vllm.__version__}",
            f"prompts of {PROMPT_WORDS} words, answers of {OUTPUT_TOKENS} tokens, greedy",
            f"{scale.rounds} rounds by turns",
        )
        servers = {
            OURS: at_end.enter_context(our_server(Path(logs))),
            THEIRS: at_end.enter_context(vllm_server(Path(logs))),
        }
        slices = measure(servers, scale)
    tell(results, slices)
    results.write(arguments.json)


def measure(servers: dict[str, Server], scale: Scale) -> Slices:
    """Call both, by turns."""
    for server in servers.values():
        require_length(server)
        call(server, max(CONCURRENCIES), each=1, seed=999_999)
    slices: Slices = defaultdict(list)
    for number in range(scale.rounds):
        order = [OURS, THEIRS] if number % 2 else [THEIRS, OURS]
        for concurrency in CONCURRENCIES:
            for name in order:
                slices[name, concurrency].append(call(servers[name], concurrency, scale.each[concurrency], number))
    return slices


def require_length(server: Server) -> None:
    """See that answers have all the tokens that are counted for them.

    Raises:
        RuntimeError: they have not.
    """
    asked = body(random.Random(0), MODEL) | {"stream": False}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=ANSWER_LIMIT_S, trust_env=False)
    if (sampled := answer.raise_for_status().json()["usage"]["completion_tokens"]) != OUTPUT_TOKENS:
        raise RuntimeError(f"{server.url} answered with {sampled} tokens instead of {OUTPUT_TOKENS}")


def call(server: Server, concurrency: int, each: int, seed: int) -> Measured:
    """One slice, with callers in a process of their own."""
    command = [sys.executable, "-m", "load_tests.text.callers", f"--url={server.url}", f"--model={MODEL}"]
    command += [f"--concurrency={concurrency}", f"--each={each}", f"--seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "slice.json")
        before = server.process.cpu_times()
        subprocess.run([*command, f"--json={file}"], check=True)  # noqa: S603
        after = server.process.cpu_times()
        seen = Slice(**json.loads(file.read_text()))
    return Measured(seen, after.user + after.system - before.user - before.system)


def tell(results: Results, slices: Slices) -> None:
    """Tables, plots and goals."""
    rates = {key: [each.seen.tokens / each.seen.seconds for each in of_key] for key, of_key in slices.items()}
    cpu_ms = {
        key: 1e3 * sum(each.cpu_s for each in of_key) / sum(each.seen.tokens for each in of_key)
        for key, of_key in slices.items()
    }
    ratios = {
        concurrency: [
            ours / theirs for ours, theirs in zip(rates[OURS, concurrency], rates[THEIRS, concurrency], strict=True)
        ]
        for concurrency in CONCURRENCIES
    }
    results.table(
        "Text: tokens a second",
        ("concurrency", OURS, THEIRS, "ratio (median of rounds)", "least", "most", "CPU ms a token", "of vllm serve"),
        [
            (
                concurrency,
                statistics.median(rates[OURS, concurrency]),
                statistics.median(rates[THEIRS, concurrency]),
                statistics.median(ratios[concurrency]),
                min(ratios[concurrency]),
                max(ratios[concurrency]),
                cpu_ms[OURS, concurrency],
                cpu_ms[THEIRS, concurrency],
            )
            for concurrency in CONCURRENCIES
        ],
    )
    latencies = {
        "time to first token": {
            key: [s for each in of_key for s in each.seen.first_tokens] for key, of_key in slices.items()
        },
        "between tokens": {key: [s for each in of_key for s in each.seen.gaps] for key, of_key in slices.items()},
    }
    compared = {
        (name, concurrency, percentile): tuple(
            float(np.percentile(of_name[server, concurrency], percentile)) for server in (OURS, THEIRS)
        )
        for name, of_name in latencies.items()
        for concurrency in CONCURRENCIES
        for percentile in PERCENTILES
    }
    results.table(
        "Text: latency in milliseconds",
        ("", "concurrency", "samples of each", "percentile", OURS, THEIRS, "ratio"),
        [
            (
                name,
                concurrency,
                min(len(latencies[name][server, concurrency]) for server in (OURS, THEIRS)),
                percentile,
                ours * 1e3,
                theirs * 1e3,
                ours / theirs,
            )
            for (name, concurrency, percentile), (ours, theirs) in compared.items()
        ],
    )
    results.plot(
        "Text throughput",
        "requests at a time",
        "tokens a second",
        [
            Series(name, CONCURRENCIES, tuple(statistics.median(rates[name, c]) for c in CONCURRENCIES))
            for name in (OURS, THEIRS)
        ],
        log_x=True,
    )
    for concurrency in CONCURRENCIES:
        results.at_least(
            f"text_throughput_to_vllm_serve_at_{concurrency}", statistics.median(ratios[concurrency]), 0.98
        )
    for (name, concurrency, percentile), (ours, theirs) in compared.items():
        short = {"time to first token": "ttft", "between tokens": "inter_token"}[name]
        results.at_most(f"text_{short}_p{percentile}_to_vllm_serve_at_{concurrency}", ours / theirs, 1.05)


if __name__ == "__main__":
    main()
