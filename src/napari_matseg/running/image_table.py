"""A row for each image of a run, and for each plane of a stack."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from napari_matseg.running.tables import FILE, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pandas import DataFrame

    from napari_matseg.running.states import Outcome

PERCENTILES = ("d10", "d50", "d90")
FIRST = (FILE, "plane", "planes", "state", "reason", "image", "height_px", "width_px", "pixel_height_nm",
         "pixel_width_nm")  # fmt: skip
WHOLE = {"plane", "planes", "height_px", "width_px", "objects"}


def image_table(outcomes: Sequence[Outcome], sizes: Mapping[tuple[str, int], Mapping[str, Any]]) -> DataFrame:
    """Make the table of images.

    Parameters
    ----------
    outcomes : sequence of Outcome
    sizes : mapping of (str, int) to mapping
        `PooledSizes.of_field`; empty where nothing was measured.

    Returns
    -------
    DataFrame
        A row for each plane that was measured, or for each file where nothing was; what is not known of it is missing.

        file : str
            Name of its outputs.
        plane, planes : int
            Which plane, from 0, of how many.
        state, reason : str
            "done", "kept" or "failed", and why it failed.
        image : str
            Path of the input.
        height_px, width_px : int
            Of the whole plane.
        pixel_height_nm, pixel_width_nm : float
        fraction_CLASS, pixels_CLASS : float, int
            Of each class of the run.
        objects : int
            All that were found, those at the edge too.
        d10_u, d50_u, d90_u : float
            Of the sizes, corrected for the edge; u is nm, nm2 or px.
        edge : str
            How they were corrected.
        model : str
        seconds : float
            What the whole file took, in the row of its first plane.
    """
    import pandas as pd

    rows = [row for outcome in outcomes for row in _rows(outcome, sizes)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Columns of one kind stay together, whichever came first.
    alike = [name for kind in ("fraction_", "pixels_") for name in names if name.startswith(kind)]
    quantiles = [name for name in names if name.startswith(PERCENTILES)]
    columns = [*FIRST, *alike, "objects", *quantiles, "edge", "model", "seconds"]
    whole = [name for name in columns if name in WHOLE or name.startswith("pixels_")]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "Int64"))


def sides_of(record: Mapping[str, Any]) -> tuple[int | None, int | None, int]:
    """Height and width of the image of a record, None where it does not tell, and how many planes it has."""
    image = record.get("image") or {}
    sides = dict(zip(str(image.get("axes", "")), image.get("shape", ()), strict=False))
    planes = prod(length for axis, length in sides.items() if axis not in "YXS")
    return sides.get("Y"), sides.get("X"), planes


def _rows(outcome: Outcome, sizes: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[dict[str, Any]]:
    record, name = outcome.record, outcome.source.name
    height, width, planes = sides_of(record)
    about: dict[str, Any] = {
        FILE: printable(name),
        "state": outcome.state,
        "reason": None if outcome.reason is None else printable(outcome.reason),
        "image": printable(str(outcome.source.path)),
        "height_px": height,
        "width_px": width,
        "planes": planes if record else None,
        "model": (record.get("model") or {}).get("name"),
    }
    whole = {"objects": (record.get("objects") or {}).get("n"), "pixels": record.get("pixels")}
    rows = []
    for field in record.get("fields") or [whole]:
        size = field.get("pixel_size_nm") or (record.get("image") or {}).get("pixel_size_nm") or (None, None)
        row = about | {
            "plane": field.get("plane"),
            "objects": field.get("objects"),
            "pixel_height_nm": size[0],
            "pixel_width_nm": size[1],
        }
        pixels = field.get("pixels") or {}
        total = sum(pixels.values())
        row |= {f"fraction_{printable(key)}": n / total for key, n in pixels.items() if total}
        row |= {f"pixels_{printable(key)}": n for key, n in pixels.items()}
        summary = sizes.get((name, field.get("plane", 0)), {})
        row |= {key: value for key, value in summary.items() if key.startswith(PERCENTILES) or key == "edge"}
        rows.append(row)
    rows[0]["seconds"] = round(outcome.seconds, 3)
    return rows
