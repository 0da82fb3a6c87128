from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_matseg.core import maps
from napari_matseg.core.maps import make_maps
from napari_matseg.core.predict import TooLargeError, predict
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError
from napari_matseg.settings import SegmentSettings

CPU = torch.device("cpu")


@pytest.fixture
def image_cyx() -> np.ndarray:
    return np.random.default_rng(0).random((1, 300, 200)).astype(np.float32)


def test_only_the_maps_that_are_asked_for(image_cyx, make_threshold):
    model = make_threshold(distance=True)
    found = finish(make_maps(image_cyx, "image", model, SegmentSettings(), CPU, torch.float32))
    assert found.depth_yx is found.probabilities_cyx is None
    full = SegmentSettings(instances=True, probabilities=True)
    found = finish(make_maps(image_cyx, "image", model, full, CPU, torch.float32))
    np.testing.assert_array_equal(found.classes_yx, found.probabilities_cyx.argmax(axis=0))
    assert found.depth_yx.shape == (300, 200)
    assert found.record["tiling"]["strategy"] == "whole"
    assert finish(make_maps(image_cyx, "image", make_threshold(), full, CPU, torch.float32)).depth_yx is None


def test_where_memory_runs_out_tiles_get_smaller(image_cyx, make_threshold, monkeypatch):
    sides = []

    def short_of_memory(model, image_cyx, scale, plan, **how):
        sides.append(plan.tile)
        if plan.tile > 100:
            raise TooLargeError
        return predict(model, image_cyx, scale, plan, **how)

    monkeypatch.setattr(maps, "predict", short_of_memory)
    settings = SegmentSettings(tile=256)
    found = finish(make_maps(image_cyx, "image", make_threshold(), settings, CPU, torch.float32))
    assert len(sides) > 1
    assert sides == sorted(sides, reverse=True)
    assert found.record["tiling"]["tile"] <= 100


def test_where_nothing_fits_the_message_names_the_image(image_cyx, make_threshold, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(maps, "predict", no_memory)
    with pytest.raises(InputError, match=r"image: memory ran out at tiles of \d+ px, and none smaller will do"):
        finish(make_maps(image_cyx, "image", make_threshold(), SegmentSettings(), CPU, torch.float32))
