from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.core.samples import DRAWN, PUBLIC, fetch_set, pairs, samples_folder, source_of, write_sample
from napari_matseg.errors import InputError, ModelError, OutputError


def last_note(work) -> tuple[Path, str]:
    note = ""
    while True:
        try:
            note = next(work).note
        except StopIteration as stop:
            return stop.value, note


@pytest.mark.parametrize(("name", "images"), [("emps", ["00655d9628", "0113230c21"]), ("nasa", ["04#3_S1", "spot3"])])
def test_a_set_is_fetched_unpacked_and_paired(public_sets, name, images):
    folder, note = last_note(fetch_set(name))
    assert folder == public_sets / name == samples_folder() / name
    found = pairs(name, folder)
    assert [image.stem for image, _ in found] == images
    assert all(read(image).shape_yx == read(truth).shape_yx == (24, 32) for image, truth in found)
    assert (folder / "LICENSE").read_bytes() == b"MIT"
    assert not (folder / "setup.py").exists()
    assert not list(folder.rglob("dog.jpeg"))
    assert sorted(path.name for path in public_sets.iterdir()) == [name]
    source = json.loads((folder / "SOURCE.json").read_text())
    assert source["licence"] == "MIT"
    assert source["address"] == PUBLIC[name].address
    assert "licence MIT" in note
    assert f"sha256 of the archive {source['sha256']}, not checked, since its source states none" in note


def test_a_set_that_is_here_is_not_fetched_again(public_sets, monkeypatch):
    folder = finish(fetch_set("emps"))
    monkeypatch.setattr("napari_matseg.core.samples.download", None)
    assert finish(fetch_set("emps")) == folder


def test_where_a_checksum_is_known_it_is_held_to(public_sets, monkeypatch, tmp_path):
    folder = finish(fetch_set("emps", tmp_path / "one"))
    sha256 = source_of(folder)["sha256"]
    assert len(sha256) == len(hashlib.sha256().hexdigest())
    monkeypatch.setitem(PUBLIC, "emps", replace(PUBLIC["emps"], sha256=sha256))
    _, note = last_note(fetch_set("emps", tmp_path / "two"))
    assert note.endswith(f"{sha256}, as expected")
    monkeypatch.setitem(PUBLIC, "emps", replace(PUBLIC["emps"], sha256="0" * 64))
    with pytest.raises(ModelError, match="gave another file than expected"):
        finish(fetch_set("emps", tmp_path / "three"))
    assert not (tmp_path / "three").exists()


def test_an_archive_of_another_commit_is_refused(public_sets, monkeypatch, tmp_path):
    monkeypatch.setitem(PUBLIC, "emps", replace(PUBLIC["emps"], commit="f" * 40))
    with pytest.raises(InputError, match="is not the archive expected"):
        finish(fetch_set("emps", tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_a_folder_of_something_else_stays_as_it_is(public_sets, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="is there already, and is not this set"):
        finish(fetch_set("emps", tmp_path / "mine"))


def test_what_the_server_does_not_have_can_be_got_by_hand(public_sets, monkeypatch, tmp_path):
    monkeypatch.setitem(PUBLIC, "emps", replace(PUBLIC["emps"], address=PUBLIC["emps"].address + "x"))
    with pytest.raises(ModelError, match=r"404.*get it with a browser and save it as a\.zip in"):
        finish(fetch_set("emps", tmp_path / "a"))


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_source_that_makes_no_sense_is_none(tmp_path, content):
    (tmp_path / "SOURCE.json").write_text(content)
    assert source_of(tmp_path) is None


def test_what_is_listed_has_licence_and_pinned_address():
    for one in PUBLIC.values():
        assert one.licence
        assert "doi" in one.citation
        assert one.address.startswith("https://github.com/")
        assert one.commit in one.address
        assert one.licence in one.describe()
        assert one.address in one.describe()


@pytest.mark.parametrize("kind", DRAWN)
def test_drawn_samples_have_pixel_size_and_truth(tmp_path, kind):
    image, truth = write_sample(kind, tmp_path / "new", seed=1)
    micrograph = read(image)
    assert micrograph.pixel_size_nm is not None
    assert micrograph.pixel_size_from == "tag 34680 or 34682"
    assert micrograph.data_bar is not None
    assert read(truth).shape_yx == micrograph.shape_yx


def test_no_such_sample(tmp_path):
    with pytest.raises(InputError, match="cells: is no sample; there are particles, superalloy, cracks, emps, nasa"):
        write_sample("cells", tmp_path)
    with pytest.raises(InputError, match="cells: is none of the public sets; these are emps, nasa"):
        finish(fetch_set("cells", tmp_path))
