"""Objects that were found on an image, and the layers that show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.viewer import Viewer

from napari_matseg._napari.layers import objects_layer
from napari_matseg._napari.prompt_layers import add_below
from napari_matseg.core.assembly import Assembly, Change
from napari_matseg.core.boxes import Region, span
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.object_table import object_table
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.prompts import Prompt
from napari_matseg.settings import PromptSettings

OUTLINE = 2  # px
Row = dict[str, Any]


@dataclass(eq=False)
class Found:
    """Objects of all planes, by id.

    Attributes
    ----------
    micrograph : Micrograph
    settings : PromptSettings
    record : dict
        What was done, in plain JSON types.
    prompts : dict of int to Prompt
        What each object was asked for with.
    assemblies : dict of int to Assembly
        By plane.
    table : dict of int to dict
        Rows of the table of objects.
    """

    micrograph: Micrograph
    settings: PromptSettings
    record: dict[str, Any]
    prompts: dict[int, Prompt] = field(default_factory=dict)
    assemblies: dict[int, Assembly] = field(default_factory=dict)
    table: dict[int, Row] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Rows of the table, by rising id."""
        return [self.table[one] for one in sorted(self.table)]

    def ask(self, prompts: Iterable[Prompt]) -> None:
        """Note what objects are asked for with."""
        listed = self.record.setdefault("prompts", {})
        for prompt in prompts:
            self.prompts[prompt.id] = prompt
            listed[str(prompt.id)] = _describe_prompt(prompt)

    def assembly(self, plane: int) -> Assembly:
        """Objects of a plane."""
        if plane not in self.assemblies:
            self.assemblies[plane] = Assembly(self.micrograph.shape_yx, self.settings.overlaps)
        return self.assemblies[plane]

    def at(self, plane: int, y: float, x: float) -> int:
        """Id of the object at a place; 0 for none, and outside."""
        row, column = round(y), round(x)
        height, width = self.micrograph.shape_yx
        inside = plane in self.assemblies and 0 <= row < height and 0 <= column < width
        return int(self.assemblies[plane].labels_yx[row, column]) if inside else 0

    def put_all(self, objects: Sequence[ObjectMask]) -> None:
        """Add objects of any planes, each new to it, and describe all."""
        for plane in sorted({found.plane for found in objects}):
            assembly = self.assembly(plane)
            assembly.put_all(found for found in objects if found.plane == plane)
            self._describe(plane, assembly.objects.values(), None)

    def put(self, found: ObjectMask) -> Change:
        """Add an object, or replace that with its id, and describe anew what that affects."""
        return self._redo(found.plane, self.assembly(found.plane).put(found))

    def remove(self, one: int) -> Change | None:
        """Take an object out, if it is there, and describe anew what that affects."""
        for plane, assembly in self.assemblies.items():
            if one in assembly.objects:
                return self._redo(plane, assembly.remove(one))
        return None

    def restore(self, change: Change) -> Change:
        """Take a change back, and describe anew what that affects."""
        plane = plane_of_change(change)
        return self._redo(plane, self.assembly(plane).restore(change))

    def layers(self) -> list[np.ndarray]:
        """Label images in the shape of the planes of the micrograph, as many as there are per plane."""
        shape = (*self.micrograph.shape_planes, *self.micrograph.shape_yx)
        planes = {plane: assembly.layers() for plane, assembly in self.assemblies.items()}
        images = []
        for k in range(max((len(layers) for layers in planes.values()), default=1)):
            image = np.zeros((self.micrograph.n_planes, *self.micrograph.shape_yx), np.uint32)
            for plane, layers in planes.items():
                if k < len(layers):
                    image[plane] = layers[k]
            images.append(image.reshape(shape))
        return images

    def _redo(self, plane: int, change: Change) -> Change:
        assembly = self.assembly(plane)
        affected = [assembly.objects[one] for one in change.affected if one in assembly.objects]
        if change.after is None:
            self.table.pop(change.id, None)
        self._describe(plane, affected, span(found.where for found in affected))
        return change

    def _describe(self, plane: int, objects: Iterable[ObjectMask], where: Region | None) -> None:
        layers = self.assembly(plane).layers()
        count = {one: _count(prompt) for one, prompt in self.prompts.items()}
        size, bar = self.micrograph.pixel_size_nm, self.micrograph.data_bar
        bar = bar if self.settings.exclude_data_bar else None
        for row in object_table(
            objects, layers, self.settings, pixel_size_nm=size, data_bar=bar, n_prompts=count, where=where
        ):
            self.table[row["label"]] = row


