"""The commands about what others trained: pretrained encoders, and networks to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_matseg.errors import SettingsError
from napari_matseg.settings import ArchitectureSettings, NormaliseSettings, make_settings
from napari_matseg.terminal import show, table_lines

if TYPE_CHECKING:
    from napari_matseg.core.encoders.sources import EncoderSource

LISTED = ("tu-resnet10t", "tu-resnet18d", "tu-hrnet_w18", "tu-vit_tiny_patch16_224", "mit_b0")
"""Encoders besides torchvision's and MicroNet's that are listed though nobody asked for them."""


FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="State dict, checkpoint, or folder of save_pretrained.")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the model; else your own models.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(encoders)
    app.command("import-model")(import_)


def encoders(
    encoder: Annotated[
        str | None, typer.Argument(metavar="[ENCODER]", help="Encoder to say more of, such as resnet50.")
    ] = None,
    get: Annotated[str | None, typer.Option(help="Download weights, such as micronet/resnet50.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List pretrained encoders to begin a training with, say more of one, or download one."""
    from napari_matseg.core.encoders.sources import (
        BOTH,
        IMAGENET,
        PRETRAININGS,
        encoder_folder,
        fetch_encoder_steps,
        sources_of,
    )

    if get is not None:
        pretraining, _, name = get.partition("/")
        known = next((one for one in PRETRAININGS if one == pretraining), None)
        if known is None or not name:
            raise SettingsError(
                f"--get: {get} is not of the form PRETRAINING/ENCODER, such as micronet/resnet50; there are "
                f"{', '.join(PRETRAININGS)}."
            )
        print(f"{show(fetch_encoder_steps(name, known), get)}: train with encoder_weights: {known}")
        return
    names = sorted({*IMAGENET, *BOTH}) + list(LISTED) if encoder is None else [encoder]
    found = [source for name in names for source in sources_of(name)]
    if encoder is not None and not found:
        raise SettingsError(f"{encoder}: no pretrained weights are known; give a file as encoder_weights, or none.")
    if as_json:
        print(json.dumps([_described(source) for source in found], indent=2))
    elif encoder is not None:
        print("\n".join(source.describe() for source in found))
    else:
        rows: list[dict[str, Any]] = [
            {"encoder": name} | {one: _state(sources_of(name), one) for one in PRETRAININGS} for name in names
        ]
        print("\n".join(table_lines(rows)))
        print("Other encoders of segmentation-models-pytorch and timm (tu-...): napari-matseg encoders ENCODER.")
        print(f"Weights are kept in {encoder_folder()}.")


def _described(source: EncoderSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "here": str(source.path) if source.here else None,
        "address": source.address,
        "file": source.file,
        "sha256_begins": source.sha256,
        "megabytes": source.megabytes,
        "licence": source.licence,
    }


def _state(sources: list[EncoderSource], pretraining: str) -> str | None:
    """Say in a word whether weights are here; None where there are none."""
    for source in sources:
        if source.pretraining == pretraining:
            return "here" if source.here else "to get" if source.megabytes is None else f"{source.megabytes} MB"
    return None


def import_(
    path: FileArgument,
    name: Annotated[str, typer.Option(help="Of the model to be.")],
    classes: Annotated[str, typer.Option(help="Names in the order of the network's maps, such as matrix,pore.")],
    normalise: Annotated[
        str,
        typer.Option(
            help="What was done to grey values from 0 to 1 before the network: imagenet, percentiles (as here), or "
            "MEAN:STD such as 0.5:0.25 (0:1 for nothing)."
        ),
    ],
    architecture: Annotated[
        str | None, typer.Option(help="unet, deeplabv3, deeplabv3plus, fpn, segformer or another of ours.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Its encoder, such as resnet34.")] = "resnet34",
    channels: Annotated[
        int, typer.Option(min=1, help="Channels that go into it: 3 for colour, also where it saw grey three times.")
    ] = 3,
    depth: Annotated[int, typer.Option(min=3, max=5, help="How often the encoder halves the image.")] = 5,
    options: Annotated[
        str, typer.Option(help="Further arguments of its constructor as JSON, such as '{\"decoder_channels\": 128}'.")
    ] = "{}",
    out: OutOption = None,
    description: Annotated[str, typer.Option(help="For the card.")] = "",
    licence: Annotated[str, typer.Option(help="For the card: of the weights.")] = "",
    data_source: Annotated[str, typer.Option(help="For the card: what it was trained on.")] = "",
    not_for: Annotated[str, typer.Option(help="For the card: what it is no good for.")] = "",
) -> None:
    """Make a model file of a network that segmentation-models-pytorch or PyTorch Lightning wrote."""
    from napari_matseg.core.importing import import_model

    made = None
    if architecture is not None:
        made = make_settings(
            ArchitectureSettings,
            name=architecture,
            encoder=encoder,
            in_channels=channels,
            encoder_depth=depth,
            options=_options(options),
        )
    target = import_model(
        path,
        name,
        [one.strip() for one in classes.split(",")],
        _normalisation(normalise),
        architecture=made,
        out=out,
        description=description,
        licence=licence,
        data_source=data_source,
        not_for=not_for,
    )
    print(f"{target}: segment with --model {target if out else name}")


def _options(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--options: {text} is not JSON ({error}); correct it.") from error
    if not isinstance(found, dict):
        raise SettingsError(f'--options: {text} is not of the form {{"NAME": VALUE}}; correct it.')
    return found


def _normalisation(text: str) -> Any:
    """Read a name, or a mean and a standard deviation."""
    if ":" not in text:
        return text
    try:
        mean, std = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise SettingsError(f"--normalise: {text} is not MEAN:STD, such as 0.5:0.25; correct it.") from error
    # Nothing between black and white may be clipped.
    limit = max(3.0, *(abs(end - mean) / std for end in (0, 1))) if std > 0 else 3.0
    return make_settings(NormaliseSettings, mean=(mean,), std=(std,), limit=limit)
