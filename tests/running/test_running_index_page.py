from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from napari_matseg.errors import OutputError
from napari_matseg.running import index_page
from napari_matseg.running.index_page import page_html, write_page, write_thumbnail
from napari_matseg.running.index_totals import Totals, link
from napari_matseg.running.states import Outcome, Source
from napari_matseg.running.totals import pool_fractions, pool_sizes
from napari_matseg.settings import MeasureSettings

Make = Callable[..., Outcome]
VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects cards, links, pictures, options and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cards: list[dict] = []
        self.links: list[str] = []
        self.pictures: list[dict] = []
        self.options: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "li":
            self.cards.append({"state": given["data-state"], "values": given["data-values"].split(";"), "text": ""})
        elif tag == "a":
            self.links.append(given["href"])
        elif tag == "img":
            self.pictures.append(given)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.text += data
        if "li" in self.open:
            self.cards[-1]["text"] += f"{data} "
        if self.open and self.open[-1] == "option":
            self.options.append(data)


def test_a_card_tells_what_was_found(make_outcome: Make, tmp_path: Path):
    outcome = make_outcome("sample 1/img", [10, 10], [6])
    page = Page(page_html([outcome], "Title", Totals(), tmp_path))
    (card,) = page.cards
    assert (
        card["text"].split()
        == (
            "sample 1/img particle 2.46 % objects 3 D50 22.6 nm image 80 x 60 px, 2 planes state done "
            "objects objects parquet labels overlay record"
        ).split()
    )
    assert [float(value) for value in card["values"]] == pytest.approx([100 * 236 / 9600, 3, 22.5676], rel=1e-4)
    assert page.options[1:4] == ["made in this run", "kept from an earlier run", "failed"]
    assert page.options[4:7] == ["particle (%)", "objects", "D50 (nm)"]


def test_links_lead_to_the_files_wherever_the_folder_is(make_outcome: Make, tmp_path: Path):
    names = ['größe µ/a b#1?%20;"q"\'', "javascript:alert(1)", "日本/<b>&amp;"]
    outcomes = [make_outcome(name, [8]) for name in names]
    page = Page(page_html(outcomes, "t", Totals(), tmp_path))
    urls = [*page.links, *(picture["src"] for picture in page.pictures)]
    assert len(urls) == 3 * 7
    for url in urls:
        assert re.fullmatch(r"[\w.~%/-]+", url, re.ASCII)
        assert (tmp_path / unquote(url)).is_file()
    assert all(f"Result on {name}" == picture["alt"] for name, picture in zip(names, page.pictures, strict=True))
    assert all(picture["loading"] == "lazy" for picture in page.pictures)
    assert all(name in page.text for name in names)


def test_nothing_that_a_name_or_a_reason_holds_becomes_part_of_the_page(failed: Outcome, tmp_path: Path):
    bad = "</script><script>alert(\"1\")</script><li data-state='done'>"
    odd = replace(failed, source=Source(Path(f"/{bad}"), f"{bad}\udce9"), reason=f"{bad}\udce9")
    html = page_html([odd], bad, Totals(notes=(bad,)), tmp_path)
    page = Page(html)
    assert html.count("<script>") == 1
    assert len(page.cards) == 1
    assert f"{bad}\\udce9" in page.cards[0]["text"]
    html.encode("utf-8")


def test_what_failed_comes_first_with_its_reason(make_outcome: Make, failed: Outcome, tmp_path: Path):
    elsewhere = replace(failed, reason="no memory was left.")
    unknown = replace(failed, reason=None)
    page = Page(page_html([make_outcome("a", [8]), failed, elsewhere, unknown], "t", Totals(), tmp_path))
    assert [card["state"] for card in page.cards] == ["failed", "failed", "failed", "done"]
    path = str(Path("/micrographs/bad.tif"))
    assert page.cards[0]["text"].split() == f"bad Failed: {failed.reason}".split()
    assert page.cards[1]["text"].split() == f"bad Failed: no memory was left. {path}".split()
    assert "no reason is known" in page.cards[2]["text"]
    assert not any("failed" in url for url in page.links)
    assert "4 images: 1 made in this run, 3 failed" in page.text


def test_the_note_on_what_failed_is_linked(failed: Outcome, tmp_path: Path):
    (tmp_path / "bad_failed.txt").touch()
    assert Page(page_html([failed], "t", Totals(), tmp_path)).links == ["bad_failed.txt"]


