from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from napari_matseg.core.checkpoints import Model

ROOT = Path(__file__).parents[1]
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
