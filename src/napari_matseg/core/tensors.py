"""Files of weights -> tensors by name; reading one never runs code from it."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Any

from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

SHOWN = 3  # names in a message
INSIDE = ("model_state", "state_dict", "model_state_dict")
"""Where checkpoints keep their weights that hold other things, too: micro-sam's, Lightning's and NASA's, others."""


def is_safetensors(path: Path) -> bool:
    """Whether a file looks like one of safetensors.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"  # after the length of its header
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror}); check its permissions.") from error


def read_tensors(path: Path, again: str, export: str) -> dict[str, Tensor]:
    """Read what safetensors or torch.save wrote, if it is nothing but weights.

    Parameters
    ----------
    path : Path
    again : str
        What to do if the file is of no use, for the end of a message.
    export : str
        What to do if it holds more than weights, the same.

    Returns
    -------
    dict
        On the CPU; they may still lie in the file.

    Raises
    ------
    ModelError
        If the file is damaged, or holds more than weights; the message does not name it.
    """
    return _read_safetensors(path, again) if is_safetensors(path) else _read_torch(path, again, export)


def some_of(names: Iterable[str]) -> str:
    """Name the first few of many.

    Examples
    --------
    >>> some_of(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def size_of(tensor: Tensor) -> str:
    """Say the shape of a tensor, such as 64 x 3 x 7 x 7."""
    return " x ".join(map(str, tensor.shape)) or "one number"


def _read_safetensors(path: Path, again: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"is not a model file or is damaged ({first}); {again}.") from error


def _read_torch(path: Path, again: str, export: str) -> dict[str, Tensor]:
    import torch

    damaged = f"is not a checkpoint or is damaged; {again}."
    is_zip = zipfile.is_zipfile(path)
    try:
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ModelError(damaged)  # torch never compresses; unpacked it might be of any size
        with torch.serialization.safe_globals(_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except ModelError:
        raise
    except Exception as error:  # a file of any content gives an error of any kind
        if unknown := re.search(r"GLOBAL (\S+)", str(error)):
            raise ModelError(
                f"holds more than weights ({unknown[1]}), which could be read only by running code from the file, and "
                f"never is; {export}."
            ) from error
        raise ModelError(damaged) from error
    if isinstance(content, dict):
        content = next((content[name] for name in INSIDE if name in content), content)
    if not isinstance(content, dict) or not content:
        raise ModelError(f"holds no weights of a network (type {type(content).__name__}); {again}.")
    for name, weight in content.items():
        if not isinstance(name, str) or not isinstance(weight, torch.Tensor):
            raise ModelError(f"holds something else than weights ({name}); export the weights alone.")
        if weight.is_meta or weight.is_quantized or weight.layout != torch.strided:
            raise ModelError(f"its weight {name} is not an array of numbers; {again}.")
    if sum(weight.numel() * weight.element_size() for weight in content.values()) > 2 * path.stat().st_size:
        raise ModelError(damaged)  # a number may be repeated to any size
    return content


def _numbers() -> list[Any]:
    """Types of numpy's numbers, which checkpoints hold as figures beside the weights; none of them runs anything."""
    import numpy as np

    made = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    # The first name is that of numpy before its version 2.
    return [(made, "numpy.core.multiarray.scalar"), (made, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
