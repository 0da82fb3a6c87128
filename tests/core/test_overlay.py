from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core import overlay
from napari_matseg.core.overlay import overlay_rgb
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

CLASSES = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="\u03b3\u2032", colour=(0, 0, 255)),
    ClassSpec(name="small", colour=(255, 0, 0)),
)


def test_overlay_tints_classes_and_outlines_them():
    image = np.tile(np.linspace(0, 1000, 60, dtype=np.uint16), (50, 1))
    labels = np.zeros((50, 60), np.uint8)
    labels[10:30, 10:40] = 1
    rgb = overlay_rgb(image, labels, CLASSES, opacity=0.5)
    assert rgb.dtype == np.uint8
    assert rgb.shape[1:] == (60, 3)
    assert rgb.shape[0] > 50  # the legend
    assert (rgb[5, :, 0] == rgb[5, :, 2]).all()  # class 0 stays grey
    assert rgb[5, 0, 0] == 0
    assert rgb[5, -1, 0] == 255
    assert tuple(rgb[10, 25]) == CLASSES[1].colour  # outline
    inner, grey = rgb[20, 25].astype(int), rgb[5, 25, 0]
    assert inner[2] == pytest.approx(0.5 * grey + 0.5 * 255, abs=1)
    assert inner[0] == pytest.approx(0.5 * grey, abs=1)


def test_overlay_legend_shows_each_colour():
    rgb = overlay_rgb(np.zeros((40, 120)), np.zeros((40, 120), np.uint8), CLASSES)
    legend = rgb[40:].reshape(-1, 3)
    for spec in CLASSES[1:]:
        assert (legend == spec.colour).all(axis=1).any()


def test_overlay_without_classes_has_no_legend():
    assert overlay_rgb(np.zeros((40, 50)), np.zeros((40, 50), np.uint8), CLASSES[:1]).shape == (40, 50, 3)


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf])
def test_overlay_of_a_constant_image(value):
    rgb = overlay_rgb(np.full((40, 50), value), np.zeros((40, 50), np.uint8), CLASSES[:1])
    assert (rgb == (127 if np.isfinite(value) else 0)).all()


def test_overlay_is_not_upset_by_single_values():
    image = np.random.default_rng(0).normal(100, 1, (100, 100))
    image[0, :3] = np.nan, np.inf, 1e9
    rgb = overlay_rgb(image, np.zeros((100, 100), np.uint8), CLASSES[:1])
    assert rgb[1:].std() > 30
    assert tuple(rgb[0, 0]) == (0, 0, 0)


def test_overlay_of_a_nearly_constant_image_stretches_what_there_is():
    image = np.zeros((100, 100))
    image[0, 0] = 1
    assert overlay_rgb(image, np.zeros((100, 100), np.uint8), CLASSES[:1])[0, 0, 0] == 255


def test_overlay_scale_bar_has_a_round_length():
    image, labels = np.zeros((200, 400)), np.zeros((200, 400), np.uint8)
    rgb = overlay_rgb(image, labels, CLASSES[:1], pixel_size_nm=(9.9, 5.0))
    longest = max((rgb[y] == 255).all(axis=1).sum() for y in range(200))
    assert longest == 500 / 5
    assert (overlay_rgb(image, labels, CLASSES[:1]) == 127).all()


def test_overlay_leaves_the_data_bar_alone():
    image = np.random.default_rng(0).normal(100, 1, (200, 400))
    image[150:] = 0
    labels = np.zeros((200, 400), np.uint8)
    rgb = overlay_rgb(image, labels, CLASSES[:1], pixel_size_nm=(5.0, 5.0), data_bar=(150, 200))
    assert rgb[:150, :200].std() > 30
    assert (rgb[150:] == 0).all()


def test_large_overlays_are_made_smaller(monkeypatch):
    monkeypatch.setattr(overlay, "OVERLAY_LIMIT", 100)
    labels = np.ones((150, 240), np.uint8)
    rgb = overlay_rgb(np.zeros((150, 240)), labels, CLASSES[:2], pixel_size_nm=(10.0, 10.0), data_bar=(141, 150))
    assert rgb.shape[1] == 80
    assert 50 < rgb.shape[0] < 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 3)])
def test_overlays_of_odd_shapes(shape):
    labels = np.ones(shape, np.uint8)
    rgb = overlay_rgb(np.zeros(shape), labels, CLASSES, pixel_size_nm=(1.0, 1.0))
    assert max(rgb.shape[:2]) <= 4200


def test_overlay_of_arrays_that_do_not_fit_is_refused():
    with pytest.raises(InputError, match=r"\(4, 5\) and labels of shape \(4, 4\).*of the same shape"):
        overlay_rgb(np.zeros((4, 5)), np.zeros((4, 4), np.uint8), CLASSES)
    with pytest.raises(InputError, match="one plane of each"):
        overlay_rgb(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), np.uint8), CLASSES)


def test_overlay_of_a_label_without_a_class_is_refused():
    with pytest.raises(InputError, match="Label 3 is none of the 3 classes"):
        overlay_rgb(np.zeros((4, 4)), np.full((4, 4), 3), CLASSES)
