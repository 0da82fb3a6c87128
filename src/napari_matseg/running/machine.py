"""Which machine does the work, as far as it has a say in the last bit of the result."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any


def describe_machine(device: str) -> dict[str, Any]:
    """Say on what a network runs, in plain JSON types.

    Parameters
    ----------
    device : str
        A torch device.

    Returns
    -------
    dict
        system, processor : str
        instructions : str
            What torch's kernels use of the processor, such as "AVX2".
        threads : int
            On which torch computes.
        gpu : str or None
            What the device is called, if it is one.
        cores : int
    """
    import torch

    gpu = None
    if device.startswith("cuda"):
        gpu = torch.cuda.get_device_name(torch.device(device))
    elif device == "mps":
        gpu = "mps"
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "cores": os.cpu_count(),
    }


@cache
def _processor() -> str:
    """Name of the processor, which Python knows on some systems only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
