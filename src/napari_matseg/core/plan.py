"""How a micrograph is taken through a network: at once, in stages, in tiles with a halo, or blended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_matseg.core.architectures import MAX_REACH, stride_of
from napari_matseg.core.devices import MEMORY_SHARE, free_memory
from napari_matseg.core.tile import Tile, ceil_to, computed_pixels, plan_blend, plan_tiles
from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.staged.layers import Layers
    from napari_matseg.settings import SegmentSettings

SIDES = (4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 128, 64)
CPU_COST = {2048: 1.25, 1024: 1.0, 512: 1.0}  # time per pixel by side of the tile, relative; larger ones gain nothing
STAGED_SIDE = {"cpu": 1024, "cuda": 2048, "mps": 1024}
STAGED_ROOM = 6 << 28  # bytes of maps that wait: tiles are made smaller rather than to hold more
THRIFTIER = ((512, 1), (512, 2), (512, 4), (256, 4), (512, 8), (256, 16), (256, 64))  # sides, and how few maps to keep
BATCH_PIXELS = 4 << 20  # beyond this a larger batch gains nothing on a GPU
Strategy = Literal["whole", "staged", "halo", "blend"]


@dataclass(frozen=True)
class Plan:
    """How a micrograph of a given size is taken through a network.

    Attributes
    ----------
    strategy : "whole", "staged", "halo" or "blend"
        "staged" computes the network layer by layer, each map once for the whole image; see `core.staged`.
    tiles : list of Tile
    batch : int
        Tiles per pass.
    tile, halo : int
        Side of the largest window, and context that is cut away, in pixels.
    stride : int
        What corners of windows are multiples of.
    thrift : int
        In stages: how dear memory is; see `core.staged.stages.choose_kept`.
    """

    strategy: Strategy
    tiles: list[Tile]
    batch: int
    tile: int
    halo: int
    stride: int
    thrift: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Describe the plan in plain JSON types."""
        return {
            "strategy": self.strategy,
            "tile": self.tile,
            "halo": self.halo,
            "stride": self.stride,
            "batch": self.batch,
            "tiles": len(self.tiles),
            "computed_pixels": computed_pixels(self.tiles),
        }


def make_plan(
    model: Model, shape: tuple[int, int], settings: SegmentSettings, device: torch.device, largest: int | None = None
) -> Plan:
    """Decide how to tile.

    Parameters
    ----------
    model : Model
    shape : (int, int)
        Height and width of the micrograph in pixels.
    settings : SegmentSettings
    device : torch.device
    largest : int, optional
        Upper bound for the side of a window, for another try with less memory.

    Raises
    ------
    SettingsError
        If "exact" is asked of a network that sees the whole image, and the image does not fit.
    """
    stride = stride_of(model.network)
    canvas = ceil_to(shape[0], stride), ceil_to(shape[1], stride)
    fits = min(_largest_side(model, device), largest or SIDES[0])
    plan = None if settings.tiling == "whole" else _cut(model, shape, canvas, settings, device, fits, largest)
    if plan is None or len(plan.tiles) == 1:
        plan = Plan("whole", plan_tiles(shape, max(canvas), 0, stride), 1, max(canvas), 0, stride)
    height, width = plan.tiles[0].shape
    batch = max(1, min(BATCH_PIXELS, fits**2) // (height * width)) if device.type != "cpu" else 1
    batch = settings.batch or (1 if plan.strategy == "staged" else batch)
    return replace(plan, batch=batch, tile=max(max(tile.shape) for tile in plan.tiles))


def _cut(
    model: Model,
    shape: tuple[int, int],
    canvas: tuple[int, int],
    settings: SegmentSettings,
    device: torch.device,
    fits: int,
    largest: int | None,
) -> Plan | None:
    """Choose among the ways that cut the image into tiles; None if it is not to be cut."""
    stride, reach = stride_of(model.network), model.card.reach
    if settings.tiling != "blend":
        staged = settings.tile or min(STAGED_SIDE[device.type], fits)
        staged = min(staged, largest or staged)
        if len(plan_tiles(shape, staged, 0, stride)) == 1:
            return None
        if not isinstance(model.layers, str):
            staged, thrift = (staged, 1) if settings.tile else _staged_side(model.layers, canvas, staged)
            return Plan("staged", plan_tiles(shape, staged, 0, stride), 1, staged, 0, stride, thrift)
    enough = model.card.halo if settings.tiling == "auto" else None
    halo = ceil_to(min(reach or 0, MAX_REACH if enough is None else enough), stride)
    side = settings.tile or (fits if device.type != "cpu" else _fastest_side(shape, halo, stride, fits))
    side = min(side, largest or side)
    if settings.tiling != "blend" and reach is not None:
        return Plan("halo", plan_tiles(shape, side, halo, stride), 1, side, halo, stride)
    if settings.tiling != "exact":
        return Plan("blend", plan_blend(shape, side, settings.overlap, stride), 1, side, 0, stride)
    if largest is not None or canvas[0] * canvas[1] > fits**2:
        raise SettingsError(
            f"model {model.card.name} sees the whole image at once, and this one does not fit into memory; "
            "choose tiling auto or blend, or a model with bounded reach."
        )
    return None


def _staged_side(layers: Layers, canvas: tuple[int, int], side: int) -> tuple[int, int]:
    """Side of tiles, and thrift, with which the maps that wait do not take too much memory."""
    from napari_matseg.core.staged.stages import choose_kept, shelf_bytes

    choices = [(side, 1), *((smaller, thrift) for smaller, thrift in THRIFTIER if smaller <= side)]
    for smaller, thrift in choices:
        kept = choose_kept(layers, smaller, thrift)
        if layers.totals or shelf_bytes(layers, canvas, kept, smaller, 4) <= STAGED_ROOM:
            break
    return smaller, thrift


def _fastest_side(shape: tuple[int, int], halo: int, stride: int, fits: int) -> int:
    """Side of the tiles that take the CPU the least time, halo included."""

    def cost(side: int) -> float:
        return CPU_COST[side] * computed_pixels(plan_tiles(shape, side, halo, stride))

    return min((side for side in CPU_COST if side <= fits), key=cost, default=fits)


def _largest_side(model: Model, device: torch.device) -> int:
    """Largest side of a square tile that fits into the memory that is free."""
    pixels = free_memory(device) * MEMORY_SHARE[device.type] / bytes_per_pixel(model, device)
    return next((side for side in SIDES if side**2 <= pixels), SIDES[-1])


def bytes_per_pixel(model: Model, device: torch.device) -> float:
    """Memory that the network takes for each pixel of a tile, from the sizes of its layers' outputs.

    The encoder's maps wait for the decoder while the widest layer holds its input and its output.
    """
    import torch

    if (known := getattr(model.network, "bytes_per_pixel", None)) is not None:  # as of one that torch does not run
        return float(known)
    side = max(128, stride_of(model.network))
    widest = 0
    waiting = 0

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal widest, waiting
        if isinstance(output, list | tuple):
            waiting = sum(t.nbytes for t in output if isinstance(t, torch.Tensor))
        elif isinstance(output, torch.Tensor):
            given = sum(t.nbytes for t in inputs if isinstance(t, torch.Tensor))
            widest = max(widest, given + output.nbytes)

    hooks = [module.register_forward_hook(note) for module in model.network.modules()]
    try:
        with torch.inference_mode():
            model.network(torch.zeros(1, model.card.architecture.in_channels, side, side, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return 1.5 * (widest + waiting) / side**2  # half as much again for what the allocator and kernels keep
