"""A segmentation in a few words."""

from __future__ import annotations

from html import escape

from napari_matseg._napari.parts import FLAG_COLOUR, swatch
from napari_matseg.core.checkpoints import ModelCard
from napari_matseg.pipeline import Segmentation


def summarise(result: Segmentation, card: ModelCard) -> str:
    """Say in rich text what came out, in what time, and what to know of it."""
    record = result.record
    shares = [f"{swatch(spec)}&nbsp;{record['fractions'][spec.name]:.1%}" for spec in result.specs[1:]]
    if result.instances is not None:
        planes = result.instances.reshape(-1, result.instances.shape[-2] * result.instances.shape[-1])
        shares.append(f"{int(planes.max(axis=1).astype(int).sum())} objects")
    *planes_shape, height, width = result.classes.shape
    size = f"{width} x {height} px" + "".join(f" x {n}" for n in planes_shape)
    first, n_tiles = record["planes"][0]["tiling"], sum(plane["tiling"]["tiles"] for plane in record["planes"])
    tiles = f"{n_tiles} tile{'s' if n_tiles != 1 else ''}"
    tiles += {"halo": f", halo {first['halo']} px", "blend": ", blended"}.get(first["strategy"], "")
    lines = [", ".join(shares), f"{size} in {record['seconds']:.1f} s on {record['device']} ({tiles})."]
    start, stop = record["segmented_rows"]
    if stop - start < height:
        rows = f"{stop} to {height - 1}" if start == 0 else f"0 to {start - 1}"
        lines.append(f"The data bar was left out (rows {rows}).")
    if first["strategy"] == "blend" and card.reach is None:
        measured = "an unknown share" if card.disagreement is None else f"{card.disagreement:.2%}"
        lines.append(f"Tiles were blended, which gives {measured} of the pixels another class than one pass over all.")
    lines += [f'<span style="color: {FLAG_COLOUR}">Beware: {escape(one)}</span>' for one in record.get("warnings", ())]
    return "<br>".join(lines)
