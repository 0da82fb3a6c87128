"""How points and boxes become masks, and where the points come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_matseg.settings.base import Device, Fraction, Positive, Range, Settings


class PromptSettings(Settings):
    """How points and boxes become masks."""

    model: str = "compact"
    """Name of a promptable model that ships or was downloaded, or path of a checkpoint."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    choice: Literal["best", "part", "particle", "agglomerate"] = "best"
    """Which of the three masks that answer a single click: the one with the best predicted IoU, or the smallest, the
    middle or the largest of them. Prompts of more than one click, or with a box, have one answer."""
    area_nm2: Range | None = None
    """Smallest and largest area of an object; answers outside are passed over where another fits, else flagged."""
    area_px: Range | None = None
    """The same in pixels, for micrographs of unknown pixel size."""
    overlaps: Literal["score", "smaller", "separate"] = "score"
    """Whose pixels those of two objects are: "score", the object's with the higher score at the pixel, but an object
    that would lose most of itself keeps them; "smaller", the smaller object's; "separate", both keep theirs."""
    fill_holes_px: Annotated[int, Field(ge=0)] = 64
    """Holes of up to so many pixels are filled."""
    drop_specks_px: Annotated[int, Field(ge=0)] = 64
    """Pieces of up to so many pixels apart from an object's largest are removed."""
    one_piece: bool = True
    """Let the small model's objects hang together and fill the box that was drawn round them, which it does not know by
    itself; the answers of other models stay as they are."""
    refine: bool = True
    """Let a second network, the refiner, draw the small model's objects again, each at a magnification that suits it;
    what other models answer, parts and agglomerates stay as they are."""
    views: Literal[1, 2, 4] = 1
    """How often the model is asked, each time about the image mirrored in another way; the answers are averaged. More
    exact, in so many times the time, where a prompt has one answer."""
    min_stability: Fraction = 0.8
    """Objects whose area changes by more than this allows when the threshold moves are flagged for a look."""
    min_iou: Fraction = 0.5
    """Objects whose predicted IoU is lower are flagged."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Magnification at which the model sees the micrograph; None: so that the object fits."""
    exclude_data_bar: bool = True
    cache_gb: Annotated[float, Field(ge=0)] = 4.0
    """Room on disk for embeddings, shared by all sessions; 0 keeps none."""


class CentreSettings(Settings):
    """How the centres of particles are found."""

    method: Literal["model", "log", "doh"] = "model"
    """"model" takes a segmentation model's depth map, or the distance to the edge of what it segmented; "log" and
    "doh" look for blobs in the image itself, by the Laplacian of Gaussian or the determinant of the Hessian."""
    model: str = "particles"
    """Name of a shipped or installed model, or path of a model file; for method "model"."""
    depth: Fraction = 0.6
    """Model with a depth map: how deep inside its object the deepest pixel must lie, which is how sure the model is."""
    neck: Fraction = 0.5
    """Model: objects that touch are parted where the depth of the neck between them is less than this share of the
    shallower one's; without a depth map its cross-section, as of balls. 0 parts none."""
    polarity: Literal["bright", "dark", "either"] = "either"
    """Blobs: lighter or darker than what surrounds them; a model finds what it was trained on."""
    contrast: Fraction = 0.3
    """Blobs: the least difference from what surrounds them, as a share of the micrograph's grey range."""
    overlap: Fraction = 0.1
    """Blobs: of two that share more than this part of the smaller one's area, the stronger is kept."""
    min_diameter_px: Positive | None = None
    max_diameter_px: Positive | None = None
    min_diameter_nm: Positive | None = None
    max_diameter_nm: Positive | None = None
    """Of the disc of the same area, in pixels or in nanometres, which need the pixel size. None: from 6 px, below which
    most is noise; up to any size, for blobs the shorter side of the micrograph."""
    exclude_edge: bool = False
    """Leave out objects that reach the edge of the micrograph or its data bar."""
    exclude_data_bar: bool = True
    """Look for nothing in the instrument's data bar."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _one_range(self) -> CentreSettings:
        for bound in ("min", "max"):
            if getattr(self, f"{bound}_diameter_px") is not None and getattr(self, f"{bound}_diameter_nm") is not None:
                raise ValueError(f"{bound}_diameter is given in px and in nm; give one of the two")
        for unit in ("px", "nm"):
            low, high = getattr(self, f"min_diameter_{unit}"), getattr(self, f"max_diameter_{unit}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_diameter_{unit} must not be above max_diameter_{unit}")
        return self


class EverythingSettings(Settings):
    """How all objects are found where nobody points at them; the rest is in `PromptSettings`."""

    spacing: Positive | None = None
    """From one point of the grid to the next, in pixels; None: a 32nd of what the model sees at once."""
    min_iou: Fraction = 0.75
    """Answers whose predicted IoU is lower are no objects."""
    min_stability: Fraction = 0.75
    """Answers whose area changes by more than this allows when the threshold moves are no objects."""
    max_overlap: Fraction = 0.5
    """Of two answers with a greater IoU, the better is kept."""
    nested: Literal["smaller", "larger", "both"] = "smaller"
    """Which to keep where objects lie in another: "smaller", them, if together they cover more than half of it as the
    particles of an agglomerate do, and else what holds them; "larger", always what holds them; "both", all."""
