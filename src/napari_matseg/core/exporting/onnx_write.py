"""A model as an ONNX file, which every ONNX runtime takes without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.architectures import stride_of
from napari_matseg.core.checkpoints import CARD_KEY
from napari_matseg.core.export import replacing
from napari_matseg.core.exporting.extra import need
from napari_matseg.core.exporting.onnx_read import hash_tensors
from napari_matseg.core.plan import bytes_per_pixel
from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import ModelError, OutputError

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.exporting.onnx_network import Probabilities

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference between the probabilities of ONNX Runtime and of torch."""
MOST_CELLS = 1 << 16  # of the stride, along a side; torch wants a bound
CHECKED = ((1, 2, 3), (2, 3, 2))  # batch, and cells along height and width, other than those of the tracing


def export_onnx(model: Model, path: str | Path) -> Path:
    """Write a model as ONNX; see `export_onnx_steps`, of which this is the quiet form."""
    return finish(export_onnx_steps(model, Path(path)))


def export_onnx_steps(model: Model, path: Path) -> Generator[Progress, None, Path]:
    """Write a model as ONNX, whole or not at all, and only if it gives what the model gives.

    The graph takes `image`, float32 of shape (batch, channels, height, width), normalised as the card says; height and
    width are any multiples of the stride. It gives `probabilities`, (batch, classes, height, width), whose sum over
    the classes is 1, and, of a model with a distance output, `depth`, (batch, 1, height, width) from 0 to 1. The
    metadata hold the card and, for other programs, what is needed of it in plain words.

    Parameters
    ----------
    model : Model
        On the CPU.
    path : Path
        File to write, of the ending .onnx.

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
    ModelError
        If the network cannot be written as ONNX, or ONNX Runtime's probabilities differ from torch's by more than
        1e-4.
    OutputError
        If the file cannot be written.
    """
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path}: an ONNX file ends in .onnx; give it such a name.")
    name = model.card.name
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "writing ONNX")
    from napari_matseg.core.exporting.onnx_network import OnnxNetwork, Probabilities

    if isinstance(model.network, OnnxNetwork):
        raise ModelError(f"{model.path}: is ONNX already; export the model that it was made from.")
    yield Progress(0, 3, "tracing the network")
    outputs = Probabilities(model)
    graph = _trace(outputs, model)
    yield Progress(1, 3, "writing")
    _describe(graph, model)
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        yield Progress(2, 3, "comparing with torch")
        worst = _compare(temporary.read_bytes(), outputs, model)
        if not worst <= TOLERANCE:
            raise ModelError(
                f"{path}: not written, as the probabilities of model {name} differ by {worst:.2g} in ONNX Runtime, "
                f"and {TOLERANCE:g} is the most that is let pass; update torch and onnxruntime, or use the model as "
                "it is."
            )
    return path


def _trace(outputs: Probabilities, model: Model) -> Any:
    """Give the graph as an onnx.ModelProto."""
    import torch
    from torch.export import Dim

    stride = stride_of(model.network)
    # Not square and not of one image, so that no size is taken for a constant.
    image = torch.zeros(2, model.card.architecture.in_channels, 2 * stride, 3 * stride)
    height, width = (stride * Dim(side, min=1, max=MOST_CELLS) for side in ("cells_y", "cells_x"))
    try:
        program = torch.onnx.export(
            outputs,
            (image,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=outputs.names,
            dynamic_shapes={"image": {0: Dim("batch"), 2: height, 3: width}},
            external_data=False,
        )
    except Exception as error:  # whatever the exporter meets
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model {model.card.name} cannot be written as ONNX ({first}); use it as it is, or train another network."
        ) from error
    if program is None:
        raise ModelError(f"model {model.card.name} cannot be written as ONNX; use it as it is.")
    graph = program.model_proto
    # Where in which file each layer was made is of no use elsewhere, and names folders of this machine.
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for part in (graph.graph, *graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        part.ClearField("metadata_props")
    for tensor in graph.graph.initializer:
        tensor.ClearField("metadata_props")
    return graph


def _describe(graph: Any, model: Model) -> None:
    """Say in the metadata what a program, and a reader, must know of the model."""
    onnx = need("onnx", "writing ONNX")
    import torch

    card, stride = model.card, stride_of(model.network)
    grey = card.normalise
    own = card.model_copy(update={"weights_sha256": hash_tensors(graph)})
    size = "any, or unknown" if card.pixel_size_nm is None else f"{card.pixel_size_nm:g} nm"
    known = {
        CARD_KEY: own.model_dump_json(),
        "name": card.name,
        "description": card.description,
        "licence": card.licence,
        "not_for": card.not_for,
        "classes": json.dumps([spec.name for spec in card.classes]),
        "normalisation": (
            f"of each channel, over the whole micrograph and not per tile: the percentiles {grey.low:g} and "
            f"{grey.high:g} become -1 and 1, linearly; then clipped to -{grey.limit:g} and {grey.limit:g}"
        ),
        "stride": str(stride),
        "pixel_size": size,
        "reach_px": "the whole image" if card.reach is None else str(card.reach),
        "halo_px": "" if card.halo is None else str(card.halo),
        "opset": str(OPSET),
        "bytes_per_pixel": f"{bytes_per_pixel(model, torch.device('cpu')):.0f}",
        "from_weights_sha256": card.weights_sha256,
    }
    onnx.helper.set_model_props(graph, known)
    graph.doc_string = card.description
    graph.producer_name = "napari-matseg"


def _compare(content: bytes, outputs: Probabilities, model: Model) -> float:
    """Give the largest difference between ONNX Runtime on the CPU and torch, on noise of several sizes."""
    import torch

    from napari_matseg.core.exporting.onnx_network import open_session

    stride, channels = stride_of(model.network), model.card.architecture.in_channels
    session = open_session(content, "cpu")
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, rows, columns in CHECKED:
        image = torch.randn(batch, channels, rows * stride, columns * stride, generator=generator)
        with torch.inference_mode():
            expected = [maps.numpy() for maps in outputs(image)]
        for one, other in zip(session.run(outputs.names, {"image": image.numpy()}), expected, strict=True):
            worst = max(worst, float(np.abs(one - other).max())) if one.shape == other.shape else np.inf
    return worst
