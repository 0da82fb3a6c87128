from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.sam import zoo
from napari_matseg.core.sam.networks import LAYOUTS
from napari_matseg.core.sam.zoo import ZOO, ZooEntry, fetch, how_to_get, promptable_folder
from napari_matseg.errors import ModelError


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "own models"))
    return tmp_path / "own models"


@pytest.mark.parametrize(("name", "entry"), ZOO.items())
def test_entries(name: str, entry: ZooEntry) -> None:
    assert entry.address.startswith("https://")
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert Path(entry.file).name == entry.file
    assert Path(entry.file).suffix in {".pth", ".pt"}
    assert 30 < entry.megabytes < 3000
    assert entry.licence
    assert entry.purpose
    assert name[:5] in LAYOUTS


def test_files_are_told_apart() -> None:
    assert len({entry.file for entry in ZOO.values()}) == len({entry.address for entry in ZOO.values()}) == len(ZOO)


def test_what_is_called_official_can_be_checked() -> None:
    assert all(ZOO[name].sha256 for name in LAYOUTS)


def test_folder_is_within_that_of_the_other_models(own_models: Path) -> None:
    assert promptable_folder() == own_models / "promptable"


def test_how_to_get_a_model(own_models: Path) -> None:
    assert how_to_get("vit_b") == (
        "get it with napari-matseg models --get vit_b (375 MB), or save "
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth as sam_vit_b_01ec64.pth in "
        f"{own_models / 'promptable'}"
    )


def test_described_for_a_reader() -> None:
    text = ZOO["vit_t"].describe("vit_t")
    for part in ("# vit_t", "MobileSAM", "Licence: Apache-2.0.", "41 MB", ZOO["vit_t"].sha256, ZOO["vit_t"].address):
        assert part in text
    assert "cannot be checked" in ZOO["vit_b_em_organelles"].describe("vit_b_em_organelles")


def test_unknown_model() -> None:
    with pytest.raises(ModelError, match="vit_x: is none of the models that can be fetched; these are vit_b, vit_l"):
        next(fetch("vit_x"))


class Source:
    """Stands in for the download, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Path, str | None]] = []

    def __call__(self, address: str, path: Path, sha256: str | None):
        self.asked.append((address, path, sha256))
        yield Progress(1, 1, "fetched")
        return path


def test_fetching(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    monkeypatch.setattr(zoo, "download", source)
    assert next(fetch("vit_t")) == Progress(1, 1, "fetched")
    path = finish(fetch("vit_t"))
    assert path == own_models / "promptable" / "mobile_sam.pt"
    assert source.asked == [(ZOO["vit_t"].address, path, ZOO["vit_t"].sha256)] * 2


def test_a_file_put_there_by_hand_is_not_fetched(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"by hand"
    entry = replace(ZOO["vit_b"], address="https://localhost:1/never", sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(ZOO, "vit_b", entry)
    path = own_models / "promptable" / entry.file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert finish(fetch("vit_b")) == path
