"""How a micrograph is segmented."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_matseg.settings.base import Device, Settings


class SegmentSettings(Settings):
    """How a micrograph is segmented."""

    model: str = "particles"
    """Name of a shipped or installed model, or path of a model file."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """"auto" is half precision on a GPU that has it, else float32."""
    tiling: Literal["auto", "exact", "blend", "whole"] = "auto"
    """"exact" cuts away a halo as wide as the network reaches; "auto" a narrower one that changes at most
    0.01 % of the pixels, or blends where the reach has no end; "whole" does not tile."""
    tile: Annotated[int, Field(ge=64)] | None = None
    """Side of the largest window that the network sees, in pixels; None: from the memory there is."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Tiles per pass; None: from the memory there is."""
    overlap: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of a tile that its neighbour covers too, where tiles are blended."""
    exclude_data_bar: bool = True
    """Leave the instrument's data bar out of statistics and results (it becomes class 0)."""
    instances: bool = False
    """Also give every object an id of its own."""
    probabilities: bool = False
    """Keep the probability of each class."""
    large_px: Annotated[int, Field(ge=1)] = 1 << 27
    """Micrographs of so many pixels in all planes, or more, are segmented part by part into files; the result is the
    same."""
