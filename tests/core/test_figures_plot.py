from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_matseg.core.figures.plot import (
    Plot,
    finish,
    legend_below,
    new_figure,
    no_handle,
    save_plot,
    shortened,
    styled,
    to_svg,
)
from napari_matseg.errors import OutputError


def draw(label: str = "size") -> Plot:
    with styled():
        figure = new_figure(2.0)
        axes = figure.subplots()
        (line,) = axes.plot([1, 2, 3], [1, 4, 9])
        axes.set_xlabel(label)
        legend_below(figure, [(line, "a line"), (no_handle(), "a note\nof two lines")])
        return finish(figure, pd.DataFrame({"x": [1, 2, 3], "y": [1.0, np.nan, 9.0]}))


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_figure_gives_the_same_bytes_and_its_data_beside_it(tmp_path, kind):
    first = save_plot(draw(), tmp_path / f"first.{kind}")
    second = save_plot(draw(), tmp_path / f"second.{kind.upper()}")
    assert first == (tmp_path / f"first.{kind}", tmp_path / "first.csv")
    assert first[0].read_bytes() == second[0].read_bytes()
    assert first[1].read_bytes() == second[1].read_bytes() == b"x,y\n1,1.0\n2,\n3,9.0\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_svg_keeps_letters_and_holds_no_date_and_no_mathematics(tmp_path):
    svg = to_svg(draw("cost in $ and in $ (µm²) <&>")).decode()
    assert "cost in $ and in $ (µm²) &lt;&amp;&gt;" in svg
    assert "dc:date" not in svg


def test_png_is_a_column_wide_at_300_dpi(tmp_path):
    path, _ = save_plot(draw(), tmp_path / "figure.png")
    with Image.open(path) as picture:
        assert picture.width == 1050
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_what_a_screen_made_of_the_figure_does_not_show_in_the_file(tmp_path):
    plain, shown = draw(), draw()
    shown.figure.set_size_inches(11, 3)
    assert to_svg(plain) == to_svg(shown)
    assert tuple(shown.figure.get_size_inches()) == (11, 3)


def test_the_settings_of_the_user_neither_change_nor_show():
    plain = to_svg(draw())
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert to_svg(draw()) == plain
        assert dict(mpl.rcParams) == before


def test_legend_adds_to_the_height():
    assert draw().size_in[1] == pytest.approx(2.0 + 3 * 0.13 + 0.1)


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.csv"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"figure.*: figures are saved as \.svg, \.png or \.pdf; end the name in one"):
        save_plot(draw(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_neither_file_is_left_if_one_cannot_be_written(tmp_path):
    (tmp_path / "figure.csv").mkdir()
    with pytest.raises(OutputError, match=r"figure\.csv: is a folder"):
        save_plot(draw(), tmp_path / "figure.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.csv"]
    with pytest.raises(OutputError, match="there is no folder"):
        save_plot(draw(), tmp_path / "missing" / "figure.svg")


def test_an_old_figure_stays_where_drawing_fails(tmp_path):
    path, table = save_plot(draw(), tmp_path / "figure.svg")
    before = path.read_bytes(), table.read_bytes()
    broken = draw()
    broken.figure.axes[0].xaxis.set_major_formatter(lambda value, place: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_plot(broken, path)
    assert (path.read_bytes(), table.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("most", range(3, 12))
def test_a_shortened_name_keeps_both_ends(most):
    short = shortened("abcdefghij", most)
    assert len(short) <= most
    assert short[0] == "a"
    assert short[-1] == "j"
