from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from napari_matseg.core.checkpoints import Model

ROOT = Path(__file__).parents[1]
collect_ignore = ["core/check_bioimage.py"]  # a program of its own
CANVAS_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}

# torch and huggingface_hub read these when they are first imported, which is after this file.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Qt's own offscreen platform crashes at napari's first layer; pytest-xvfb gives a real screen instead.
os.environ.pop("QT_QPA_PLATFORM", None)

# Mesa's software OpenGL puts its LLVM before triton's: triton, which torchvision imports, then ends the process with a
# segmentation fault if it is loaded after the first canvas (tensorflow/tensorflow#124205 is the same clash).
with contextlib.suppress(ImportError):
    import triton._C.libtriton  # noqa: F401

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that needs a screen where there is none: Qt would end the whole run with an abort."""
    needs_screen = CANVAS_FIXTURES & set(getattr(item, "fixturenames", ()))
    has_screen = not sys.platform.startswith("linux") or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}
    if needs_screen and not has_screen:
        pytest.fail("no screen for Qt: install Xvfb (.ci/run lists the packages)", pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real micrographs, which is not part of the repository."""
    folder = Path(os.environ.get("NAPARI_MATSEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set NAPARI_MATSEG_DATA)")
    return folder


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    """Make a tiny model with random weights; the same one for the same arguments."""
    from napari_matseg.core.checkpoints import Model, ModelCard
    from napari_matseg.settings import ArchitectureSettings, ClassSpec

    @cache
    def make(encoder: str = "tu-resnet10t", *, fold: int = 1, in_channels: int = 1, distance: bool = False) -> Model:
        import torch

        from napari_matseg.core.architectures import build_network, measure_reach

        architecture = ArchitectureSettings(
            encoder=encoder,
            in_channels=in_channels,
            encoder_depth=3,
            fold=fold,
            options={"decoder_channels": [16, 8, 8]},
        )
        classes = tuple(ClassSpec(name=name, colour=(20 * i, 0, 0)) for i, name in enumerate(("matrix", "a", "b")))
        card = ModelCard(name="tiny", classes=classes, distance=distance, architecture=architecture)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build_network(architecture, card.out_channels).eval()
            image = torch.randn(1, in_channels * fold**2, 64, 64)
        network.requires_grad_(False)
        inner = network.network if fold > 1 else network
        # Spread the scores, so that every class comes up and probabilities differ.
        scores = inner(image)
        head = inner.segmentation_head[0]
        mean, spread = scores.mean(dim=(0, 2, 3)), scores.std()
        head.bias.copy_((head.bias - mean) / spread)
        head.weight.div_(spread)
        return Model(network, card.model_copy(update={"reach": measure_reach(network, in_channels)}))

    return make


@pytest.fixture(scope="session")
def tiny_file(make_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a tiny model with random weights and the classes matrix, a and b; not to be written to."""
    from napari_matseg.core.checkpoints import save_model

    model = make_model()
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(path, model.network, model.card)
    return path


@pytest.fixture(scope="session")
def onnx_source(make_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a tiny model with a distance output; not to be written to."""
    from napari_matseg.core.checkpoints import save_model

    model = make_model(distance=True)
    more = {"halo": 8, "licence": "MIT", "pixel_size_nm": 2.5, "data_source": "none, doi 10.1000/182."}
    path = tmp_path_factory.mktemp("models") / "source.safetensors"
    save_model(path, model.network, model.card.model_copy(update=more))
    return path


@pytest.fixture(scope="session")
def onnx_model(onnx_source: Path) -> Model:
    """The model that `onnx_file` holds."""
    from napari_matseg.core.checkpoints import load_model

    return load_model(onnx_source)


@pytest.fixture(scope="session")
def onnx_file(onnx_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a tiny model; not to be written to."""
    from napari_matseg.core.exporting.onnx_write import export_onnx

    return export_onnx(onnx_model, tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture
def traced(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph of `onnx_file` instead of tracing the network anew, which takes seconds."""
    import onnx

    from napari_matseg.core.exporting import onnx_write

    monkeypatch.setattr(onnx_write, "_trace", lambda *_: onnx.load(onnx_file))


@pytest.fixture(scope="session")
def make_threshold() -> Callable[..., Model]:
    """Make a model that says class 1 where the normalised grey is above 0, so that what comes out is known."""
    from types import SimpleNamespace

    import torch

    from napari_matseg.core.checkpoints import Model, ModelCard
    from napari_matseg.settings import ArchitectureSettings, ClassSpec

    class Threshold(torch.nn.Module):
        def __init__(self, stride: int, distance: bool) -> None:
            super().__init__()
            self.encoder = SimpleNamespace(output_stride=stride)
            self.distance = distance

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            grey = image.mean(dim=1, keepdim=True)
            depth = [8 * grey - 4] if self.distance else []
            return torch.cat([torch.zeros_like(grey), grey, *depth], dim=1)

    def make(
        in_channels: int = 1, *, stride: int = 8, distance: bool = False, reach: int | None = 0, **card: object
    ) -> Model:
        classes = (ClassSpec(name="dark", colour=(0, 0, 0)), ClassSpec(name="bright", colour=(255, 0, 0)))
        return Model(
            Threshold(stride, distance).eval(),
            ModelCard(
                name="threshold",
                classes=classes,
                distance=distance,
                architecture=ArchitectureSettings(in_channels=in_channels),
                reach=reach,
                **card,
            ),
        )

    return make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; give exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["napari-matseg", *map(str, arguments)])
        from napari_matseg import cli

        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def archive_of(name: str) -> bytes:
    """Tiny archive of the layout of a public set: two images with their truths, and what else such an archive holds."""
    import numpy as np
    import tifffile
    from PIL import Image

    def file_of(array: np.ndarray, kind: str) -> bytes:
        file = io.BytesIO()
        if kind == "png":
            Image.fromarray(array).save(file, "PNG")
        else:
            tifffile.imwrite(file, array, photometric="rgb" if array.ndim == 3 else "minisblack")
        return file.getvalue()

    grey = np.random.default_rng(0).integers(0, 255, (24, 32), dtype=np.uint8)
    ids = (np.arange(24 * 32).reshape(24, 32) // 400).astype(np.uint16)
    mask = np.zeros((24, 32, 3), np.uint8)
    mask[2:5, 3:9], mask[10:14, 3:9], mask[20] = (0, 0, 255), (255, 0, 0), 77
    files = {"README.md": b"read me", "LICENSE": b"MIT", "setup.py": b"not to be kept"}
    if name == "emps":
        for one in ("00655d9628", "0113230c21"):
            files |= {f"images/{one}.png": file_of(grey, "png"), f"segmaps/{one}.png": file_of(ids, "png")}
    else:
        top, grey_file = "benchmark_segmentation_data", file_of(grey, "tif")
        files |= {f"{top}/Super1/train/spot3.tif": grey_file, f"{top}/EBC1/val/04#3_S1.tif": grey_file}
        files |= {f"{top}/Super1/train_annot/spot3_mask.tif": file_of(mask, "tif")}
        files |= {f"{top}/EBC1/val_annot/04#3_S1.tif": file_of((ids > 0).astype(np.uint8), "tif")}
        files |= {f"{top}/EBC1/test/alone.tif": grey_file, "examples/dog.jpeg": b"a dog"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.comment = COMMIT.encode()
        for path, content in files.items():
            zipped.writestr(zipfile.ZipInfo(f"{name}-{COMMIT}/{path}"), content)
    return packed.getvalue()


@pytest.fixture(scope="session")
def sample_server() -> Iterator[str]:
    """Address of a server on this machine that gives out tiny public sets, without a length, as GitHub does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").removesuffix(".zip")
            if name not in ("emps", "nasa"):
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(archive_of(name))

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def public_sets(sample_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the public sets come from that server; gives the folder that they are fetched into."""
    from napari_matseg.core.samples import PUBLIC

    for name, one in PUBLIC.items():
        monkeypatch.setitem(PUBLIC, name, replace(one, address=f"{sample_server}/{name}.zip", commit=COMMIT))
    monkeypatch.setenv("NAPARI_MATSEG_SAMPLES", str(tmp_path / "samples"))
    return tmp_path / "samples"
