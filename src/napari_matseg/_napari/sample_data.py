"""Micrographs with their truth, for File > Open Sample: drawn ones, and public sets, which are fetched."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer

from napari_matseg._napari.layers import KEY, OVERLAY, LayerData, classes_layer, image_layer, placement_of
from napari_matseg._napari.sample_sets import WIDGET, SampleSetsWidget, set_layers
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.samples import PUBLIC, pairs, samples_folder
from napari_matseg.core.synthetic.demo import CLASSES, Kind, demo_micrograph
from napari_matseg.errors import InputError


def particles() -> list[LayerData]:
    """Particles as a scanning electron microscope shows them."""
    return _layers("particles")


def superalloy() -> list[LayerData]:
    """Secondary and tertiary precipitates in the matrix of a nickel superalloy."""
    return _layers("superalloy")


def cracks() -> list[LayerData]:
    """Cracks through the oxide layer below a ceramic coating."""
    return _layers("cracks")


def emps() -> list[LayerData]:
    """Figures of particles by others, outlined by hand."""
    return _public("emps")


def nasa() -> list[LayerData]:
    """Superalloys and coatings by others, with masks."""
    return _public("nasa")


def _layers(kind: Kind) -> list[LayerData]:
    """Image and, hidden, the truth."""
    demo = demo_micrograph(kind)
    micrograph = Micrograph(
        demo.sample.image_yx,
        pixel_size_nm=(demo.pixel_size_nm, demo.pixel_size_nm),
        pixel_size_from="drawn so",
        data_bar=demo.data_bar,
    )
    place, size = placement_of(micrograph), micrograph.pixel_size_nm
    truth, kwargs, layer_type = classes_layer(
        demo.sample.classes_yx, CLASSES[kind], f"{kind} truth", place, size_nm=size
    )
    return [image_layer(micrograph, kind), (truth, kwargs | {"visible": False}, layer_type)]


def _public(name: str) -> list[LayerData]:
    """First image of a set that was fetched, and its truth; else the widget that fetches it is opened.

    Raises
    ------
    InputError
        If it is not here and there is no window to fetch it in.
    """
    folder = samples_folder() / name
    if found := pairs(name, folder):
        return set_layers(name, *found[0])
    viewer = napari.current_viewer()
    if viewer is None:
        raise InputError(f"{name}: is not here yet; get it with napari-matseg samples {name} -o {folder}")
    open_sets(viewer).choose(name)
    show_info(f"{PUBLIC[name].title}: read its licence at the right, and press Fetch.")
    # napari takes a sample without any layer for a failure.
    nothing = (np.zeros((0, 2)), {"name": f"{name}, to be fetched", "metadata": {KEY: {"kind": OVERLAY}}}, "points")
    QTimer.singleShot(0, lambda: _drop(viewer, nothing[1]["name"]))
    return [nothing]


def open_sets(viewer: Any) -> SampleSetsWidget:
    """Give the widget that fetches sets, opened if it is not there."""
    open_ = viewer.window.dock_widgets.get(WIDGET)
    if isinstance(open_, SampleSetsWidget):
        return open_
    widget = SampleSetsWidget(viewer)
    viewer.window.add_dock_widget(widget, name=WIDGET)
    return widget


def _drop(viewer: Any, name: str) -> None:
    if name in viewer.layers:
        viewer.layers.remove(name)
