"""The command that writes a model for other programs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from napari_matseg.errors import SettingsError
from napari_matseg.terminal import show

USES = {
    "onnx": "segment with --model {path}, or give it to any ONNX runtime",
    "bioimage": "test it with bioimageio test {path}, or open it in Fiji, ilastik and others",
}


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("export-model")(export_model)


def export_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model, or a model file.")],
    to: Annotated[str, typer.Option(help="onnx, or bioimage for a package of bioimage.io.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .onnx, or .zip for bioimage.")],
    author: Annotated[
        list[str] | None, typer.Option(help="For bioimage: who made the model; several times for several.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="For bioimage: licence of the model, such as BSD-3-Clause; else what its card says."),
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="For bioimage: micrograph for the test image; else a synthetic one.")
    ] = None,
) -> None:
    """Write a model as ONNX or as a package of bioimage.io, checked against what torch computes."""
    from napari_matseg.core.checkpoints import load_model
    from napari_matseg.core.exporting.bioimage import export_bioimage_steps
    from napari_matseg.core.exporting.onnx_write import export_onnx_steps
    from napari_matseg.core.read import read

    if to not in USES:
        raise SettingsError(f"--to {to}: a model can be written as {' or '.join(USES)}; choose one of these.")
    if to == "onnx" and (author or licence or sample):
        raise SettingsError("--author, --licence and --sample are for --to bioimage; leave them out.")
    if to == "onnx":
        work = export_onnx_steps(load_model(model), out)
    else:
        micrograph = None if sample is None else read(sample)
        work = export_bioimage_steps(load_model(model), out, author or [], licence=licence, sample=micrograph)
    path = show(work, model)
    print(f"{path}: {USES[to].format(path=path)}")
