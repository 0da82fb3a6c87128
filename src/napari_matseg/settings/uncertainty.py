"""How it is found out where a model is unsure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_matseg.settings.base import Settings
from napari_matseg.settings.segment import SegmentSettings


class UncertaintySettings(Settings):
    """How it is found out where a model is unsure, and where to label next."""

    segment: SegmentSettings = SegmentSettings()
    """Model, device, tiling and the like; what it says about objects and probabilities does not count."""
    others: tuple[str, ...] = ()
    """Further models of the same classes, which are asked as well: an ensemble."""
    measure: Literal["entropy", "mutual_information", "margin"] = "entropy"
    """"entropy" of the mean over all answers; "mutual_information": only by how much the answers differ;
    "margin": how close the second class comes to the first."""
    views: Annotated[int, Field(ge=1, le=8)] = 8
    """How often each model is asked, each time about the image as it looks turned, magnified, or in another
    contrast; 1 is the image as it is."""
    zoom: Annotated[float, Field(ge=1, le=2)] = 1.15
    """By how much some views are magnified, and others reduced; 1 for none."""
    contrast: Annotated[float, Field(ge=1, le=4)] = 1.25
    """By how much some views have more contrast, and others less; 1 for none."""
    places: Annotated[int, Field(ge=0)] = 5
    """How many places to label next are named in an image, at most."""
    place_px: Annotated[int, Field(ge=8)] | None = None
    """Side of such a place in pixels; None: an eighth of the image's shorter side, from 32 to 256."""

    @model_validator(mode="after")
    def _asks_twice(self) -> UncertaintySettings:
        if self.measure == "mutual_information" and self.views == 1 and not self.others:
            raise ValueError("mutual_information is how much answers differ; ask for more views, or further models")
        return self
