"""What torch.export finds in a network, as layers that are computed region by region."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from napari_matseg.core.staged.layers import Step, without_idle
from napari_matseg.core.staged.ops import VECTOR, Concatenate, Elementwise, Op, Pair, Window
from napari_matseg.core.staged.resizing import Enlarge, Fold, Pad, Stretch, Transposed, Unfold
from napari_matseg.core.staged.totals import Mean, Moments, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SAME = ("alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "lift_fresh_copy")
ELEMENTWISE = (
    *("add", "sub", "mul", "div", "relu", "hardtanh", "silu", "sigmoid", "hardswish", "hardsigmoid", "gelu", "elu"),
    *("leaky_relu", "tanh", "clamp", "clamp_min", "mish", "softplus", "exp", "neg", "abs", "square"),
)
INPLACE: dict[str, Callable[..., Tensor]] = {"relu": torch.relu_, "add": operator.iadd}


class CannotStageError(Exception):
    """A network has a layer that cannot be computed region by region; the message says which."""


def read_layers(program: Any) -> list[Step]:
    """Read the graph of an exported network; batch norms are folded into the convolutions before them.

    Raises
    ------
    CannotStageError
        If a layer is not known.
    """
    return _Reader(program).read()


@dataclass
class _Reader:
    """Reads the graph of an exported network."""

    program: Any
    steps: list[Step] = field(default_factory=list)
    place: dict[Any, int] = field(default_factory=dict)
    """Step of each node."""
    lists: dict[Any, list[Any]] = field(default_factory=dict)
    """Nodes of several tensors."""
    spread: set[int] = field(default_factory=set)
    """Vectors that stand for a map of one value, no longer for one cell."""

    def read(self) -> list[Step]:
        """Give the steps."""
        signature = self.program.graph_signature
        held = dict(self.program.state_dict) | dict(self.program.constants)
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        named |= signature.inputs_to_lifted_tensor_constants
        self.weights = {node: held[name].detach() for node, name in named.items()}
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name not in self.weights:
                self._add(node, None, ())
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._finish(node)
        return self.steps

    def _finish(self, node: Any) -> None:
        outputs = node.args[0]
        if len(outputs) != 1:
            raise CannotStageError("it gives more than one map")
        self.steps = without_idle(self.steps[: self.place[outputs[0]] + 1])

    def _add(self, node: Any, op: Op | None, inputs: Sequence[Any]) -> None:
        shape = node.meta["val"].shape if not isinstance(node.meta["val"], list | tuple) else node.meta["val"][0].shape
        places = tuple(self.place[one] for one in inputs)
        for i in places:
            if i in self.spread and not isinstance(op, Elementwise | Concatenate | Window):
                raise CannotStageError("it computes further on a value that holds for the whole image")
        self.steps.append(Step(op, places, int(shape[1])))
        self.place[node] = len(self.steps) - 1

    def _same(self, node: Any, of: Any) -> None:
        self.place[node] = self.place[of]

    def _weight(self, node: Any) -> Tensor | None:
        return None if node is None else self.weights[node.name]

    def _call(self, node: Any) -> None:
        name = _name(node.target)
        reader = getattr(self, f"read_{name.lstrip('_')}", None)
        if node.target is operator.getitem:
            if node.args[0] not in self.place or node.args[1] != 0:
                raise CannotStageError("it takes apart what a layer gives")
            self._same(node, node.args[0])
        elif name in SAME:
            self._same(node, node.args[0])
        elif reader is not None:
            reader(node, *node.args, **node.kwargs)
        elif name in ELEMENTWISE:
            self._elementwise(node, name)
        else:
            raise CannotStageError(f"it has a layer {name!r}, which sees more than its surroundings or is not known")

    def _elementwise(self, node: Any, name: str) -> None:
        inputs = [one for one in node.args if one in self.place] if all(map(_hashable, node.args)) else []
        maps = {_spatial(one) for one in inputs} - {VECTOR}
        if not inputs or len(maps) > 1 or any(_is_node(one) and one not in self.place for one in node.args):
            raise CannotStageError(f"it has a layer {name!r} of maps that do not lie on each other")
        target, arguments, kwargs = node.target, node.args, node.kwargs

        def apply(*tensors: Tensor) -> Tensor:
            waiting = iter(tensors)
            result: Tensor = target(*(next(waiting) if _is_node(one) else one for one in arguments), **kwargs)
            return result

        plain = len(inputs) == len(arguments) and not kwargs
        self._add(node, Elementwise(apply, INPLACE.get(name) if plain else None), inputs)

    def read_conv2d(
        self,
        node: Any,
        maps: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
    ) -> None:
        values = self._weight(weight)
        if values is None or isinstance(padding, str):
            raise CannotStageError("it has a convolution whose weights are computed")
        kernel = (int(values.shape[2]), int(values.shape[3]))
        op = Window(
            "convolution", kernel, _pair(stride), _pair(padding), _pair(dilation), values, self._weight(bias), groups
        )
        self._add(node, op, [maps])
        if _spatial(maps) == VECTOR and self.place[maps] in self.spread and kernel != (1, 1):
            raise CannotStageError("it has a convolution of a value that holds for the whole image")

    def read_conv_transpose2d(
        self,
        node: Any,
        maps: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        output_padding: Any = (0, 0),
        groups: int = 1,
        dilation: Any = (1, 1),
    ) -> None:
        values = self._weight(weight)
        if values is None or _pair(output_padding) != (0, 0) or _pair(dilation) != (1, 1):
            raise CannotStageError("it has a transposed convolution of an unusual kind")
        kernel = (int(values.shape[2]), int(values.shape[3]))
        op = Transposed(kernel, _pair(stride), _pair(padding), values, self._weight(bias), groups)
        self._add(node, op, [maps])

    def read_native_batch_norm_legit_no_training(
        self, node: Any, maps: Any, weight: Any, bias: Any, mean: Any, variance: Any, _: float, epsilon: float
    ) -> None:
        centre, spread = self.weights[mean.name].double(), self.weights[variance.name].double()
        scale = torch.rsqrt(spread + epsilon)
        gamma, beta = self._weight(weight), self._weight(bias)
        scale = scale if gamma is None else scale * gamma.double()
        shift = -centre * scale
        shift = shift if beta is None else shift + beta.double()
        before = self.place[maps]
        op = self.steps[before].op
        if isinstance(op, Window) and op.weight is not None and len(maps.users) == 1:
            bias_before = shift if op.bias is None else shift + op.bias.double() * scale
            folded = (op.weight.double() * scale[:, None, None, None]).to(op.weight.dtype)
            op = replace(op, weight=folded, bias=bias_before.to(folded.dtype))
            self.steps[before] = replace(self.steps[before], op=op)
            self._same(node, maps)
            return
        constants = tuple(one.float()[None, :, None, None] for one in (scale, shift))
        self._add(node, Elementwise(lambda x, a, b: x * a + b, None, constants), [maps])

    def read_group_norm(
        self, node: Any, maps: Any, groups: int, weight: Any = None, bias: Any = None, epsilon: float = 1e-5, _: Any = 0
    ) -> None:
        gamma, beta = self._weight(weight), self._weight(bias)
        channels = int(node.meta["val"].shape[1])
        gamma = torch.ones(channels) if gamma is None else gamma
        beta = torch.zeros(channels) if beta is None else beta
        self.steps.append(Step(Moments(groups, epsilon), (self.place[maps],), 2 * channels))
        moments = len(self.steps) - 1
        constants = (gamma[None, :, None, None], beta[None, :, None, None])
        self.steps.append(Step(Elementwise(normalise, None, constants), (self.place[maps], moments), channels))
        self.place[node] = len(self.steps) - 1

    def read_max_pool2d(
        self,
        node: Any,
        maps: Any,
        kernel: Any,
        stride: Any = (),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        ceil: bool = False,
    ) -> None:
        op = Window("max", _pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation), ceil=ceil)
        self._add(node, op, [maps])

    def read_avg_pool2d(
        self,
        node: Any,
        maps: Any,
        kernel: Any,
        stride: Any = (),
        padding: Any = (0, 0),
        ceil: bool = False,
        counted: bool = True,
        divisor: Any = None,
    ) -> None:
        if divisor is not None or (_pair(padding) != (0, 0) and (ceil or not counted)):
            raise CannotStageError("it has a pooling that leaves out the padding")
        self._add(node, Window("mean", _pair(kernel), _pair(stride or kernel), _pair(padding), ceil=ceil), [maps])

    def read_adaptive_avg_pool2d(self, node: Any, maps: Any, size: Any) -> None:
        if _pair(size) != (1, 1):
            raise CannotStageError("it pools the whole image to more than one value")
        self._add(node, Mean(), [maps])

    def read_mean(self, node: Any, maps: Any, axes: Any = None, keep: bool = False) -> None:
        if not keep or sorted(axis % 4 for axis in axes or ()) != [2, 3]:
            raise CannotStageError("it has a mean over other axes than height and width")
        self._add(node, Mean(), [maps])

    def read_cat(self, node: Any, maps: Any, axis: int = 0) -> None:
        if axis % 4 != 1:
            raise CannotStageError("it puts maps together along another axis than the channels")
        self._add(node, Concatenate(), maps)

    def read_stack(self, node: Any, maps: Any, axis: int = 0) -> None:
        if axis != 0 or any(_name(user.target) != "sum" for user in node.users):
            raise CannotStageError("it stacks maps")
        self.lists[node] = list(maps)

    def read_sum(self, node: Any, maps: Any, axes: Any = None, keep: bool = False) -> None:
        if maps not in self.lists or list(axes or ()) != [0] or keep:
            raise CannotStageError("it has a sum over an axis")
        self._add(node, Elementwise(lambda *each: sum(each[1:], start=each[0])), self.lists[maps])

    def read_upsample_nearest2d(self, node: Any, maps: Any, size: Any = None, scale: Any = None) -> None:
        self._enlarge(node, maps, "nearest")

    def read_upsample_bilinear2d(self, node: Any, maps: Any, size: Any, corners: bool, scale: Any = None) -> None:
        self._enlarge(node, maps, "corners" if corners else "bilinear")

    def _enlarge(self, node: Any, maps: Any, mode: str) -> None:
        before, after = _spatial(maps), _spatial(node)
        if before == VECTOR:
            self._same(node, maps)
            self.spread.add(self.place[maps])
            return
        if after[0] % before[0] or after[1] % before[1]:
            raise CannotStageError("it enlarges a map by a fraction")
        factor = (after[0] // before[0], after[1] // before[1])
        self._add(node, Stretch(factor) if mode == "corners" else Enlarge(factor, mode), [maps])

    def read_pixel_unshuffle(self, node: Any, maps: Any, factor: int) -> None:
        self._add(node, Fold(factor), [maps])

    def read_pixel_shuffle(self, node: Any, maps: Any, factor: int) -> None:
        self._add(node, Unfold(factor), [maps])

    def read_pad(self, node: Any, maps: Any, widths: Any, mode: str = "constant", value: float | None = None) -> None:
        left, right, top, bottom = (*widths, 0, 0, 0, 0)[:4]
        if mode != "constant" or len(widths) > 4 or min(widths, default=0) < 0:
            raise CannotStageError("it pads maps by what they hold, or crops them")
        self._add(node, Pad((top, left), (bottom, right), value or 0.0), [maps])

    read_constant_pad_nd = read_pad


def _name(target: Any) -> str:
    return str(getattr(target, "_opname", getattr(target, "__name__", target)))


def _spatial(node: Any) -> Pair:
    shape = node.meta["val"].shape
    return (int(shape[2]), int(shape[3])) if len(shape) == 4 else (0, math.prod(shape))


def _pair(value: Any) -> Pair:
    values = [value] * 2 if isinstance(value, int) else list(value)
    values = values * 2 if len(values) == 1 else values
    return int(values[0]), int(values[1])


def _is_node(value: Any) -> bool:
    return isinstance(value, torch.fx.Node)


def _hashable(value: Any) -> bool:
    return not isinstance(value, list | dict)