def plane_of_change(change: Change) -> int:
    """Plane that a change is on."""
    return next(found.plane for found in (change.after, change.before) if found is not None)


def _count(prompt: Prompt) -> int:
    return len(prompt.points_yx) + (prompt.box_yx is not None) + (prompt.mask is not None)


def _describe_prompt(prompt: Prompt) -> dict[str, Any]:
    """Say what was asked, in plain JSON types."""
    described: dict[str, Any] = {"plane": prompt.plane}
    if len(prompt.points_yx):
        described["points_yx"] = prompt.points_yx.round(2).tolist()
        described["positive"] = prompt.positive.tolist()
    if prompt.box_yx is not None:
        described["box_yx"] = [round(edge, 2) for edge in prompt.box_yx]
    if prompt.mask is not None:
        described["mask_area_px"] = int(np.count_nonzero(prompt.mask.mask_yx))
    return described


def summarise(found: Found, seconds: float, notes: Iterable[str]) -> str:
    """Say in rich text what came out."""
    flagged = sum(bool(row["flagged"]) for row in found.rows)
    lines = [f"<b>{len(found.rows)} object{'s' * (len(found.rows) != 1)}</b> in {seconds:.1f} s."]
    if flagged:
        lines.append(f"{flagged} flagged for a look: press N.")
    return "<br>".join([*lines, *(escape(note) for note in notes if note)])


class Shown:
    """The labels layers in which objects are shown; one, unless objects that overlap are kept apart.

    Parameters
    ----------
    viewer : Viewer
    found : Found
    name : str
        Of the first layer.
    place : dict
        Where they lie, as `layers.placement` gives it.
    top : Layer, optional
        What they go below.
    """

    def __init__(
        self, viewer: Viewer, found: Found, name: str, place: dict[str, Any], top: Layer | None = None
    ) -> None:
        self._viewer, self._top = viewer, top
        self.found = found
        self._name, self._place = name, place
        self.layers: list[Labels] = []
        self._show_all()

    @property
    def there(self) -> bool:
        """Whether the layers have not been removed by the user."""
        return all(layer in self._viewer.layers for layer in self.layers)

    def refresh(self, changes: Iterable[Change]) -> None:
        """Show what has changed; what was painted by hand elsewhere stays."""
        if self.found.settings.overlaps == "separate":
            self._show_all()
            return
        for change in changes:
            self._paint(plane_of_change(change), change.where)
        self._tell_features()

    def _paint(self, plane: int, where: Region) -> None:
        layer, new = self.layers[0], self.found.assembly(plane).labels_yx[where]
        planes = tuple(int(i) for i in np.unravel_index(plane, self.found.micrograph.shape_planes))
        y, x = np.nonzero(np.asarray(layer.data[(*planes, *where)]) != new)
        if len(y):
            there = tuple(np.full(len(y), i) for i in planes)
            layer.data_setitem((*there, y + where[0].start, x + where[1].start), new[y, x])

    def _show_all(self) -> None:
        for k, image in enumerate(self.found.layers()):
            if k < len(self.layers):
                self.layers[k].data = image
                continue
            name = self._name if k == 0 else f"{self._name} {k + 1}"
            kept = {"size_nm": self.found.micrograph.pixel_size_nm, "record": self.found.record}
            layer = Layer.create(*objects_layer(image, name, self._place, **kept))
            layer.contour, layer.opacity = OUTLINE, 1
            self.layers.append(add_below(self._viewer, layer, self._top))
        self._tell_features()

    def _tell_features(self) -> None:
        rows = self.found.rows
        names = list(rows[0]) if rows else ["label"]
        features = {"index": [row["label"] for row in rows]} | {
            name: [np.nan if row[name] is None else row[name] for row in rows] for name in names
        }
        for layer in self.layers:
            layer.features = features
