from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
CANVAS_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}

# torch and huggingface_hub read these when they are first imported, which is after this file.
os.environ.setdefault("OMP_NUM_THREADS", "2")
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
