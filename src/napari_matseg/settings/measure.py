"""How results are measured and judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_matseg.settings.base import Positive, Quantity, Settings


class MeasureSettings(Settings):
    """How objects, phases and grains are measured."""

    edge: Literal["miles-lantuejoul", "guard", "drop", "keep"] = "miles-lantuejoul"
    """What is done about objects that the edge of the field cuts, of which more are large: "miles-lantuejoul" leaves
    them out and weighs each of the others by how seldom one of its size lies whole in the field; "guard" counts
    those with their centre in a frame inside the field; "drop" leaves them out, and "keep" keeps them,
    and neither makes up for it."""
    guard_px: Positive | None = None
    """From the edge of the field to the counting frame, in pixels; None: the extent of the largest object."""
    quantity: Quantity = "diameter"
    """Which size distributions are of; "diameter" is that of the disc of the same area."""
    weighting: Literal["number", "area"] = "number"
    """Whether an object counts as one, or as its area."""
    min_area_px: Annotated[int, Field(ge=0)] = 0
    """Objects with fewer pixels are no objects."""
    exclude_data_bar: bool = True
    """Take the field to end at the instrument's data bar."""


class EvaluateSettings(Settings):
    """How a segmentation is held against the truth."""

    objects: bool = False
    """Compare objects one by one, instead of classes pixel by pixel."""
    iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """From which IoU on two objects are the same one, where errors are listed."""
    tolerance_px: Positive = 2.0
    """How far two boundaries may lie apart to be the same one."""
    bootstrap: Annotated[int, Field(ge=0)] = 2000
    """How often the images are drawn anew for the confidence intervals; 0 for none."""
    seed: Annotated[int, Field(ge=0)] = 0
