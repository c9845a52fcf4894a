"""The OpenMP that torch's CPU kernels run with: Intel's where it is installed.

Torch brings GNU's. As soon as two threads of a process compute in parallel, GNU's no longer lets its threads spin
between kernels and wakes them for each, and a diffusion step is some hundreds of short kernels: one guided picture's
took 50 ms in an engine's thread on two cores, and with Intel's 19 (load_tests/answers/NOTES.md).
"""

import ctypes
import os
import sys
from pathlib import Path

# Where intel-openmp's wheel puts it. vLLM's CPU build asks for that on x86, and where there is no vLLM our extra.
INTEL_OPENMP = Path(sys.prefix, "lib", "libiomp5.so")
# How long an idle thread spins before it sleeps. vLLM sets the same when it pins threads.
BLOCK_TIME_MS = "5"


def prefer_intel_openmp() -> None:
    """Let torch, which must not be imported yet, find Intel's OpenMP before its own. Without it nothing changes.

    What is loaded with RTLD_GLOBAL comes before a later library's own dependencies when its symbols are looked up,
    https://man7.org/linux/man-pages/man3/dlopen.3.html, and Intel's answers to GNU's symbols, too. After torch it would
    be asked only for the symbols that nobody has called so far, and two OpenMPs would share the work: it stays away.
    """
    if "torch" in sys.modules or not INTEL_OPENMP.is_file():
        return
    os.environ.setdefault("KMP_BLOCKTIME", BLOCK_TIME_MS)
    ctypes.CDLL(str(INTEL_OPENMP), mode=ctypes.RTLD_GLOBAL)
