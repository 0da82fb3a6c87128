"""Where a network runs, and in which precision."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.7, "mps": 0.5}  # of what is free
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def choose_device(device: str = "auto") -> torch.device:
    """Turn a setting into a device.

    Parameters
    ----------
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    SettingsError
        If there is no such device on this machine.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    name, _, number = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name not in there or not (number or "0").isdecimal():
        raise SettingsError(f"device {device!r} is unknown; choose auto, cpu, cuda, cuda:N or mps.")
    if int(number or 0) >= there[name]:
        raise SettingsError(f"device {device!r} is not on this machine; choose auto or cpu.")
    return torch.device(device)


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Turn a setting into the dtype that the network computes in.

    "auto" is bfloat16 on CUDA devices that have it, float16 on those that do not, and float32 elsewhere.
    """
    import torch

    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        return dtype
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Context in which a network computes in `dtype`."""
    import torch

    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def free_memory(device: torch.device) -> int:
    """Bytes that are free, with those that torch keeps from earlier images."""
    import psutil
    import torch

    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; off CUDA, torch says so in words alone, which differ between systems."""
    import torch

    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in said for words in OUT_OF_MEMORY)
