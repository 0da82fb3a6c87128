"""Synthetic micrographs with their truth, for File > Open Sample."""

from __future__ import annotations

from typing import Literal

from napari_matseg._napari.layers import LayerData, classes_layer, image_layer, placement_of
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.synthetic.demo import CLASSES, demo_micrograph


def particles() -> list[LayerData]:
    """Particles as a scanning electron microscope shows them."""
    return _layers("particles")


def superalloy() -> list[LayerData]:
    """Secondary and tertiary precipitates in the matrix of a nickel superalloy."""
    return _layers("superalloy")


def _layers(kind: Literal["particles", "superalloy"]) -> list[LayerData]:
    """Image and, hidden, the truth."""
    demo = demo_micrograph(kind)
    micrograph = Micrograph(
        demo.sample.image_yx, pixel_size_nm=(demo.pixel_size_nm, demo.pixel_size_nm), data_bar=demo.data_bar
    )
    place, size = placement_of(micrograph), micrograph.pixel_size_nm
    truth, kwargs, layer_type = classes_layer(
        demo.sample.classes_yx, CLASSES[kind], f"{kind} truth", place, size_nm=size
    )
    return [image_layer(micrograph, kind), (truth, kwargs | {"visible": False}, layer_type)]
