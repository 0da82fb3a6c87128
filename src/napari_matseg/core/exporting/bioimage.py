"""A model as a package for bioimage.io, the zoo from which Fiji, ilastik, napari and others take models."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import tifffile
import yaml

from napari_matseg.core.architectures import stride_of
from napari_matseg.core.export import replacing, write_png
from napari_matseg.core.exporting.extra import need
from napari_matseg.core.exporting.onnx_write import OPSET, export_onnx_steps
from napari_matseg.core.overlay import overlay_rgb
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.provenance import hash_file
from napari_matseg.core.synthetic.demo import demo_micrograph
from napari_matseg.core.tile import ceil_to
from napari_matseg.errors import InputError, OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_matseg.core.checkpoints import Model, ModelCard
    from napari_matseg.core.micrograph import Micrograph

FORMAT = "0.5.4"
STEPS = 4
MOST_HALO, HALO_OF_ALL = 256, 128  # px that others cut from tiles; the latter where the network sees the whole image
INNER = 64  # px of the smallest tile that are left then
EPSILON = 1e-9  # against a division by 0; far below any span of grey values

PAPERS = {
    "unet": ("U-Net, Ronneberger et al. 2015", "10.1007/978-3-319-24574-4_28"),
    "deeplabv3": ("DeepLabV3, Chen et al. 2017", "10.48550/arXiv.1706.05587"),
    "deeplabv3plus": ("DeepLabV3+, Chen et al. 2018", "10.1007/978-3-030-01234-2_49"),
    "hrnetv2": ("HRNetV2, Sun et al. 2019", "10.48550/arXiv.1904.04514"),
    "segformer": ("SegFormer, Xie et al. 2021", "10.48550/arXiv.2105.15203"),
    "vit_adapter": ("ViT-Adapter, Chen et al. 2023", "10.48550/arXiv.2205.08534"),
    "fcn": ("FCN, Long et al. 2015", "10.1109/CVPR.2015.7298965"),
    "fpn": ("Feature pyramid network, Lin et al. 2017", "10.1109/CVPR.2017.106"),
}
"""What to cite for each network, with its DOI."""
DOI = re.compile(r"\b10\.\d{4,}/[^\s,;]*[^\s,;.]")


def export_bioimage(
    model: Model,
    path: str | Path,
    authors: Sequence[str],
    *,
    licence: str | None = None,
    sample: Micrograph | None = None,
) -> Path:
    """Write a model as a package; see `export_bioimage_steps`, of which this is the quiet form."""
    return finish(export_bioimage_steps(model, Path(path), authors, licence=licence, sample=sample))


def export_bioimage_steps(
    model: Model, path: Path, authors: Sequence[str], *, licence: str | None = None, sample: Micrograph | None = None
) -> Generator[Progress, None, Path]:
    """Write a model as a package of bioimage.io, whole or not at all.

    It holds the model as ONNX, held against torch as by `core.exporting.onnx_write`; a description with classes,
    normalisation and sizes (https://bioimage-io.github.io/spec-bioimage-io); a test image with the probabilities that
    torch gives for it; the card as README.md; and a cover.

    Parameters
    ----------
    model : Model
        On the CPU.
    path : Path
        File to write, of the ending .zip.
    authors : sequence of str
        Who made the model; at least one.
    licence : str, optional
        Identifier of SPDX, such as BSD-3-Clause; None: that of the card.
    sample : Micrograph, optional
        What a part of goes into the package as test image; None: a synthetic micrograph.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SettingsError
        If there is no author, or the licence is none of SPDX's.
    ModelError
        If the network cannot be written as ONNX.
    InputError
        If the sample is too small, or has not the channels that the model takes.
    OutputError
        If the file cannot be written.
    """
    if path.suffix.lower() != ".zip":
        raise OutputError(f"{path}: a package of bioimage.io ends in .zip; give it such a name.")
    if not authors:
        raise SettingsError("bioimage.io asks who made a model; name at least one author.")
    licence = _known_licence(model.card.licence if licence is None else licence)
    shape = _Shape.of(model)
    grey_cyx = _grey(model, shape, sample)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for step in export_onnx_steps(model, folder / "model.onnx"):
            yield Progress(step.done, STEPS, step.note)
        yield Progress(STEPS - 1, STEPS, "packing")
        _write_parts(folder, model, grey_cyx)
        described = _describe(folder, model, shape, authors, licence)
        (folder / "rdf.yaml").write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True), "utf-8")
        with replacing(path) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as package:
            for part in sorted(folder.iterdir()):
                package.write(part, part.name)
    return path


def _known_licence(licence: str) -> str:
    """Check that bioimage.io knows a licence."""
    licenses = need("packaging.licenses", "a package for bioimage.io")
    try:
        return str(licenses.canonicalize_license_expression(licence or "none"))
    except ValueError as error:
        raise SettingsError(
            f"licence {licence!r} is no identifier of SPDX, which bioimage.io asks for; say one such as BSD-3-Clause, "
            "MIT or CC-BY-4.0."
        ) from error


class _Shape(NamedTuple):
    """Sides of images, in pixels."""

    stride: int
    halo: int
    smallest: int

    @classmethod
    def of(cls, model: Model) -> _Shape:
        stride, card = stride_of(model.network), model.card
        needed = next((one for one in (card.halo, card.reach) if one is not None), HALO_OF_ALL)
        halo = max(1, min(needed, MOST_HALO))
        return cls(stride, halo, ceil_to(2 * halo + INNER, stride))


def _grey(model: Model, shape: _Shape, sample: Micrograph | None) -> np.ndarray:
    """Grey values of the test image, (channels, side, side), float32."""
    channels, side = model.card.architecture.in_channels, shape.smallest
    if sample is None:
        drawn = demo_micrograph("superalloy" if len(model.card.classes) > 2 else "particles", shape=(side, side))
        return np.repeat(drawn.sample.image_yx[None, :side], channels, axis=0).astype(np.float32)
    image_cyx = sample.plane(0, channels)[:, sample.content_rows]
    height, width = image_cyx.shape[1:]
    if min(height, width) < side:
        raise InputError(
            f"{sample.name}: the test image of this model needs {side} x {side} px, and this has {height} x {width} "
            "without its data bar; choose a larger one, or none."
        )
    top, left = (height - side) // 2, (width - side) // 2
    return image_cyx[:, top : top + side, left : left + side].astype(np.float32)


def _write_parts(folder: Path, model: Model, grey_cyx: np.ndarray) -> None:
    """Write what goes into the package beside the network."""
    import torch

    from napari_matseg.core.exporting.onnx_network import Probabilities

    card = model.card
    # As those do it who read the description, which differs from ours by where between two grey values a percentile is.
    low, high = np.percentile(grey_cyx, (card.normalise.low, card.normalise.high), axis=(1, 2), keepdims=True)
    scaled = np.clip((grey_cyx - low) / (high - low + EPSILON) * 2 - 1, -card.normalise.limit, card.normalise.limit)
    outputs = Probabilities(model)
    with torch.inference_mode():
        found = outputs(torch.from_numpy(scaled.astype(np.float32))[None])
    arrays = {"image": grey_cyx} | {name: maps[0].numpy() for name, maps in zip(outputs.names, found, strict=True)}
    for name, array_cyx in arrays.items():
        np.save(folder / f"test_{name}.npy", array_cyx[None])
        tifffile.imwrite(folder / f"sample_{name}.tif", array_cyx, photometric="minisblack", compression="zlib")
    labels_yx = found[0][0].numpy().argmax(axis=0).astype(np.uint8)
    grey_yx = grey_cyx.mean(axis=0)
    halves = [overlay_rgb(grey_yx, labels, card.classes)[: len(grey_yx)] for labels in (labels_yx * 0, labels_yx)]
    write_png(folder / "cover.png", np.concatenate(halves, axis=1))
    (folder / "README.md").write_text(_readme(card), encoding="utf-8")


def _readme(card: ModelCard) -> str:
    reach = "the whole image" if card.reach is None else f"{card.reach} px"
    return (
        f"{card.to_markdown()}\n"
        "## Validation\n\n"
        "Segment micrographs that were not trained on, whose truth is known, and compare class by class: the IoU, the "
        "pixels that truth and result share over those that either has, is given above for the training's own split. "
        "Do so for a few micrographs of your own before you trust the model.\n\n"
        "## Use\n\n"
        "Grey values are scaled by the percentiles of the whole micrograph, never of a tile. The data bar is to be cut "
        f"off first. The network sees {reach}: where seams show, cut more than the halo of the description from tiles. "
        "With napari-matseg: `napari-matseg segment IMAGE --model model.onnx`.\n"
    )


def _describe(folder: Path, model: Model, shape: _Shape, authors: Sequence[str], licence: str) -> dict[str, Any]:
    """Give the description, as rdf.yaml has it."""
    card, grey = model.card, model.card.normalise
    n_channels = card.architecture.in_channels
    given = {"probabilities": [spec.name for spec in card.classes]} | ({"depth": ["depth"]} if card.distance else {})
    meant = {"probabilities": "Probability of each class", "depth": "Depth inside the object, from 0 at its edge to 1"}
    paper, doi = PAPERS[card.architecture.name]
    cited = {doi: paper} | dict.fromkeys(DOI.findall(card.data_source), card.data_source)

    def file(name: str) -> dict[str, Any]:
        return {"source": name, "sha256": hash_file(folder / name)}

    def axes(channels: Sequence[str], **size: Any) -> list[dict[str, Any]]:
        first: list[dict[str, Any]] = [{"type": "batch"}, {"type": "channel", "channel_names": list(channels)}]
        return [*first, *({"type": "space", "id": side} | {key: of(side) for key, of in size.items()} for side in "yx")]

    def tensors(name: str) -> dict[str, Any]:
        return {"test_tensor": file(f"test_{name}.npy"), "sample_tensor": file(f"sample_{name}.tif")}

    return {
        "format_version": FORMAT,
        "type": "model",
        "name": re.sub(r"[^A-Za-z0-9_+() -]", "_", f"{card.name} (napari-matseg)"),
        "description": card.description[:1024],
        "authors": [{"name": name} for name in authors],
        "license": licence,
        "cite": [{"text": text, "doi": found} for found, text in cited.items()],
        "tags": ["segmentation", "electron-microscopy", "materials-science", "2d", "napari", card.architecture.name],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "documentation": "README.md",
        "covers": ["cover.png"],
        "inputs": [
            {
                "id": "image",
                "description": "Grey values of a micrograph, as they were read, without the data bar",
                "axes": axes(
                    ["grey"] if n_channels == 1 else [f"channel {i}" for i in range(n_channels)],
                    size=lambda _: {"min": shape.smallest, "step": shape.stride},
                ),
                **tensors("image"),
                "data": {"type": "float32"},
                "preprocessing": [
                    {
                        "id": "scale_range",
                        "kwargs": {
                            "axes": ["y", "x"],
                            "min_percentile": grey.low,
                            "max_percentile": grey.high,
                            "eps": EPSILON,
                        },
                    },
                    {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}},
                    {"id": "clip", "kwargs": {"min": -grey.limit, "max": grey.limit}},
                ],
            }
        ],
        "outputs": [
            {
                "id": name,
                "description": meant[name],
                "axes": axes(
                    channels,
                    size=lambda side: {"tensor_id": "image", "axis_id": side},
                    halo=lambda _: shape.halo,
                ),
                **tensors(name),
                "data": {"type": "float32", "range": [0.0, 1.0]},
            }
            for name, channels in given.items()
        ],
        "weights": {"onnx": file("model.onnx") | {"opset_version": OPSET}},
        "config": {"napari_matseg": {"card": card.model_dump(mode="json")}},
    }
