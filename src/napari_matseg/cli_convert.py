"""The command that makes files which are fast to look at."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated

import typer

from napari_matseg.terminal import show, warn


def convert(
    image: Annotated[Path, typer.Argument(metavar="IN", help="Micrograph.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .tif is OME-TIFF, .zarr is OME-Zarr.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
) -> None:
    """Write a micrograph as a tiled, compressed file with smaller copies, which viewers show at once."""
    from napari_matseg.core.convert import convert_steps, describe_cost
    from napari_matseg.core.read import read
    from napari_matseg.errors import OutputError

    if out.exists() and not overwrite:
        raise OutputError(f"{out}: is there already; give another name, or --overwrite.")
    micrograph = read(image)
    warn(f"{image}: {describe_cost(micrograph)}.")
    show(convert_steps(micrograph, out), image.name)
    size, before = (sum(file.stat().st_size for file in _files(path)) for path in (out, image))
    print(f"{out}: {size / 1e6:.1f} MB, was {before / 1e6:.1f} MB")


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(convert)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
