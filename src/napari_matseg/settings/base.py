"""What all settings are made of."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args

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

SAID_PLAINLY = {
    "extra_forbidden": "there is no such setting; correct its name",
    "invalid_key": "names of settings are text; correct it",
    "missing": "is missing; give it",
    "model_type": "must be settings, each as name: value",
    "string_type": "must be text; put it in quotes",
    "tuple_type": "must be a list",
}


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
        raise SettingsError(explain(error, kind)) from error


def explain(error: ValidationError, kind: type[Settings] | None = None) -> str:
    """One line from pydantic's report: each setting that is wrong, and why.

    Parameters
    ----------
    error : ValidationError
    kind : type of Settings, optional
        What was to be made; with it, settings that there are not are told from those that may be meant.
    """
    reasons = []
    for item in error.errors():
        # Where a setting may be one of several things, pydantic puts the name of each into its place.
        parts = [part for part in item["loc"] if isinstance(part, int) or part.isidentifier()]
        place = ".".join(str(part) for part in parts)
        reason = SAID_PLAINLY.get(item["type"], item["msg"].removeprefix("Value error, "))
        if kind is not None and item["type"] == "extra_forbidden":
            # Not of `parts`, as what is no setting can have any name.
            place, reason = ".".join(map(str, item["loc"])), _meant(item["loc"], kind) or reason
        reasons.append(f"{place}: {reason}" if place else reason)
    return "; ".join(reasons)


def _meant(place: tuple[int | str, ...], kind: type[Settings]) -> str | None:
    """Say which setting may be meant by a name that is none; None if no other is like it."""
    *within, name = (str(part) for part in place)
    paths = _paths(kind)
    siblings = [path[-1] for path in paths if path[:-1] == tuple(within)]
    near = [".".join((*within, one)) for one in get_close_matches(name, siblings, n=1)]
    near = near or [".".join(path) for path in paths if path[-1] == name]
    return f"there is no such setting; do you mean {' or '.join(near)}?" if near else None


def _paths(kind: type[Settings]) -> list[tuple[str, ...]]:
    """Names of all settings, each with those that it lies in."""
    found: list[tuple[str, ...]] = []
    for name, field in kind.model_fields.items():
        found.append((name,))
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Settings):
                found += [(name, *path) for path in _paths(part)]
    return found
