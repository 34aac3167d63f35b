"""Pages of memory that stay with the process once they were asked for.

A network on a processor frees and asks for the same hundreds of megabytes with every layer. By default the system takes each
large block back and hands it out anew, zeroed, page by page: up to a third of the time of a forward pass (decision 043).
"""

import ctypes

from tumorseg.workers.machine import available_bytes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # names of glibc's mallopt(3)
LEAST_RETURNED_BYTES = 2**27
"""What is worth a look through the heap, which takes milliseconds, and asking anew for what the networks free and take."""
LEAST_FREE_BYTES = 8 * 2**30
"""Memory that must be free."""
_MOST_KEPT = 2**31 - 1
"""Bytes at the heap's end that may lie free: the largest that an int holds."""


def keep_freed_pages() -> bool:
    """Let freed memory stay in the process, for whatever is asked for next; return whether it will.

    The process takes up to 1.4 times the memory at its peak, as what is kept gets fragmented. So nothing is changed where less than
    `LEAST_FREE_BYTES` are free, or the system's allocator does not know how.
    """
    free = available_bytes()
    if free is None or free < LEAST_FREE_BYTES:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    # All three: blocks of their own (mmap), and the small heaps that each thread would get, go back when they are freed, whatever
    # the threshold of the main heap says.
    return all([mallopt(_MMAP_MAX, 0), mallopt(_ARENA_MAX, 1), mallopt(_TRIM_THRESHOLD, _MOST_KEPT)])


def return_freed_pages(num_bytes: int) -> bool:
    """Give memory back to the system that was freed and kept; return whether any was.

    Args:
        num_bytes: what was freed, roughly; of little nothing is given back.
    """
    if num_bytes < LEAST_RETURNED_BYTES:
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # not glibc
        return False
    return bool(trim(0))