def test_units_have_numbers_of_their_own_to_sort_by(make_outcome: Make, tmp_path: Path):
    outcomes = [make_outcome("a", [8], pixel_nm=None), make_outcome("b", [8]), make_outcome("c")]
    page = Page(page_html(outcomes, "t", Totals(), tmp_path))
    assert page.options[4:8] == ["particle (%)", "objects", "D50 (nm)", "D50 (px)"]
    assert [[value != "" for value in card["values"]] for card in page.cards] == [
        [True, True, False, True],
        [True, True, True, False],
        [True, True, False, False],
    ]
    assert "objects 0 D50 - image" in " ".join(page.cards[2]["text"].split())


def test_objects_without_classes_or_measures_or_pictures_are_shown(make_outcome: Make, tmp_path: Path):
    outcome = make_outcome("a", [8], classes=())
    outcome.record["objects"] = {"n": 1}
    outcome = replace(outcome, files={"labels": outcome.files["labels"], "uncleaned_labels": outcome.files["labels"]})
    page = Page(page_html([outcome], "t", Totals(), tmp_path))
    words = " ".join(page.cards[0]["text"].split())
    assert words == "no picture a objects 1 D50 - (none counts) image 80 x 60 px state done labels"
    no_overlay = make_outcome("b", [8])
    del no_overlay.files["overlay"]
    page = Page(page_html([no_overlay], "t", Totals(), tmp_path))
    assert len(page.pictures) == 1
    assert not any("overlay" in url for url in page.links)
    bare = replace(outcome, record={})
    assert " ".join(Page(page_html([bare], "t", Totals(), tmp_path)).cards[0]["text"].split()) == (
        "no picture a state done labels"
    )


def test_totals_stand_on_top(make_outcome: Make, tmp_path: Path):
    outcomes = [make_outcome("a", [8, 10], state="kept"), make_outcome("b", [6, 18], [5])]
    sizes = pool_sizes(outcomes, {one.source.name: one.files["objects"] for one in outcomes}, MeasureSettings())
    files = {"images": tmp_path / "images.csv", "sizes figure": tmp_path / "sizes.svg"}
    totals = Totals(tuple(pool_fractions(outcomes)), sizes, "number", ("A note.",), files)
    page = Page(page_html(outcomes, "Title", totals, tmp_path))
    top = " ".join(page.text.split())
    assert "2 images: 1 made in this run, 1 kept from an earlier run, none failed · 5 objects · model squares" in top
    assert "A note." in top
    assert "Phase fractions of 3 fields" in top
    assert "Diameter by number, in nm" in top
    assert "5 of 5" in top
    assert {"images.csv", "sizes.svg"} <= set(page.links)
    assert page.pictures[0] == {"src": "sizes.svg", "alt": "Size distribution"}


def test_while_it_goes_on_the_page_says_how_far_it_is(make_outcome: Make, tmp_path: Path):
    outcome = make_outcome("a", [8])
    assert "1 of 7 images so far" in page_html([outcome], "t", Totals(), tmp_path, total=7)
    assert "so far" not in page_html([outcome], "t", Totals(), tmp_path, total=1)
    assert "No image was found." in page_html([], "t", Totals(), tmp_path)


def test_a_page_shows_no_more_than_it_can(
    make_outcome: Make, failed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index_page, "MOST_CARDS", 2)
    page = Page(page_html([make_outcome("a"), make_outcome("b"), failed], "t", Totals(), tmp_path))
    assert [card["state"] for card in page.cards] == ["failed", "done"]
    assert "The first 2 images are shown; the table of images has all 3." in page.text


def test_500_results_make_a_page_of_less_than_a_megabyte(make_outcome: Make, tmp_path: Path):
    outcome = make_outcome("a", [8])
    outcomes = [replace(outcome, source=Source(Path(f"/m/{i}.tif"), f"{i}")) for i in range(500)]
    path = tmp_path / "index.html"
    write_page(path, outcomes, "t", Totals())
    assert path.stat().st_size < 1e6
    assert "http" not in path.read_text(encoding="utf-8")  # nothing comes from elsewhere


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path):
    with pytest.raises(OutputError, match="there is no folder"):
        write_page(tmp_path / "no" / "index.html", [], "t", Totals())


@pytest.mark.parametrize(
    ("shape", "size"), [((1000, 500, 3), (128, 256)), ((100, 50), (50, 100)), ((4000, 2, 3), (1, 256))]
)
def test_a_thumbnail_is_small_and_keeps_its_sides(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]):
    path = tmp_path / "a_thumbnail.jpg"
    write_thumbnail(path, np.full(shape, 200, np.uint8))
    with Image.open(path) as picture:
        assert picture.size == size
        assert picture.format == "JPEG"
        assert abs(np.asarray(picture.convert("L"), int).mean() - 200) < 3
    assert path.stat().st_size < 5000


def test_a_link_leads_out_of_the_folder_of_the_page(tmp_path: Path):
    assert link(tmp_path / "b" / "x.tif", tmp_path / "a") == "../b/x.tif"
