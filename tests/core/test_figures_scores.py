from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from napari_matseg.core.agreement.instances import InstanceScores, count_instances
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.core.figures.plot import to_svg
from napari_matseg.core.figures.scores import WRITTEN, agreement_figure, confusion_figure
from napari_matseg.core.metrics import Counts
from napari_matseg.errors import InputError


def confusion(n: int) -> Counts:
    rng = np.random.default_rng(n)
    return Counts(rng.integers(0, 10**6, (n, n)) + np.diag(rng.integers(10**6, 10**7, n)))


def test_rows_of_the_matrix_are_shares_of_the_truth():
    counts = Counts(np.array([[90, 10], [4, 0]]))
    plot = confusion_figure(counts, ["matrix", "$\\gamma$"])
    expected = pd.DataFrame(
        {
            "truth": ["matrix", "matrix", "$\\gamma$", "$\\gamma$"],
            "prediction": ["matrix", "$\\gamma$"] * 2,
            "pixels": [90, 10, 4, 0],
            "share": [0.9, 0.1, 1.0, 0.0],
        }
    )
    pd.testing.assert_frame_equal(plot.data, expected, check_dtype=False)
    written = [text.get_text() for text in plot.figure.axes[0].texts]
    assert written == ["90.0 %", "90", "10.0 %", "10", "100.0 %", "4", "0.0 %", "0"]


def test_a_class_that_the_truth_lacks_has_no_shares():
    plot = confusion_figure(Counts(np.array([[5, 1], [0, 0]])), ["a", "b"])
    assert plot.data["share"].isna().tolist() == [False, False, True, True]
    assert [text.get_text() for text in plot.figure.axes[0].texts][4::2] == ["-", "-"]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("length", [1, 40])
def test_numbers_and_names_have_room(n, length):
    plot = confusion_figure(confusion(n), [f"{i:02}" + "x" * length for i in range(n)])
    assert plot.size_in[0] <= 7.3
    figure = plot.figure
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    axes = figure.axes[0]
    cell = axes.get_window_extent(renderer).width / n
    for text in axes.texts:
        assert text.get_window_extent(renderer).width < cell
    outer = figure.bbox
    boxes = [label.get_window_extent(renderer) for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    for box in boxes:
        assert box.x0 >= outer.x0
        assert box.y0 >= outer.y0
    for before, after in pairwise(boxes[:n]):
        assert before.x1 <= after.x0


def test_many_classes_are_drawn_in_colours_alone():
    plot = confusion_figure(confusion(WRITTEN + 6), [str(i) for i in range(WRITTEN + 6)])
    assert not plot.figure.axes[0].texts
    assert len(plot.data) == (WRITTEN + 6) ** 2


def test_each_class_needs_a_name():
    with pytest.raises(InputError, match="2 classes need as many names, not 1"):
        confusion_figure(confusion(2), ["a"])


def test_agreement_is_drawn_at_each_threshold():
    truth = np.repeat([[1, 1, 2, 2, 0, 3]], 4, axis=0)
    prediction = np.repeat([[1, 1, 2, 0, 0, 0]], 4, axis=0)
    scores = InstanceScores(count_instances(count_pairs(prediction, truth)))
    plot = agreement_figure(scores)
    assert plot.data["ap"].tolist() == scores.ap.tolist()
    assert plot.data["threshold"].tolist() == list(scores.counts.thresholds)
    ap, f1, quality = plot.figure.axes[0].lines
    assert np.array_equal(ap.get_ydata(), scores.ap)
    assert np.array_equal(f1.get_ydata(), scores.f1)
    assert np.array_equal(quality.get_ydata(), scores.panoptic_quality)
    words = [text.get_text() for text in plot.figure.legends[0].texts]
    assert words[-1] == "3 true and 2 predicted objects; 0 split, 0 merged"


def test_agreement_about_nothing_is_an_empty_figure():
    nothing = np.zeros((4, 4), int)
    plot = agreement_figure(InstanceScores(count_instances(count_pairs(nothing, nothing), [0.5])))
    assert plot.data["ap"].isna().all()
    assert b"mean -" in to_svg(plot)
