from __future__ import annotations

import importlib.metadata
import json
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_matseg
import napari_matseg.core

ROOT = Path(__file__).parents[1]
SKIN = {"magicgui", "napari", "qtpy", "superqt"}
HEAVY = {"segmentation_models_pytorch", "timm", "torch", "torchvision"}


def imported_by(*modules: str) -> set[str]:
    """Top-level packages that a fresh interpreter loads for these modules."""
    code = (
        "import importlib, json, sys; before = set(sys.modules)\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing_of_weight() -> None:
    assert not imported_by("napari_matseg") & (HEAVY | SKIN | {"numpy", "pydantic", "scipy", "skimage", "typer"})


# They define modules of torch's, or work with nothing else, and are imported only where one is needed.
NETWORKS = {
    f"napari_matseg.core.{name}"
    for name in (
        *("mix_transformer", "networks", "tokens", "vit_adapter"),
        *("prompt_check", "prompt_losses", "prompt_train", "sam.compact", "sam.tiny_vit"),
        *("exporting.onnx_network", "shared_norm"),
        *("refine.network", "refine.train"),
        *(f"staged.{name}" for name in ("describe", "layers", "merge", "ops", "reader", "resizing")),
        *(f"staged.{name}" for name in ("run", "shelf", "stages", "totals", "trace")),
    )
}


def test_core_loads_neither_torch_nor_the_skin() -> None:
    core = [module.name for module in pkgutil.walk_packages(napari_matseg.core.__path__, "napari_matseg.core.")]
    assert set(core) > NETWORKS
    core = [name for name in core if name not in NETWORKS]
    assert not imported_by(*core, "napari_matseg.pipeline") & (HEAVY | SKIN | {"typer"})


def test_command_line_starts_without_torch_and_napari() -> None:
    assert not imported_by("napari_matseg.cli") & (HEAVY | SKIN)


def test_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("napari-matseg") == napari_matseg.__version__


def test_all_can_be_had() -> None:
    for name in napari_matseg.__all__:
        assert getattr(napari_matseg, name) is not None


def test_manifest_names_what_exists() -> None:
    manifest = PluginManifest.from_distribution("napari-matseg")
    assert manifest.name == "napari-matseg"
    manifest.validate_imports()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.parametrize("name", ["py.typed", "napari.yaml"])
def test_wheel_holds(wheel: zipfile.ZipFile, name: str) -> None:
    assert f"napari_matseg/{name}" in wheel.namelist()


@pytest.mark.parametrize("model", ["superalloy", "particles"])
def test_wheel_ships_models_of_at_most_16_mb(wheel: zipfile.ZipFile, model: str) -> None:
    assert wheel.getinfo(f"napari_matseg/models/{model}.safetensors").file_size <= 16_000_000


def test_no_file_in_git_is_over_25_mb() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert not [file for file in files if file.is_file() and file.stat().st_size > 25_000_000]
