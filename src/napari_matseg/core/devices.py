"""Where a network runs, and in which precision."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

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
