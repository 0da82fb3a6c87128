"""The command about sample data: what there is to try things on, and how to get it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_matseg.errors import SettingsError
from napari_matseg.terminal import show

NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which; all are listed else.")]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(samples)


def samples(
    name: NameArgument = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for it; else one of its name, here.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn: another number gives another micrograph.")] = 0,
) -> None:
    """Write sample micrographs with their truth: drawn ones, or a public set, which is fetched."""
    from napari_matseg.core.samples import DRAWN, PUBLIC, fetch_set, pairs, source_of, write_sample

    if name is None:
        lines = ["Drawn here:", *(f"  {key:11} {what}" for key, what in DRAWN.items()), "Fetched on request:"]
        for key, one in PUBLIC.items():
            lines += [f"  {key:11} {one.title}", f"  {'':11} {one.licence}; {one.citation}"]
        print("\n".join(lines))
        return
    folder = out or Path(name)
    if name in PUBLIC:
        print(PUBLIC[name].describe())
        show(fetch_set(name, folder), name)
        sha256 = (source_of(folder) or {}).get("sha256")
        print(f"{folder}: {len(pairs(name, folder))} images with truth; sha256 of the archive {sha256}")
        return
    if name not in DRAWN:
        raise SettingsError(f"{name}: is no sample; there are {', '.join((*DRAWN, *PUBLIC))}.")
    print("\n".join(map(str, write_sample(name, folder, seed))))
