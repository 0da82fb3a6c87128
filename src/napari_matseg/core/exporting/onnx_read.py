"""ONNX files of this package as models: the network is then ONNX Runtime's, and all else stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_matseg.core.checkpoints import CARD_KEY, Model, ModelCard, hash_weights, validate_card
from napari_matseg.core.exporting.extra import need
from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def read_onnx_card(path: Path) -> ModelCard:
    """Card of an ONNX file, as `core.checkpoints.read_card` gives it.

    Raises
    ------
    ModelError
        If the file is damaged or not written by this package.
    """
    return _card(path, _parse(path, path.read_bytes()))


def load_onnx(path: Path, device: str = "cpu") -> Model:
    """Load an ONNX file of this package as a model.

    Parameters
    ----------
    path : Path
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If the file is damaged, was changed or is not of this package; if ONNX Runtime is not here or cannot use it.
    """
    from napari_matseg.core.exporting.onnx_network import OnnxNetwork, open_session

    content = path.read_bytes()
    graph = _parse(path, content)
    card = _card(path, graph)
    if hash_tensors(graph) != card.weights_sha256:
        raise ModelError(f"{path}: the weights are not those its card was written for (sha256); export it again.")
    known = {prop.key: prop.value for prop in graph.metadata_props}
    try:
        session = open_session(content, device)
        network = OnnxNetwork(session, int(known["stride"]), float(known["bytes_per_pixel"]))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # ONNX Runtime's are its own, and bare
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: ONNX Runtime cannot use it ({first}); export it again.") from error
    return Model(network.eval(), card, path)


def hash_tensors(graph: Any) -> str:
    """Sha256 of the weights of an onnx.ModelProto, as `core.checkpoints.hash_weights` makes it."""
    import torch

    numpy_helper = need("onnx.numpy_helper", "an ONNX model")
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.graph.initializer}
    return hash_weights(tensors)


def _parse(path: Path, content: bytes) -> Any:
    onnx = need("onnx", f"{path}: an ONNX model")
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors differ between its versions
        raise ModelError(f"{path}: is not an ONNX file or is damaged ({error}); export it again.") from error


def _card(path: Path, graph: Any) -> ModelCard:
    written = {prop.key: prop.value for prop in graph.metadata_props}.get(CARD_KEY)
    if written is None:
        raise ModelError(
            f"{path}: holds a network but no napari-matseg card, so what it is for is unknown; use a file written by "
            "napari-matseg export-model."
        )
    return validate_card(path, written)
