from __future__ import annotations

import numpy as np

from napari_matseg.core.facts import facts, size_text
from napari_matseg.core.micrograph import Micrograph


def test_nothing_known_is_unknown_and_never_one():
    found = dict(facts(Micrograph(np.zeros((4, 6), np.uint8))))
    assert found["Pixel size"] == found["Instrument"] == found["Voltage"] == found["Written by"] == "unknown"
    assert "Field of view" not in found
    assert found["Size"] == "6 x 4 px"
    assert found["Data bar"] == "none found"


def test_all_known():
    metadata = {
        "instrument": "Helios",
        "voltage_kV": 5.0,
        "magnification": 120000.0,
        "working_distance_mm": 4.03466,
        "date": "2016-06-13T17:06:40",
        "left_out": ["a", "b"],
        "spot": "3",
    }
    micrograph = Micrograph(
        np.zeros((2, 4, 6, 3), np.uint8),
        "TYXS",
        pixel_size_nm=(1.5, 2.0),
        pixel_size_from="tag 1",
        data_bar=(3, 4),
        data_bar_from="record",
        vendor="FEI",
        metadata=metadata,
    )
    assert facts(micrograph) == [
        ("Size", "6 x 4 px"),
        ("Pixel type", "uint8"),
        ("Planes", "2 along T"),
        ("Colour", "red, green, blue"),
        ("Pixel size", "1.5 nm high, 2 nm wide"),
        ("Pixel size from", "tag 1"),
        ("Field of view", "12 nm wide"),
        ("Data bar", "rows 3 to 3, from the instrument's record"),
        ("Written by", "FEI"),
        ("Instrument", "Helios"),
        ("Detector", "unknown"),
        ("Voltage", "5 kV"),
        ("Magnification", "120 000 x"),
        ("Working distance", "4.035 mm"),
        ("Date", "2016-06-13 17:06:40"),
        ("Left out", "a, b"),
        ("Spot", "3"),
    ]


def test_sizes_have_the_unit_that_suits_them():
    assert [size_text((nm, nm)) for nm in (0.0239, 11.649976, 3372.4, 2.5e6)] == [
        "23.9 pm",
        "11.65 nm",
        "3.3724 µm",
        "2.5 mm",
    ]


def test_no_bar_by_the_users_word():
    micrograph = Micrograph(np.zeros((4, 6)), data_bar_from="user")
    assert dict(facts(micrograph))["Data bar"] == "none, as you said"
