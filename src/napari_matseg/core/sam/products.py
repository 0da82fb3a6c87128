"""Matrix products on the CPU by the faster of the two libraries inside torch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Linear layer for inference, with a GELU behind it if asked.

    torch leaves products of float32 to MKL, which makes half of the use of a processor of another maker than Intel
    that oneDNN makes; torch ships both, but keeps oneDNN's linear layer for its compiler, hence the look whether it
    is there.

    Parameters
    ----------
    x : Tensor, shape (..., n)
    weight : Tensor, shape (m, n)
    bias : Tensor, shape (m,), optional
    gelu : bool
        Put the exact GELU on the result.

    Returns
    -------
    Tensor, shape (..., m)
    """
    import torch
    from torch.nn import functional

    if _by_onednn(x):
        if weight.stride() not in {(weight.shape[1], 1), (1, weight.shape[0])}:
            weight = weight.contiguous()  # with gaps in memory oneDNN takes a hundred times longer
        operator = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - torch has no public name for it
        found: Tensor = operator(x, weight, bias, "gelu" if gelu else "none", [], "none")
        return found
    found = functional.linear(x, weight, bias)
    return functional.gelu(found) if gelu else found


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply pairs of matrices, a @ b^T.

    Parameters
    ----------
    a : Tensor, shape (batch, m, k)
    b : Tensor, shape (batch, n, k)

    Returns
    -------
    Tensor, shape (batch, m, n)
    """
    import torch

    if len(a) == 1:
        return linear(a[0], b[0])[None]
    return torch.bmm(a, b.transpose(1, 2))


def _by_onednn(x: Tensor) -> bool:
    import torch

    return x.device.type == "cpu" and x.dtype == torch.float32 and _has_onednn()


@functools.cache
def _has_onednn() -> bool:
    import torch

    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
