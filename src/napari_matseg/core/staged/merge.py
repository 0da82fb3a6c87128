"""A map enlarged and then convolved, in one: the convolution then works on the small map."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_matseg.core.staged.layers import Step, without_idle
from napari_matseg.core.staged.ops import Concatenate, Elementwise, Op, Window
from napari_matseg.core.staged.resizing import Enlarge, Transposed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.staged.ops import Pair


def merge_enlarging(steps: Sequence[Step], sizes: Sequence[Pair]) -> list[Step]:
    """Make convolutions of maps that were enlarged to nearest neighbours on the maps before that.

    Neighbours are copies, so that most products are the same, and weights can be added up instead: after a doubling a
    3 x 3 kernel becomes a transposed one of 4 x 4, of which each cell takes 2 x 2: 4 products for 9. Where an enlarged
    map is put together with others, each is convolved by itself, and the results are added up.

    Parameters
    ----------
    steps : list of Step
        The last gives the scores.
    sizes : list of (int, int)
        Height and width of each one's map, for an image of any size.

    Returns
    -------
    list of Step
        What gives the same, to rounding.
    """
    users = Counter(i for step in steps for i in step.inputs)
    merged: list[Step] = []
    place: list[int] = []  # of each step among the merged

    def add(op: Op | None, inputs: tuple[int, ...], channels: int) -> int:
        merged.append(Step(op, inputs, channels))
        return len(merged) - 1

    def enlarging(number: int) -> Enlarge | None:
        op = steps[number].op
        return op if isinstance(op, Enlarge) and op.mode == "nearest" and users[number] == 1 else None

    def convolve(number: int, convolution: Window) -> int:
        """Convolve a map, or what it was enlarged from."""
        enlarge, channels = enlarging(number), len(convolution.weight)  # type: ignore[arg-type]
        if enlarge is None:
            return add(convolution, (place[number],), channels)
        return add(transposed(convolution, enlarge.factor), (place[steps[number].inputs[0]],), channels)

    for step in steps:
        maps = step.inputs
        if len(maps) == 1 and isinstance(steps[maps[0]].op, Concatenate) and users[maps[0]] == 1:
            maps = steps[maps[0]].inputs
        op = step.op
        alike = len({sizes[i] for i in maps}) == 1
        if isinstance(op, Window) and _fits(op) and alike and any(map(enlarging, maps)):
            weights = op.weight.split([steps[i].channels for i in maps], dim=1)  # type: ignore[union-attr]
            parts = sorted(zip(maps, weights, strict=True), key=lambda part: enlarging(part[0]) is not None)
            total = convolve(parts[0][0], replace(op, weight=parts[0][1]))
            for number, weight in parts[1:]:
                other = convolve(number, replace(op, weight=weight, bias=None))
                total = add(Elementwise(torch.add, operator.iadd), (total, other), step.channels)
            place.append(total)
        else:
            place.append(add(op, tuple(place[i] for i in step.inputs), step.channels))
    return without_idle(merged)


def _fits(op: Window) -> bool:
    """Whether this is a convolution that can work on a smaller map."""
    inside = all(p < k for p, k in zip(op.padding, op.kernel, strict=True))
    return op.weight is not None and op.groups == 1 and op.stride == op.dilation == (1, 1) and inside


def transposed(convolution: Window, factor: Pair) -> Transposed:
    """Give the layer that does to a map what a convolution does to its enlargement to nearest neighbours."""
    (height, width), (fy, fx) = convolution.kernel, factor
    flipped = convolution.weight.double().flip(2, 3).transpose(0, 1)  # type: ignore[union-attr]
    copies = torch.ones(1, 1, fy, fx, dtype=flipped.dtype, device=flipped.device)
    # Each value of the small map meets the kernel at all places of its copies.
    each = functional.conv2d(flipped.reshape(-1, 1, height, width), copies, padding=(fy - 1, fx - 1))
    weight = each.reshape(*flipped.shape[:2], *each.shape[2:]).to(convolution.weight.dtype)  # type: ignore[union-attr]
    padding = (height - 1 - convolution.padding[0], width - 1 - convolution.padding[1])
    kernel = (height + fy - 1, width + fx - 1)
    return Transposed(kernel, factor, padding, weight, convolution.bias, 1)
