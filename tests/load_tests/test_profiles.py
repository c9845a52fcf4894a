"""What the profiles make of py-spy's samples."""

import pytest

from load_tests.profiles.sampling import hottest, layer_of, parsed, shares_of_layers, titled

RAW = """\
run (server/cli.py:10);take (server/interleave/outbox.py:50) 3
run (server/cli.py:10);take (server/interleave/outbox.py:55) 1
run (server/cli.py:10);_stream_response (/venv/lib/python3.11/site-packages/sse_starlette/sse.py:384) 4
"""


def test_lines_of_one_function_are_counted_together() -> None:
    assert hottest(parsed(RAW), 1) == [("take (server/interleave/outbox.py)", 0.5)]


def test_threads_that_wait_are_not_counted() -> None:
    waiting = "_bootstrap (threading.py:1002);_worker (concurrent/futures/thread.py:81) 100\n"
    assert parsed(waiting + RAW) == parsed(RAW)


def test_shares_are_by_the_innermost_function() -> None:
    assert dict(shares_of_layers(parsed(RAW))) == {"server/": 0.5, "sse-starlette, anyio": 0.5}


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        ("put (/work/server/interleave/outbox.py:10)", "server/"),
        ("step (models/diffusion/engine.py:10)", "models/"),
        ("listen (load_tests/fan_out/ticks.py:10)", "stand-ins"),
        ("send (/venv/lib/python3.11/uvicorn/protocols/http/httptools_impl.py:1)", "uvicorn and its event loop"),
        ("wait (asyncio/locks.py:200)", "asyncio"),
        ("forward (/venv/lib/python3.11/site-packages/torch/nn/modules/conv.py:1)", "torch"),
        ("loads (json/decoder.py:10)", "rest"),
    ],
)  # fmt: skip
def test_a_function_belongs_to_the_library_of_its_file(function: str, layer: str) -> None:
    assert layer_of(function) == layer


def test_a_flame_graph_has_a_title_without_the_paths_of_a_machine() -> None:
    def graph(title: str) -> str:
        return f'<svg><text id="title" x="50%" y="24">{title}</text><text id="details"> </text></svg>'

    assert titled(graph("/home/me/py-spy record"), "Text & pictures") == graph("Text &amp; pictures")
