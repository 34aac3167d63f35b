"""Bytes and durations as text."""

GB = 2**30
"""Bytes of a gigabyte, in every option and message."""
# The largest first: the first that is not above a number is its unit.
BYTE_UNITS = (("GB", GB), ("MB", 2**20), ("kB", 2**10))


def bytes_text(num_bytes: int, total: int | None = None, form: str = ".1f") -> str:
    """Return a number of bytes in the largest unit that fits: `1.5 GB`, `512 bytes`.

    Args:
        num_bytes: at least 0.
        total: given where they are a part of so many: `1.5/27.0 GB`, in the unit of the total.
        form: format of the numbers, where the unit is not the byte.
    """
    largest = num_bytes if total is None else total
    fitting = (one for one in BYTE_UNITS if one[1] <= largest)
    unit, size = next(fitting, ("bytes", 1))
    if size == 1:
        form = ".0f"  # there are no parts of a byte
    elif largest >= 1000 * size:
        form = form.replace("3g", "4g")  # three digits of 1020 MB would be 1.02e+03
    of_total = "" if total is None else f"/{total / size:{form}}"
    return f"{num_bytes / size:{form}}{of_total} {unit}"


def gb_text(num_bytes: float, digits: int = 2) -> str:
    """Return a number of bytes in GB, with so many digits after the point: `0.98 GB`."""
    return f"{num_bytes / GB:.{digits}f} GB"


def duration_text(seconds: float) -> str:
    """Return a duration as clocks show it: `2:05`, from an hour on `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
