"""What is to be done with a large micrograph, in a form that any process can take up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from napari_matseg.core.export import write_json
from napari_matseg.core.large.parts import Band, Part, bands_of, parts_of, units_of
from napari_matseg.core.large.pieces import Pieces
from napari_matseg.core.normalise import GreyScale
from napari_matseg.core.plan import Plan
from napari_matseg.core.tile import Span, Tile
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """What is to be done, and where to.

    Attributes
    ----------
    folder : Path
        Of the pieces; every process that works on the job has to see it.
    plan : Plan
    rows : (int, int)
        First row that is segmented, and end (exclusive).
    shape_yx : (int, int)
        Height and width of what is segmented.
    scales : tuple of GreyScale
        One for each plane.
    channels : int
        That the network takes.
    dtype : str
        What it computes in, such as "float32".
    classes : int
        Number of classes.
    depth, probabilities : bool
        Whether these maps are kept.
    """

    folder: Path
    plan: Plan
    rows: tuple[int, int]
    shape_yx: tuple[int, int]
    scales: tuple[GreyScale, ...]
    channels: int
    dtype: str
    classes: int
    depth: bool
    probabilities: bool

    @cached_property
    def units(self) -> list[Part]:
        """What becomes final at once."""
        return units_of(self.plan, self.shape_yx)

    @cached_property
    def pieces(self) -> Pieces:
        """What was found so far."""
        return Pieces(self.folder, parts_of(self.units))

    @cached_property
    def numbers(self) -> list[list[int]]:
        """Numbers of the parts of each unit."""
        numbers: list[list[int]] = [[] for _ in self.units]
        for number, part in enumerate(self.pieces.parts):
            numbers[part.unit].append(number)
        return numbers

    def bands(self) -> list[Band]:
        """All that is to be done, in an order that is good for one process."""
        return [band for plane in range(len(self.scales)) for band in bands_of(self.plan, self.units, plane)]

    def missing(self) -> list[Band]:
        """Bands of which a piece is missing."""
        return [band for band in self.bands() if self.missing_units(band)]

    def missing_units(self, band: Band) -> list[int]:
        """Units of a band of which a piece is missing."""
        done = self.pieces.done(band.plane, "classes")
        return [unit for unit in range(band.first, band.stop) if not done.issuperset(self.numbers[unit])]

    def save(self) -> None:
        """Write it down in its folder, for `open_job`."""
        write_json(self.folder / FILE, {**asdict(self), "folder": None})


def open_job(folder: Path) -> Job:
    """Take up the job of a folder.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    try:
        known: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        plan = known["plan"] | {"tiles": [_tile(tile) for tile in known["plan"]["tiles"]]}
        return Job(
            **known
            | {
                "folder": folder,
                "plan": Plan(**plan),
                "rows": tuple(known["rows"]),
                "shape_yx": tuple(known["shape_yx"]),
                "scales": tuple(
                    GreyScale(tuple(one["low"]), tuple(one["high"]), one["limit"]) for one in known["scales"]
                ),
            }
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: holds no job that can be gone on with ({error}); start again.") from error


def _tile(tile: dict[str, dict[str, int]]) -> Tile:
    return Tile(Span(**tile["y"]), Span(**tile["x"]))
