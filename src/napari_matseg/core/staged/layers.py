"""A network as a list of layers that are computed region by region."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_matseg.core.staged.ops import Elementwise, Op, Pair, Part, whole
from napari_matseg.core.staged.totals import Total

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """One layer with the steps that its inputs come from, and the number of channels that it gives."""

    op: Op | None
    inputs: tuple[int, ...]
    channels: int
    inplace: bool = False
    """Whether it may write over its first input, which no other step takes."""


@dataclass(frozen=True, eq=False)
class Layers:
    """A network as a list of steps, each after those that it takes its inputs from.

    Attributes
    ----------
    steps : list of Step
        The first, without an op, is the image; the last gives the scores.
    stride : int
        Pixels that height and width of an image must be multiples of.
    """

    steps: list[Step]
    stride: int

    def sizes(self, shape: Pair) -> list[Pair]:
        """Height and width of each step's map for an image of that height and width."""
        sizes: list[Pair] = []
        for step in self.steps:
            sizes.append(shape if step.op is None else step.op.size([sizes[i] for i in step.inputs]))
        return sizes

    @property
    def totals(self) -> int:
        """Number of layers that take in the whole image at once."""
        return sum(isinstance(step.op, Total) for step in self.steps)

    def to(self, device: torch.device, dtype: torch.dtype) -> Layers:
        """Give the same layers with their weights there and in that type."""
        steps = [replace(step, op=step.op and step.op.to(device, dtype)) for step in self.steps]
        return Layers(steps, self.stride)


def run_whole(layers: Layers, image: Tensor) -> Tensor:
    """Give the scores of a whole image, layer by layer; for comparison."""
    shape = (int(image.shape[2]), int(image.shape[3]))
    sizes = layers.sizes(shape)
    maps: list[Tensor] = []
    for step, size in zip(layers.steps, sizes, strict=True):
        if step.op is None:
            maps.append(image)
            continue
        before = [sizes[i] for i in step.inputs]
        if isinstance(step.op, Total):
            only = maps[step.inputs[0]]
            maps.append(step.op.finish(step.op.add(only), only.shape[2] * only.shape[3]).to(only.dtype))
            continue
        parts = [Part(maps[i], whole(sizes[i])) for i in step.inputs]
        maps.append(step.op.run(parts, whole(size), before, inplace=False))
    return maps[-1]


def without_idle(steps: list[Step]) -> list[Step]:
    """Leave out what the last step is not made from."""
    used = {len(steps) - 1}
    for number in range(len(steps) - 1, -1, -1):
        if number in used:
            used.update(steps[number].inputs)
    place = {number: i for i, number in enumerate(sorted(used))}
    return [replace(steps[number], inputs=tuple(place[i] for i in steps[number].inputs)) for number in sorted(used)]


def writing_over(steps: list[Step]) -> list[Step]:
    """Let each step write over its first input where it can and nothing else takes that."""
    users = Counter(i for step in steps for i in step.inputs)

    def may(step: Step) -> bool:
        if not isinstance(step.op, Elementwise) or step.op.apply_inplace is None:
            return False
        first = steps[step.inputs[0]]
        free = first.op is not None and first.op.fresh and users[step.inputs[0]] == 1
        return free and all(steps[i].channels == first.channels for i in step.inputs)

    return [replace(step, inplace=may(step)) for step in steps]
