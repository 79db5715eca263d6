"""glibc gives large blocks back to the kernel as soon as they are freed, and every step pays for their pages again."""

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # names of <malloc.h>
_LARGE = 2**30


def keep_freed_memory() -> bool:
    """Let freed blocks be used again; worth a quarter of the training speed on a CPU. False where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_TRIM_THRESHOLD, 2 * _LARGE - 1))
