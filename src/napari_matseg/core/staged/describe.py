"""What tiling means for a model, in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_matseg.core.plan import make_plan
from napari_matseg.core.staged.stages import choose_kept, flops_of, shelf_bytes, stride_of_map
from napari_matseg.core.staged.totals import Total
from napari_matseg.core.tile import ceil_to, computed_pixels

if TYPE_CHECKING:
    import torch

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.settings import SegmentSettings

COUNTED = 8192  # px; beyond, the share of what is computed twice hardly changes, and counting takes long


def describe_tiling(
    model: Model, shape: tuple[int, int], settings: SegmentSettings, device: torch.device
) -> dict[str, Any]:
    """Say how an image of a size would be tiled, and what that costs.

    Parameters
    ----------
    model : Model
    shape : (int, int)
        Height and width of the image in pixels.
    settings : SegmentSettings
    device : torch.device

    Returns
    -------
    dict
        In plain JSON types: `strategy`, `tile`, `reach`, `why_not_staged` (None where it is), `extra_flops` (share
        beyond one pass over the whole image), and for the strategy "staged" `waiting_bytes`, `totals` (layers that
        take in the whole image) and `kept`, the maps that are kept with their stride and channels.

    Raises
    ------
    SettingsError
        As `core.plan.make_plan`.
    """
    plan = make_plan(model, shape, settings, device)
    layers = model.layers
    pixels = ceil_to(shape[0], plan.stride) * ceil_to(shape[1], plan.stride)
    described: dict[str, Any] = {
        "strategy": plan.strategy,
        "tile": plan.tile,
        "halo": plan.halo,
        "tiles": len(plan.tiles),
        "reach": model.card.reach,
        "why_not_staged": layers if isinstance(layers, str) else None,
        "extra_flops": computed_pixels(plan.tiles) / pixels - 1,
    }
    if isinstance(layers, str) or plan.strategy != "staged":
        return described
    canvas = (ceil_to(shape[0], plan.stride), ceil_to(shape[1], plan.stride))
    kept = choose_kept(layers, plan.tile, plan.thrift)
    part = (min(canvas[0], ceil_to(COUNTED, plan.stride)), min(canvas[1], ceil_to(COUNTED, plan.stride)))
    staged, once = flops_of(layers, part, kept, plan.tile)
    sizes = layers.sizes(canvas)
    return described | {
        "extra_flops": staged / once - 1,
        "waiting_bytes": shelf_bytes(layers, canvas, kept, plan.tile, 4),
        "totals": layers.totals,
        "kept": [
            {"stride": stride_of_map(canvas, sizes[i]), "channels": layers.steps[i].channels}
            for i in sorted(kept)
            if i and not isinstance(layers.steps[i].op, Total)
        ],
    }


def to_text(described: dict[str, Any], shape: tuple[int, int]) -> str:
    """Say the same in lines for the terminal."""
    reach = "the whole image" if described["reach"] is None else f"{described['reach']} px"
    lines = [
        f"{shape[0]} x {shape[1]} px are taken in {described['tiles']} tiles of up to {described['tile']} px.",
        f"strategy      {described['strategy']}" + (f", halo {described['halo']} px" if described["halo"] else ""),
        f"reach         {reach}",
        f"extra work    {described['extra_flops']:.1%} beyond one pass over the whole image",
    ]
    if described["why_not_staged"]:
        lines.append(f"not staged    {described['why_not_staged']}")
    if "kept" in described:
        maps = ", ".join(f"{one['channels']} at 1/{one['stride']}" for one in described["kept"])
        lines.append(f"maps kept     {maps} (channels at resolution)")
        lines.append(f"waiting maps  {described['waiting_bytes'] / 1e9:.2f} GB at most at a time")
        if described["totals"]:
            lines.append(
                f"whole image   {described['totals']} layers take it in at once: all maps before wait for them"
            )
    return "\n".join(lines)
