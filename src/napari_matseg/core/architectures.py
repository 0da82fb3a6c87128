"""Name -> network, and what tiling must know of it: stride and reach."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

from napari_matseg.errors import ModelError
from napari_matseg.settings import UPSAMPLINGS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_matseg.settings import ArchitectureSettings

MAX_REACH = 1536  # px; a network that sees farther is taken to see everything

REFUSED = {
    *("activation", "aux_params", "upsampling"),
    *("cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"),
}
"""Options that would make something else than scores of the output, or read weights from elsewhere."""


def build_network(settings: ArchitectureSettings, out_channels: int) -> nn.Module:
    """Make a network with random weights.

    Parameters
    ----------
    settings : ArchitectureSettings
    out_channels : int
        Number of maps that the network gives.

    Returns
    -------
    torch.nn.Module
        From float tensors of shape (batch, in_channels, height, width) to scores (logits) of shape
        (batch, out_channels, height, width). An image of any size is mirrored to multiples of `stride_of(network)`.

    Raises
    ------
    ModelError
        If the encoder is unknown or takes images of one size only, or an option does not fit the architecture.

    Notes
    -----
    The networks and the papers that they are from are in `core.networks`.
    """
    load_triton_apart()
    import torch

    from napari_matseg.core.networks import COMPOSED, FROM_SMP, Folded, size_independent

    kind = (FROM_SMP | COMPOSED)[settings.name]
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.options.items()}
    what = f"{settings.name} with encoder {settings.encoder!r}, depth {settings.encoder_depth} and options {options}"
    if refused := sorted(REFUSED & options.keys()):
        raise ModelError(f"{what}: option {refused[0]!r} cannot be used here; leave it out.")
    known = {name for each in kind.__mro__ for name in inspect.signature(each.__init__).parameters}  # type: ignore[misc]
    # timm's networks check the rest of the options themselves, the others would pass over a wrong name.
    if not settings.encoder.startswith(("tu-", "timm-")) and (unknown := sorted(options.keys() - known)):
        raise ModelError(f"{what}: there is no option {unknown[0]!r}; correct its name.")
    given: dict[str, Any] = {
        "encoder_name": settings.encoder,
        "in_channels": settings.in_channels * settings.fold**2,
        "classes": out_channels * settings.fold**2,
    }
    if settings.name in FROM_SMP:
        given |= {"encoder_depth": settings.encoder_depth, "encoder_weights": None}
    if len(UPSAMPLINGS[settings.name]) > 1:
        given["upsampling"] = settings.upsampling or UPSAMPLINGS[settings.name][0]
    if settings.atrous_rates:
        given["decoder_atrous_rates"] = settings.atrous_rates
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = size_independent(kind(**given, **options))
            if settings.fold > 1:
                network = Folded(network, settings.fold)
            side = 2 * stride_of(network)
            # Some take images of one size only.
            scores = _evaluated(network, torch.zeros(1, settings.in_channels, side, side))
            if scores.shape != (1, out_channels, side, side):
                raise ValueError(f"it gives {tuple(scores.shape[1:])} for an image of {side} x {side} px")
    except Exception as error:  # hundreds of constructors, each with errors of its own
        if "Wrong encoder name" in str(error) or "Unknown model" in str(error):
            raise ModelError(
                f"encoder {settings.encoder!r} is unknown; use one of segmentation-models-pytorch's, such as resnet18 "
                "or mobilenet_v2, or tu- before a timm name."
            ) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{what} cannot be built ({first}); correct the architecture.") from error
    return network


def load_triton_apart() -> None:
    """Load triton so that it uses the LLVM inside it.

    segmentation-models-pytorch imports torchvision and with it triton. Where Mesa draws napari's canvas in software
    its own LLVM is in the process already, and triton, bound to that, would crash the viewer.
    """
    if not sys.platform.startswith("linux") or "triton" in sys.modules:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with contextlib.suppress(ImportError):
            importlib.import_module("triton._C.libtriton")
    finally:
        sys.setdlopenflags(flags)


def stride_of(network: nn.Module) -> int:
    """Give the pixels that height, width and the corners of tiles must be multiples of."""
    parts: Any = network  # torch types the children of a module as tensors
    if hasattr(parts, "fold"):
        return int(parts.fold.downscale_factor) * stride_of(parts.network)
    return int(parts.encoder.output_stride)


def measure_reach(network: nn.Module, in_channels: int) -> int | None:
    """How far the network's output depends on its input, measured by letting NaN spread.

    One half of an image is set to NaN; the output is NaN as far as it depends on that half, from each of the
    four sides. Keeping only what lies farther than this from the edge of a tile gives the same output as the
    whole image.

    Parameters
    ----------
    network : torch.nn.Module
    in_channels : int

    Returns
    -------
    int or None
        Pixels; None if the output depends on the whole image (image pooling, attention, squeeze-and-excitation).
    """
    import torch

    stride = stride_of(network)
    weight = next(network.parameters())
    for length in (512, 1024, 2 * MAX_REACH):
        half = -(-length // 2 // stride) * stride
        reach = 0
        for vertical, flip in product((False, True), repeat=2):
            strip = torch.zeros(1, in_channels, stride * 2, half * 2, device=weight.device, dtype=weight.dtype)
            strip[..., :half] = torch.nan
            strip = strip.flip(-1) if flip else strip
            scores = _evaluated(network, strip.mT if vertical else strip)
            spoilt = (scores.mT if vertical else scores).isnan().any(dim=-2).any(dim=1)[0]
            spoilt = spoilt.flip(-1) if flip else spoilt
            reach = max(reach, int(spoilt[half:].sum()))
            if reach == half:  # this strip is too short, whatever the other sides are
                break
        else:
            return reach
    return None


def _evaluated(network: nn.Module, image: Tensor) -> Tensor:
    import torch

    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            scores: Tensor = network(image)
    finally:
        network.train(training)
    return scores
