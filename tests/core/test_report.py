from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_matseg.core.figures.plot import Plot, finish, new_figure, styled
from napari_matseg.core.report import FIRST_ROWS, LONGEST, MOST_ENTRIES, report_html, write_report
from napari_matseg.errors import InputError, OutputError
from napari_matseg.settings import ClassSpec

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
LABELS = np.zeros((60, 80), np.uint32)
LABELS[10:30, 20:50] = 2**32 - 1
CLASSES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="<phase>", colour=(0, 0, 255)))


def draw() -> Plot:
    with styled():
        figure = new_figure(1.5)
        figure.subplots().plot([1, 2])
        return finish(figure, pd.DataFrame({"y": [1, 2]}))


class Page(HTMLParser):
    """Checks that tags close in order, and collects texts, rows and pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.images: list[bytes] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            assert name in ("lang", "charset", "class", "src", "alt", "scope")
            if name == "src":
                kind, content = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.+)", value).groups()
                self.images.append(base64.b64decode(content))
                if kind == "png":
                    Image.open(BytesIO(self.images[-1])).verify()
                else:
                    assert self.images[-1].endswith(b"</svg>\n")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.texts.append(data.strip())
            if self.open[-1] in ("td", "th"):
                self.rows[-1][-1] = data.strip()


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)))


def test_page_holds_everything_and_needs_nothing():
    objects = pd.DataFrame({"label": range(1, 21), "diameter_nm": np.linspace(1, 20, 20), "touches_edge": False})
    html = report_html(
        "micrograph.tif",
        IMAGE,
        (LABELS > 0).astype(np.uint8),
        classes=CLASSES,
        pixel_size_nm=(2.0, 2.5),
        tables={
            "Sizes": {"n": 20, "d50_nm": 12.3456, "span": float("nan"), "edge": None, "weights": {"a": 1, "b": True}},
            "Phase fractions": pd.DataFrame({"class": ["a"], "fraction": [0.25], "ci95_low": [np.nan]}),
        },
        plots={"Size distribution": draw()},
        objects=objects,
        objects_file="micrograph_objects.csv",
        record={
            "image": {"sha256": "ab12", "pixel_size_nm": [2.0, 2.5], "data_bar_rows": None},
            "planes": [{"low": 0.123456789}, {"low": float("nan")}],
            "settings": {"instances": True, "empty": {}},
        },
    )
    page = Page(html)
    assert page.tags <= set("html head meta title style body h1 h2 p div figure figcaption img table thead tbody "
                            "tr th td".split())  # fmt: skip
    assert not re.search(r"https?:|url\(|@import", html)
    assert page.texts[:3] == ["micrograph.tif", "micrograph.tif", "80 x 60 px, pixel 2.5 x 2 nm (width x height)"]
    for row in (
        ["n", "20"],
        ["D50 (nm)", "12.35"],
        ["span", "-"],
        ["edge", "-"],
        ["weights: b", "yes"],
        ["class", "fraction", "ci95 low"],
        ["a", "0.25", "-"],
        ["label", "diameter (nm)", "touches edge"],
        ["1", "1", "no"],
        ["image: sha256", "ab12"],
        ["image: pixel_size_nm", "2.0, 2.5"],
        ["image: data_bar_rows", "-"],
        ["planes 1: low", "0.123456789"],
        ["planes 2: low", "-"],
        ["settings: instances", "yes"],
        ["settings: empty", "-"],
    ):
        assert row in page.rows
    assert "The first 8 of 20 objects; all columns of all are in micrograph_objects.csv." in page.texts
    assert len(page.images) == 3
    assert picture(page.images[0]).shape == (60, 80)  # grey
    assert picture(page.images[1]).shape[1:] == (80, 3)
    assert picture(page.images[1]).shape[0] > 60  # with a legend


def test_the_least_that_is_known_makes_a_page_too():
    page = Page(report_html("array", IMAGE, LABELS))
    assert "80 x 60 px, pixel size not known" in page.texts
    assert not page.rows
    image, overlay = (picture(content) for content in page.images)
    assert image.shape == (60, 80)
    inside = overlay[15:25, 25:45].astype(int)
    assert (np.ptp(inside, axis=2) > 0).all()
    assert (np.ptp(overlay[40:, :].astype(int), axis=2) == 0).all()


def test_scale_bar_only_where_the_pixel_size_is_known():
    black = np.zeros((200, 300), np.float32)
    labels = np.zeros((200, 300), np.uint8)
    plain = picture(Page(report_html("a", black, labels)).images[0])
    barred = picture(Page(report_html("a", black, labels, pixel_size_nm=(1.0, 1.0))).images[0])
    assert len(np.unique(plain)) == 1
    assert (barred == 255).any()


def test_a_large_image_is_shrunk_with_its_scale_bar():
    image = np.zeros((1000, 3600), np.uint8)
    labels = np.zeros(image.shape, np.uint16)
    labels[400:600, 1800:] = 3
    images = Page(report_html("a", image, labels, pixel_size_nm=(1.0, 1.0))).images
    bar, overlay = (picture(content) for content in images)
    assert bar.shape == (LONGEST / 3600 * 1000, LONGEST)
    longest = max(len(run) for row in bar == 255 for run in "".join("#" if on else " " for on in row).split())
    assert longest == 500 / 4  # the bar of 500 nm, of pixels four times as wide
    coloured = np.ptp(overlay.astype(int), axis=2) > 0
    assert np.argwhere(coloured)[[0, -1]].tolist() == [[100, 450], [149, 899]]


def test_html_in_names_is_text():
    attack = '<script>"&'
    html = report_html(
        attack,
        IMAGE,
        LABELS,
        tables={attack: {attack: attack}, "t": pd.DataFrame({attack: [attack]})},
        plots={attack: draw()},
        objects=pd.DataFrame({attack: [attack]}),
        objects_file=attack,
        record={attack: {attack: [attack]}},
    )
    page = Page(html)
    assert "script" not in page.tags
    assert page.texts.count(attack) == 11


@pytest.mark.parametrize(("n", "words"), [(0, "No object."), (1, "All 1 objects."), (FIRST_ROWS, "All 8 objects.")])
def test_few_objects_are_all_shown(n, words):
    page = Page(report_html("a", IMAGE, LABELS, objects=pd.DataFrame({"label": range(n)})))
    assert words.replace("1 objects", "1 object") in page.texts
    assert len(page.rows) == (n + 1 if n else 0)


def test_of_many_columns_those_that_say_most_are_shown():
    names = ["label", "plane", "y", "x", "area_px", "area_nm2", "diameter_nm", "feret_max_nm", "feret_min_nm",
             "major_axis_nm", "minor_axis_nm", "aspect_ratio", "orientation_deg", "touches_edge"]  # fmt: skip
    page = Page(report_html("a", IMAGE, LABELS, objects=pd.DataFrame([dict.fromkeys(names, 1.0)])))
    assert page.rows[0] == ["label", "y", "x", "area (px)", "area (nm²)", "diameter (nm)", "feret max (nm)",
                            "feret min (nm)", "aspect ratio", "touches edge"]  # fmt: skip
    strange = pd.DataFrame({f"c{i}": [1] for i in range(30)})
    assert Page(report_html("a", IMAGE, LABELS, objects=strange)).rows[0] == [f"c{i}" for i in range(11)]


def test_a_long_record_is_cut_and_says_so():
    record = {str(i): "x" * 500 for i in range(MOST_ENTRIES + 5)}
    page = Page(report_html("a", IMAGE, LABELS, record=record))
    assert page.rows[-1][0] == "and 5 more"
    assert page.rows[0][1] == "x" * 160 + "…"


@pytest.mark.parametrize(
    ("value", "text"),
    [(123456.7, "123457"), (1234.56, "1235"), (0.000012345, "1.234e-05"), (np.float32(0.5), "0.5"), (True, "yes"),
     (np.bool_(False), "no"), (10**7, "10000000"), (float("inf"), "inf"), ((), "-"), (-0.07241, "-0.07241")],
)  # fmt: skip
def test_values_are_written_for_people(value, text):
    page = Page(report_html("a", IMAGE, LABELS, tables={"t": {"v": value}}))
    assert page.rows == [["v", text]]


def test_files_are_the_same_each_time_and_whole(tmp_path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, "title", IMAGE, LABELS, plots={"p": draw()}, pixel_size_nm=(1.0, 1.0))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(OutputError, match="no folder"):
        write_report(tmp_path / "missing" / "a.html", "title", IMAGE, LABELS)


@pytest.mark.parametrize(
    ("image", "labels"),
    [(IMAGE, LABELS[1:]), (IMAGE[None], LABELS[None]), (IMAGE[:0], LABELS[:0])],
)
def test_image_and_labels_must_be_one_plane_each(image, labels):
    with pytest.raises(InputError, match="do not make a report; give one plane of each, of the same shape"):
        report_html("a", image, labels)


def test_a_label_without_a_class_is_an_error():
    with pytest.raises(InputError, match="none of the 2 classes"):
        report_html("a", IMAGE, np.full(IMAGE.shape, 2), classes=CLASSES)
