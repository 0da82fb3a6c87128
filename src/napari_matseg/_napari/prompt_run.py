"""What the run button starts: the work that the fields ask for, and the layers that come of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Layer, Points
from napari.viewer import Viewer

from napari_matseg._napari.layers import file_of, full_resolution, micrograph_from_layer, placement
from napari_matseg._napari.models import LoadedModels
from napari_matseg._napari.prompt_asked import say_left
from napari_matseg._napari.prompt_clicking import Clicking
from napari_matseg._napari.prompt_job import Outcome, answer_all, answer_centres, answer_everywhere
from napari_matseg._napari.prompt_layers import mark, points_layer
from napari_matseg._napari.prompt_models import LoadedPromptable
from napari_matseg._napari.prompt_places import on_planes, plane_on_view
from napari_matseg._napari.prompt_results import Found, Shown, summarise
from napari_matseg._napari.prompt_search import Search
from napari_matseg._napari.prompt_sources import CENTRES, EVERYTHING, NO_IMAGE, POINTS, Sources
from napari_matseg.core.progress import Progress
from napari_matseg.core.prompts import Left
from napari_matseg.errors import InputError
from napari_matseg.settings import PromptSettings

BUTTONS = {POINTS: "Segment points", CENTRES: "Detect and segment", EVERYTHING: "Segment everything"}
TO_CORRECT = "Each has a point now. To correct one, tick Click and see; to remove it, delete its point."


@dataclass(frozen=True)
class _Target:
    """Where results are to go, as it was when the run started."""

    image: Layer
    place: dict[str, Any]
    shape: tuple[int, ...]
    points: Points | None
    n_points: int


class Runs:
    """Makes the work that the fields ask for, and shows its outcome.

    Parameters
    ----------
    viewer : Viewer
    sources : Sources
    search : Search
    clicking : Clicking
    models : LoadedPromptable
    segmenters : LoadedModels
        Which find centres.
    """

    def __init__(
        self,
        viewer: Viewer,
        sources: Sources,
        search: Search,
        clicking: Clicking,
        models: LoadedPromptable,
        segmenters: LoadedModels,
    ) -> None:
        self._viewer, self._sources, self._search, self._clicking = viewer, sources, search, clicking
        self._models, self._segmenters = models, segmenters

    def begin(
        self, settings: PromptSettings
    ) -> tuple[Generator[Progress, None, Outcome], str, Callable[[Outcome], str]]:
        """Give the work, its title, and what shows its outcome and gives rich text for the user.

        Raises
        ------
        MatsegError
            If there is nothing to work on, or a setting makes no sense.
        """
        image, what = self._sources.image.layer, self._sources.what
        if image is None:
            raise InputError(NO_IMAGE)
        given = micrograph_from_layer(image), file_of(image)
        plane = plane_on_view(image, self._viewer.dims.point)
        points, n_points = None, 0
        if what == POINTS:
            asked = self._sources.asked()
            points, n_points = self._sources.points.layer, len(asked.points_yx)
            self._clicking.refresh()  # the points have ids now
            work = answer_all(*given, asked, settings, self._models)
        elif what == CENTRES:
            centres = self._search.centres(settings)
            work = answer_centres(*given, plane, centres, settings, self._models, self._segmenters)
        else:
            work = answer_everywhere(*given, plane, self._search.everything(), settings, self._models)
        target = _Target(image, placement(image), tuple(full_resolution(image).shape), points, n_points)
        return work, f"Segmenting {image.name}", lambda outcome: self._show(what, target, *outcome)

    def _show(self, what: str, target: _Target, found: Found, left: list[Left], note: str) -> str:
        """Show what came out, where the image lies now."""
        image, points = target.image, target.points
        there = image in self._viewer.layers and tuple(full_resolution(image).shape) == target.shape
        place = placement(image) if there else target.place
        if what != POINTS:
            points = self._add_points(f"{image.name} {'centres' if what == CENTRES else 'points'}", image, found)
        shown = Shown(self._viewer, found, f"{image.name} objects", place, points)
        if points in self._viewer.layers and len(points.data) == target.n_points:
            rows = np.array([item.row - 1 for item in left if item.kind == "point"], int)
            mark(points, np.arange(target.n_points), rows)
        self._clicking.add_results(image, shown)
        notes = say_left(left), note, TO_CORRECT if what != POINTS else ""
        return summarise(found, found.record["seconds"], notes)

    def _add_points(self, name: str, image: Layer, found: Found) -> Points:
        """Add the points that objects were found by, and choose them, so that they can be corrected."""
        prompts = list(found.prompts.values())
        points_yx = np.concatenate([prompt.points_yx for prompt in prompts])
        places = on_planes(points_yx, np.array([prompt.plane for prompt in prompts]), found.micrograph.shape_planes)
        layer = points_layer(image, name, places, np.array([prompt.id for prompt in prompts]))
        points: Points = self._viewer.add_layer(layer)
        self._sources.take(points)
        return points
