"""What ONNX Runtime computes as a network of torch, and a network of torch as what ONNX Runtime is to compute."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from napari_matseg.core.exporting.extra import need
from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_matseg.core.checkpoints import Model

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
MEMORY_SHARE = 0.5  # of what is free: a larger image is refused, upon which smaller tiles are made
ONLY_LOGGED_ERRORS = 3


class OnnxNetwork(torch.nn.Module):
    """A session of ONNX Runtime in the place of a network.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    stride : int
        Of the network.
    bytes_per_pixel : float
        Memory that it takes for each pixel of an image.
    """

    def __init__(self, session: Any, stride: int, bytes_per_pixel: float) -> None:
        super().__init__()
        self.session = session
        self.encoder = SimpleNamespace(output_stride=stride)
        self.bytes_per_pixel = bytes_per_pixel

    @property
    def engine(self) -> str:
        """What computes, in words."""
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__}, {self.session.get_providers()[0]}, float32"

    def forward(self, image: Tensor) -> Tensor:
        """(batch, channels, height, width) -> scores, as of the network that was exported.

        Raises
        ------
        MemoryError
            If it takes more than there is.
        """
        import psutil

        batch, _, height, width = image.shape
        if batch * height * width * self.bytes_per_pixel > MEMORY_SHARE * psutil.virtual_memory().available:
            raise MemoryError(f"out of memory for {batch} x {height} x {width} px")
        values = image.detach().float().cpu().contiguous().numpy()
        try:
            probabilities, *depth = (torch.from_numpy(maps) for maps in self.session.run(None, {"image": values}))
        except Exception as error:
            if "allocate" in str(error):  # it has no error of its own for this
                raise MemoryError(str(error)) from error
            raise
        # Scores whose softmax and sigmoid are what the graph gives.
        scores = [probabilities.clamp(min=torch.finfo(torch.float32).tiny).log_(), *(one.logit(1e-7) for one in depth)]
        return torch.cat(scores, dim=1).to(image.device)


def open_session(content: bytes, device: str) -> Any:
    """Open a session of ONNX Runtime with as many threads as torch has.

    Parameters
    ----------
    content : bytes
        Of a file; so nothing beside it is read.
    device : str
        "cpu" or "cuda", with or without a number.

    Raises
    ------
    ModelError
        If ONNX Runtime is not here, or not for this device.
    """
    runtime = need("onnxruntime", "an ONNX model")
    kind, _, number = device.partition(":")
    provider = PROVIDERS.get(kind)
    if provider not in runtime.get_available_providers():
        raise ModelError(
            f"the onnxruntime that is installed does not compute on {kind}; choose device cpu, or for a GPU of NVIDIA "
            "install onnxruntime-gpu in its place."
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ONLY_LOGGED_ERRORS
    chosen: list[Any] = [provider]
    if kind == "cuda":
        chosen = [(provider, {"device_id": int(number or 0)}), PROVIDERS["cpu"]]
    return runtime.InferenceSession(content, options, providers=chosen)


class Probabilities(torch.nn.Module):
    """The network of a model with what makes probabilities of its scores.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.n_classes = len(model.card.classes)
        self.names = ["probabilities", *(["depth"] if model.card.distance else [])]
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(batch, channels, height, width) -> (batch, classes, height, width) and, if there is depth, that."""
        scores = self.network(image)
        probabilities = scores[:, : self.n_classes].softmax(dim=1)
        return (probabilities, *([scores[:, self.n_classes :].sigmoid()] if len(self.names) > 1 else []))
