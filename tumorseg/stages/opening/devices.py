"""Choice of the device to compute on."""

import torch

from tumorseg.errors import InputError


def choose_device(name: str | None) -> str:
    """Return the device that is asked for, or the best one there is.

    Raises:
        InputError: there is no such device here.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise InputError(f"--device {name!r} is no device; give cpu, cuda or cuda:N") from None
    if kind == "cpu":
        return name
    # Plain `cuda` has no index; torch takes the first device then.
    if kind != "cuda" or not torch.cuda.is_available() or (torch.device(name).index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise InputError(f"--device {name}: this machine has {found}; give --device cpu or leave the option out")
    return name
