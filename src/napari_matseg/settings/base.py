"""What all settings are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from napari_matseg.errors import SettingsError

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Quantity = Literal["diameter", "feret_max", "feret_min", "major_axis", "minor_axis", "perimeter", "area"]

SAID_PLAINLY = {"extra_forbidden": "there is no such setting; correct its name", "missing": "is missing; give it"}


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("must be two numbers above 0, the smaller first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


class ClassSpec(Settings):
    """One class of a segmentation; its id is its place in the list, 0 being background or matrix."""

    name: Annotated[str, Field(min_length=1)]
    colour: Colour


def _named_apart(classes: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
    if len({spec.name for spec in classes}) < len(classes):
        raise ValueError("two classes have the same name; give each its own")
    return classes


Classes = Annotated[tuple[ClassSpec, ...], Field(min_length=2, max_length=255), AfterValidator(_named_apart)]


def make_settings(kind: type[S], **given: Any) -> S:
    """Make settings of values that a user gave.

    Raises
    ------
    SettingsError
        If a value is impossible.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """One line from pydantic's report: each setting that is wrong, and why."""
    reasons = []
    for item in error.errors():
        # Where a setting may be one of several things, pydantic puts the name of each into its place.
        place = ".".join(str(part) for part in item["loc"] if isinstance(part, int) or part.isidentifier())
        reason = SAID_PLAINLY.get(item["type"], item["msg"].removeprefix("Value error, "))
        reasons.append(f"{place}: {reason}" if place else reason)
    return "; ".join(reasons)
