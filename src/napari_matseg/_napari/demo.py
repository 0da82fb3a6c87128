"""The viewer that `napari-matseg demo --gui` opens."""

from __future__ import annotations

import napari
import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication

from napari_matseg._napari.evaluate import EvaluateWidget
from napari_matseg._napari.layers import classes_layer, image_layer, objects_layer, placement_of
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.pipeline import Segmentation

EVALUATE = "Evaluate segmentation"
WINDOW = 1400, 800  # px
DOCK_WIDTH = 480  # px, for the table that comes


def open_viewer(
    micrograph: Micrograph,
    segmentation: Segmentation,
    truth_classes: np.ndarray | None = None,
    *,
    viewer: Viewer | None = None,
) -> Viewer:
    """Show a segmentation on its micrograph, with a scale bar, and the scores if there is a truth.

    Parameters
    ----------
    micrograph : Micrograph
    segmentation : Segmentation
        Of this micrograph.
    truth_classes : array, uint8, of the shape of the classes, optional
        Its layer is hidden at first.
    viewer : napari.Viewer, optional
        Where to show it; else a new one.

    Returns
    -------
    napari.Viewer
        Call `napari.run` to keep it open.
    """
    if viewer is None:
        viewer = napari.Viewer(title="napari-matseg demo")
        viewer.window.resize(*WINDOW)
    name = "micrograph" if micrograph.source is None else micrograph.source.stem
    place, size = placement_of(micrograph), micrograph.pixel_size_nm
    specs, record = segmentation.specs, segmentation.record
    result_name = f"{name} {record['model']['name']}"
    result = classes_layer(segmentation.classes, specs, result_name, place, size_nm=size, record=record)
    layers = [image_layer(micrograph, name)]
    if truth_classes is not None:
        data, kwargs, kind = classes_layer(truth_classes, specs, f"{name} truth", place, size_nm=size)
        layers.append((data, kwargs | {"visible": False}, kind))
    if segmentation.instances is not None:
        data, kwargs, kind = objects_layer(
            segmentation.instances, f"{result_name} objects", place, size_nm=size, record=record
        )
        layers.append((data, kwargs | {"visible": False}, kind))
    for layer in [*layers, result]:
        viewer.add_layer(Layer.create(*layer))
    viewer.canvas.overlays.scale_bar.visible = True
    if truth_classes is not None:
        widget = EvaluateWidget(viewer)
        widget.setMinimumWidth(DOCK_WIDTH)
        viewer.window.add_dock_widget(widget, name=EVALUATE)
        widget.run()
        QApplication.processEvents()  # the dock takes its place, and leaves the canvas less
    viewer.reset_view()
    return viewer
