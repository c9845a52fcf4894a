"""Which OpenMP runs torch's kernels in the processes that draw."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="Intel's OpenMP is for x86-64 only")

OWNER = """
import ctypes

class SymbolInfo(ctypes.Structure):
    _fields_ = [(name, kind) for name, kind in (
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)
    )]

process = ctypes.CDLL(None)
info = SymbolInfo()
process.dladdr(ctypes.cast(process.GOMP_parallel, ctypes.c_void_p), ctypes.byref(info))
assert torch.ones(1 << 20).sin().sum() > 0
print(info.file.decode())
"""


def owner_of_parallel_regions(preamble: str) -> str:
    """The library that runs what torch compiled to be parallel, after these first lines of a program."""
    program = subprocess.run([sys.executable, "-c", preamble + OWNER], capture_output=True, text=True, check=True)
    return program.stdout.strip()


def test_torch_runs_with_intels_openmp_where_it_was_asked_for() -> None:
    asked = "from server.openmp import prefer_intel_openmp; prefer_intel_openmp(); import torch"
    assert owner_of_parallel_regions(asked).endswith("/libiomp5.so")
    assert "gomp" in owner_of_parallel_regions("import torch")


def test_after_torch_it_is_too_late() -> None:
    assert "gomp" in owner_of_parallel_regions(
        "import torch; from server.openmp import prefer_intel_openmp; prefer_intel_openmp()"
    )


@pytest.mark.parametrize("command", ["serve", "worker", "evaluate"])
def test_commands_that_draw_ask_for_it_before_they_load_torch(command: str) -> None:
    ask_and_end = f"""
import sys
from server import cli

def asked():
    print("torch" in sys.modules)
    raise SystemExit

cli.prefer_intel_openmp = asked
cli.app([{command!r}, *{{"serve": ["--no-auth"], "worker": ["--redis", "redis://localhost:1"]}}.get({command!r}, [])])
"""
    assert subprocess.run([sys.executable, "-c", ask_and_end], capture_output=True, text=True).stdout == "False\n"
