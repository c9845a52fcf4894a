"""py-spy beside a running process: a flame graph, and the share of each library in its CPU time."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

SAMPLES_PER_S = 200
TITLE = re.compile(r'(?P<tag><text id="title"[^>]*>)[^<]*')

LAYERS = (
    ("/load_tests/", "stand-ins"),
    ("/server/", "server/"),
    ("/models/", "models/"),
    ("/sse_starlette/", "sse-starlette, anyio"),
    ("/anyio/", "sse-starlette, anyio"),
    ("/sniffio/", "sse-starlette, anyio"),
    ("/starlette/", "starlette, fastapi"),
    ("/fastapi/", "starlette, fastapi"),
    ("/uvicorn/", "uvicorn and its event loop"),
    ("/pydantic/", "pydantic"),
    ("/prometheus_client/", "metrics and tracing"),
    ("/opentelemetry/", "metrics and tracing"),
    ("/diffusers/", "diffusers"),
    ("/torch/", "torch"),
    ("/redis/", "redis"),
    ("/PIL/", "Pillow"),
    ("asyncio/", "asyncio"),
)
"""Where a function is from, by a part of its file's path; the first that fits."""
REST = "rest"

WAITS = (
    "_worker (concurrent/futures/thread.py",
    "wait (threading.py",
    "select (selectors.py",
    "Runner.run (asyncio/runners.py",  # uvloop itself
)
"""Functions in which threads wait in compiled code, which py-spy cannot always tell from work."""


def py_spy() -> str | None:
    """The program, if it is there."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


def flame_graph(program: str, pid: int, seconds: float, svg: Path, title: str) -> None:
    """Watch a process, and draw what it did.

    Raises:
        subprocess.CalledProcessError: it cannot be watched; that takes the right to trace it.
    """
    _record(program, pid, seconds, "flamegraph", svg)
    svg.write_text(titled(svg.read_text(), title))


def titled(svg: str, title: str) -> str:
    """A flame graph under a title of its own. py-spy writes its command line there, with the paths of this machine."""
    return TITLE.sub(lambda found: found["tag"] + escape(title), svg)


def stacks(program: str, pid: int, seconds: float) -> Counter[tuple[str, ...]]:
    """Samples of a process by the functions on its stack, the innermost last.

    Raises:
        subprocess.CalledProcessError: see :func:`flame_graph`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stacks"
        _record(program, pid, seconds, "raw", file)
        return parsed(file.read_text())


def parsed(raw: str) -> Counter[tuple[str, ...]]:
    """Samples by stack, from lines of ``function (file:line);… samples``, without threads that wait."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        functions = tuple(stack.split(";"))
        if not any(wait in functions[-1] for wait in WAITS):
            found[functions] += int(samples)
    return found


def layer_of(function: str) -> str:
    """What a function, as py-spy writes it, belongs to. Compiled code counts for the Python function that calls it."""
    return next((layer for path, layer in LAYERS if path in function or f"({path.lstrip('/')}" in function), REST)


def shares_of_layers(sampled: Counter[tuple[str, ...]]) -> list[tuple[str, float]]:
    """Each layer's share of the samples, by the innermost function; the largest first."""
    layers: Counter[str] = Counter()
    for stack, samples in sampled.items():
        layers[layer_of(stack[-1])] += samples
    return [(layer, samples / layers.total()) for layer, samples in layers.most_common()]


def hottest(sampled: Counter[tuple[str, ...]], count: int) -> list[tuple[str, float]]:
    """The functions that were innermost in most samples, without their line numbers, with their shares."""
    functions: Counter[str] = Counter()
    for stack, samples in sampled.items():
        functions[stack[-1].rpartition(":")[0] + ")"] += samples
    return [(function, samples / functions.total()) for function, samples in functions.most_common(count)]


def _record(program: str, pid: int, seconds: float, format: str, file: Path) -> None:
    command = [program, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds)))]
    command += ["--rate", str(SAMPLES_PER_S), "--format", format, "--output", str(file)]
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
