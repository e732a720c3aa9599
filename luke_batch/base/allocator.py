"""The C library's allocator, which keeps what a process has freed."""

import ctypes


def return_freed_memory() -> None:
    """Give the kernel what was freed. glibc keeps it otherwise: 110 MB once the embedded model is loaded."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have no such function
    if trim is not None:
        trim(0)
