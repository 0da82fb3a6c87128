from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core.figures.fractions import fractions_figure
from napari_matseg.core.figures.plot import to_svg
from napari_matseg.core.measure.fractions import phase_fractions
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

CLASSES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="\u03b3\u2032", colour=(0, 0, 255)))


def test_bars_have_lengths_and_colours_of_their_classes_and_the_intervals_are_named():
    fractions = phase_fractions([[60, 40], [70, 30], [65, 35]], ["matrix", "\u03b3\u2032"])
    plot = fractions_figure(fractions, CLASSES)
    assert plot.data is fractions
    axes = plot.figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([65, 35])
    assert [bar.get_facecolor()[:3] for bar in axes.patches] == [(0, 0, 0), (0, 0, 1)]
    ends = axes.collections[-1].get_segments()
    assert np.array(ends)[:, :, 0] == pytest.approx(100 * fractions[["ci95_low", "ci95_high"]].to_numpy())
    assert axes.texts[0].get_text() == "65.0 % (52.6 to 77.4)"
    assert plot.figure.legends[0].texts[0].get_text() == "95 % intervals: ASTM E562, 3 fields"


def test_without_an_interval_there_is_a_bar_alone():
    plot = fractions_figure(phase_fractions([[60, 0]], ["a", "b"]), CLASSES)
    axes = plot.figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["100 %", "0.00 %"]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 1
    assert b"one field, no interval" in to_svg(plot)


def test_no_field_draws_no_bar():
    plot = fractions_figure(phase_fractions(np.zeros((0, 2), int), ["a", "b"]))
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["- %", "- %"]
    assert b"</svg>" in to_svg(plot)


@pytest.mark.parametrize("n", [1, 12])
def test_numbers_stay_within_the_figure(n):
    counts = np.random.default_rng(0).integers(1, 1000, (3, n))
    figure = fractions_figure(phase_fractions(counts, [f"a class of a long name {i}" for i in range(n)])).figure
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    for text in (*figure.axes[0].texts, *figure.axes[0].get_yticklabels()):
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_there_must_be_classes():
    with pytest.raises(InputError, match="no phase fractions to draw"):
        fractions_figure(phase_fractions(np.zeros((0, 0), int), []))
