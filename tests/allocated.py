"""How much memory native code has taken: what ``tracemalloc`` does not see."""

import ctypes

FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _MallInfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``, see mallinfo(3). It has been there since glibc 2.33."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def allocated_bytes() -> int:
    """Bytes that glibc's malloc has given to this process and not got back, over all its arenas.

    Python's own small objects come in arenas of their own and do not count.
    """
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)
