"""A recipe: all that is done to a folder of micrographs, from reading to what is written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_matseg.settings.base import Positive, Settings
from napari_matseg.settings.measure import MeasureSettings
from napari_matseg.settings.prompt import CentreSettings, EverythingSettings, PromptSettings
from napari_matseg.settings.segment import SegmentSettings


class ReadSettings(Settings):
    """How files become micrographs."""

    channel: Literal["auto", "luminance", "red", "green", "blue"] = "auto"
    """What of true colour is looked at; "auto": what the model takes."""
    pixel_size_nm: tuple[Positive, Positive] | None = None
    """(height, width) of a pixel of the files that state none; what a file states itself always holds."""


class PromptStep(Settings):
    """Objects by a promptable model, and where its points come from."""

    find: Literal["centres", "everything", "points"] = "centres"
    """"centres" of particles, each a point; "everything" needs no points; "points" are read from a file beside each
    micrograph, `<its name without ending>_points.csv`."""
    centres: CentreSettings = CentreSettings()
    """For find "centres"."""
    everything: EverythingSettings = EverythingSettings()
    """For find "everything"."""
    prompt: PromptSettings = PromptSettings()


class CleanSettings(Settings):
    """What is mended in each object, and in each piece of a class, before it is measured and written."""

    min_area_px: Annotated[int, Field(ge=0)] = 0
    """Smaller ones become background."""
    fill_holes_px: Annotated[int, Field(ge=0)] = 0
    """Holes of up to so many pixels are filled."""
    exclude_edge: bool = False
    """Those that reach the edge of the micrograph or its data bar become background."""


class OutputSettings(Settings):
    """What is written for each micrograph, besides the record that is always written."""

    labels: Literal["tiff", "zarr"] = "tiff"
    overlay: bool = True
    """A picture of the result on the micrograph."""
    probabilities: bool = False
    """The probability of each class."""
    tables: tuple[Literal["csv", "parquet"], ...] = ("csv",)
    """Of the objects and of the images; where nothing is measured, there are none."""


class Recipe(Settings):
    """All that is done to each micrograph: it is read, segmented or prompted, cleaned, measured and written."""

    format: Literal[1] = 1
    name: str = ""
    """What the recipe is called in reports; changes nothing."""
    read: ReadSettings = ReadSettings()
    segment: SegmentSettings | None = None
    """Classes by a segmentation model; or else:"""
    prompt: PromptStep | None = None
    """Objects by a promptable model."""
    clean: CleanSettings = CleanSettings()
    measure: MeasureSettings | None = MeasureSettings()
    """None: nothing is measured."""
    outputs: OutputSettings = OutputSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if (self.segment is None) == (self.prompt is None):
            raise ValueError(
                "a recipe has either segment or prompt; give one of the two, such as segment: {model: particles}"
            )
        if self.prompt and self.outputs.probabilities:
            raise ValueError("outputs.probabilities needs segment, as prompted objects have none; set it to false")
        return self

    def used(self) -> dict[str, Any]:
        """All settings that have a part in the result, in plain JSON types.

        Returns
        -------
        dict
            By the names of the fields; `Recipe.model_validate` takes it.
        """
        plain = self.model_dump(mode="json")
        if self.prompt is None:
            del plain["prompt"]
        else:
            del plain["segment"]
            for part in {"centres", "everything"} - {self.prompt.find}:
                del plain["prompt"][part]
        return plain
