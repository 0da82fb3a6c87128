"""From a network to the layers that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_matseg.core.staged.layers import Layers, run_whole, writing_over
from napari_matseg.core.staged.merge import merge_enlarging
from napari_matseg.core.staged.reader import CannotStageError, read_layers

if TYPE_CHECKING:
    from torch import Tensor, nn

CELLS = (2, 3)  # height and width of the coarsest map while tracing: not square, and larger than a vector
TOLERANCE = 1e-3  # of the scores, relative to their range: batch norms folded into convolutions round otherwise


def trace(network: nn.Module, in_channels: int, stride: int) -> Layers:
    """Take a network apart.

    The layers are those that torch.export finds; batch norms are folded into the convolutions before them,
    and convolutions of what was enlarged are made on the small map.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    in_channels : int
    stride : int
        Of the network.

    Raises
    ------
    CannotStageError
        If a layer is not known here (attention, say), or the layers together do not give what the network gives.
    """
    weight = next(network.parameters(), None)
    image = torch.zeros(1, in_channels, CELLS[0] * stride, CELLS[1] * stride)
    image = image if weight is None else image.to(weight.device)
    try:
        with torch.no_grad():
            program = torch.export.export(network, (image,), strict=False).run_decompositions({})
    except Exception as error:  # whatever a network does that cannot be traced
        raise CannotStageError(f"it cannot be traced ({type(error).__name__})") from error
    steps = read_layers(program)
    sizes = Layers(steps, stride).sizes((CELLS[0] * stride, CELLS[1] * stride))
    layers = Layers(writing_over(merge_enlarging(steps, sizes)), stride)
    _check(layers, network, image)
    return layers


def _check(layers: Layers, network: nn.Module, image: Tensor) -> None:
    """Hold the layers to the network, on noise."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(image.shape, generator=generator).to(image.device)
    with torch.inference_mode():
        expected, found = network(image), run_whole(layers, image)
    span = float(expected.max() - expected.min())
    if found.shape != expected.shape or float((found - expected).abs().max()) > TOLERANCE * max(span, 1.0):
        raise CannotStageError("its layers taken one by one give another result")
