from __future__ import annotations

import unicodedata
from itertools import permutations
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.running.names import ENDING_BYTES, RESERVED, alike, name_all, natural

HERE = PurePath()


def names(*files: str, folder: PurePath = HERE) -> dict[str, str]:
    paths = [Path("/data", file) for file in files]
    return dict(zip(files, name_all([(path, folder) for path in paths]), strict=True))


def test_a_name_is_that_of_the_file_without_its_ending() -> None:
    found = names("a.tif", "Probe 3.OME.TIFF", "scan.zarr", "1.5 kV", "v1.2.png")
    assert list(found.values()) == ["a", "Probe 3", "scan", "1.5 kV", "v1.2"]
    assert names("a.tif", folder=PurePath("s 1/x"))["a.tif"] == "s 1/x/a"


def test_one_stem_in_several_formats() -> None:
    assert names("a.tif", "a.png", "b.tif") == {"a.tif": "a_tif", "a.png": "a_png", "b.tif": "b"}
    assert names("a.tif", "a.ome.tif", "a") == {"a.tif": "a_tif", "a.ome.tif": "a_ome_tif", "a": "a"}


def test_files_of_one_name_from_several_folders() -> None:
    assert names("s1/a.tif", "s2/a.tif") == {"s1/a.tif": "s1/a", "s2/a.tif": "s2/a"}
    found = names("s1/x/a.tif", "s2/x/a.tif")
    assert all(name.startswith("a-") for name in found.values())
    assert len(set(found.values())) == 2


@pytest.mark.parametrize(
    "twins",
    [
        ("A.tif", "a.tif"),
        (unicodedata.normalize("NFC", "é.tif"), unicodedata.normalize("NFD", "é.tif")),
        ("a?.tif", "a*.tif"),
        ("a_tif.png", "a.tif", "a.png"),
        ("x" * 300 + "1.tif", "x" * 300 + "2.tif"),
        ("straße.tif", "STRASSE.tif"),
        ("x.tif", "x_uncleaned.tif"),  # x_uncleaned_labels.tif could be of either
    ],
)
def test_names_never_meet_and_do_not_depend_on_the_order(twins: tuple[str, ...]) -> None:
    found = names(*twins)
    assert len({alike(name).removesuffix("_uncleaned") for name in found.values()}) == len(twins)
    for order in permutations(twins):
        assert names(*order) == found


@pytest.mark.parametrize(
    "stem", [*sorted(RESERVED), "CON.x", "Nul ", "a:b", "a ", "a.", ".hidden", "a\udcff", 'q"<>|?*']
)
def test_names_that_windows_forbids(stem: str) -> None:
    (name,) = names(f"{stem}.tif").values()
    assert not set(name) & set('<>:"/\\|?*')
    assert name[-1] not in ". "
    assert name[0] != "."
    assert name.split(".")[0].rstrip().lower() not in RESERVED
    name.encode()  # is text
    (name,) = names("a.tif", folder=PurePath(stem)).values()
    assert name.removesuffix("/a").split(".")[0].rstrip().lower() not in RESERVED


def test_long_names_are_cut_between_letters() -> None:
    name = names("ä" * 120 + ".tif")["ä" * 120 + ".tif"]
    assert len(name.encode()) in (255 - ENDING_BYTES, 254 - ENDING_BYTES)
    assert name.startswith("ä" * 101)
    assert names("a.tif", folder=PurePath("f" * 300))["a.tif"].index("/") == 255 - ENDING_BYTES


letters = st.text(st.sampled_from("aAbé\u0301.:_ "), min_size=1, max_size=4)
files = st.tuples(st.sampled_from(["x", "y/x", "Y/x"]), letters, st.sampled_from(["", ".tif", ".png", ".ome.tif"]))


@given(st.lists(files, unique=True, max_size=12), st.randoms(use_true_random=False))
def test_any_files_get_names_of_their_own(parts: list[tuple[str, str, str]], random: object) -> None:
    found = [(Path("/", folder, stem + suffix), PurePath()) for folder, stem, suffix in parts]
    found = [(path, folder) for path, folder in dict.fromkeys(found) if path.name]
    named = dict(zip([path for path, _ in found], name_all(found), strict=True))
    assert len({alike(name) for name in named.values()}) == len(named)
    random.shuffle(found)  # type: ignore[attr-defined]
    assert dict(zip([path for path, _ in found], name_all(found), strict=True)) == named


def test_numbers_sort_as_numbers() -> None:
    order = ["x", "img_10", "img_100", "img_2", "Img_11", "img_10a"]
    assert sorted(order, key=natural) == ["img_2", "img_10", "img_10a", "Img_11", "img_100", "x"]
    assert sorted(["a", "1", "b1"], key=natural) == ["1", "a", "b1"]
