"""Where the particles are: points from the image itself, or from what a segmentation model makes of it.

Costly apart from cheap: `respond_steps` looks at every pixel, once; `pick` chooses among what it found, as often as a
slider moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.blobs import Extrema, find_extrema
from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.devices import choose_device, choose_dtype
from napari_matseg.core.maps import make_maps
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.overlaps import suppress
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.read import as_micrograph
from napari_matseg.core.summits import Landscape, join, survey
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import CentreSettings, SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.micrograph import Micrograph

SMALLEST = 6.0
"""Diameter in pixels from which centres are looked for unless the settings say otherwise."""


@dataclass(frozen=True, eq=False)
class Centres:
    """Centres of particles, the surest first.

    Attributes
    ----------
    points_yx : array, shape (n, 2), float64
        In pixels, the centre of the first pixel being (0, 0); never outside the image.
    diameter_px : array, shape (n,), float64
        Of the disc of the same area.
    strength : array, shape (n,), float64
        Blobs: contrast as a share of the grey range. Model: how deep inside the object its deepest pixel lies, from
        0 to 1 if the model gives a depth map, else in pixels.
    sign : array, shape (n,), int8
        1 where it is lighter than its surroundings, -1 where darker, 0 where nobody looked.
    """

    points_yx: np.ndarray
    diameter_px: np.ndarray
    strength: np.ndarray
    sign: np.ndarray

    def __len__(self) -> int:
        """Give the number of centres."""
        return len(self.strength)

    def __getitem__(self, which: np.ndarray) -> Centres:
        """Give some of them, by index or mask."""
        return Centres(self.points_yx[which], self.diameter_px[which], self.strength[which], self.sign[which])


@dataclass(frozen=True, eq=False)
class Responses:
    """What `pick` chooses from.

    Attributes
    ----------
    found : Extrema or Landscape
        Blobs of every polarity and contrast, or summits of depth.
    shape_yx : (int, int)
        Height and width that was looked at, in pixels: without the data bar if the settings leave it out.
    first_row : int
        Row of the plane where it begins.
    settings : CentreSettings
        What was looked for.
    pixel_size_nm : (float, float) or None
        As (y, x).
    """

    found: Extrema | Landscape
    shape_yx: tuple[int, int]
    first_row: int
    settings: CentreSettings
    pixel_size_nm: tuple[float, float] | None

    def covers(self, settings: CentreSettings) -> bool:
        """Whether `pick` can answer these settings; if not, the image must be looked at again.

        Sizes are free as long as they lie in the range that was looked for, which is any where none was given.
        """
        costly = {"method", "exclude_data_bar"} | ({"model"} if settings.method == "model" else set())
        if any(getattr(self.settings, name) != getattr(settings, name) for name in costly):
            return False
        if settings.method == "model":
            return True
        low, high = _limits(settings, self.pixel_size_nm)
        least, most = _limits(self.settings, self.pixel_size_nm)
        return least <= low and min(high, *self.shape_yx) <= most


def find_centres(
    image: str | Path | np.ndarray | Micrograph, settings: CentreSettings | None = None, *, plane: int = 0
) -> Centres:
    """Find the centres of the particles in one plane; see `detect_steps`, of which this is the quiet form.

    Parameters
    ----------
    image : path, array or Micrograph
        An array is (height, width), or (height, width, 3) for true colour; for its pixel size, data bar and planes
        give a Micrograph.
    settings : CentreSettings, optional
    plane : int
        Which plane, counted over the axes before YX in C order.

    Raises
    ------
    MatsegError
        If image, model or settings cannot be used.

    Examples
    --------
    >>> y, x = np.indices((60, 80))
    >>> disc = np.hypot(y - 20, x - 50) < 8
    >>> find_centres(disc * 100.0, CentreSettings(method="log")).points_yx.round().tolist()
    [[20.0, 50.0]]
    """
    return finish(detect_steps(as_micrograph(image), settings, plane=plane))


def detect_steps(
    micrograph: Micrograph,
    settings: CentreSettings | None = None,
    *,
    plane: int = 0,
    loaded: Model | None = None,
) -> Generator[Progress, None, Centres]:
    """Find the centres of the particles in one plane.

    Parameters
    ----------
    micrograph : Micrograph
    settings : CentreSettings, optional
    plane : int
        Which plane, counted over the axes before YX in C order.
    loaded : Model, optional
        A segmentation model that is in memory already, instead of the one that the settings name.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Returns
    -------
    Centres

    Raises
    ------
    MatsegError
        If image, model or settings cannot be used.
    """
    settings = settings or CentreSettings()
    responses = yield from respond_steps(micrograph, settings, plane=plane, loaded=loaded)
    return pick(responses, settings)


def respond_steps(
    micrograph: Micrograph, settings: CentreSettings, *, plane: int = 0, loaded: Model | None = None
) -> Generator[Progress, None, Responses]:
    """Do the costly part of `detect_steps`, whose parameters these are, for `pick` to choose from.

    Give settings without diameters where these are to be changed afterwards.
    """
    _limits(settings, micrograph.pixel_size_nm)  # so that what cannot be is said before the work
    rows = micrograph.content_rows if settings.exclude_data_bar else slice(0, micrograph.shape_yx[0])
    found: Extrema | Landscape
    if settings.method == "model":
        found = yield from _landscape(micrograph, settings, plane, rows, loaded)
    else:
        found = yield from _blobs(micrograph, settings, plane, rows)
    shape = rows.stop - rows.start, micrograph.shape_yx[1]
    return Responses(found, shape, rows.start, settings, micrograph.pixel_size_nm)


def pick(responses: Responses, settings: CentreSettings) -> Centres:
    """Choose the centres that the settings ask for.

    Parameters
    ----------
    responses : Responses
    settings : CentreSettings
        Such that ``responses.covers(settings)``.

    Raises
    ------
    InputError
        If the responses are to other settings.
    """
    if not responses.covers(settings):
        raise InputError("these settings need another look at the image; detect the centres again.")
    limits = _limits(settings, responses.pixel_size_nm)
    if isinstance(responses.found, Landscape):
        centres = _from_landscape(responses.found, settings, limits)
    else:
        centres = _from_blobs(responses.found, settings, limits, responses.shape_yx)
    centres.points_yx[:, 0] += responses.first_row
    return centres


def centres_from_model(
    classes_yx: np.ndarray,
    depth_yx: np.ndarray | None = None,
    settings: CentreSettings | None = None,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
) -> Centres:
    """Find the centres of objects that are segmented already.

    Parameters
    ----------
    classes_yx : array, shape (height, width), uint8
        Class ids; 0 is no object.
    depth_yx : array, shape (height, width), optional
        How deep inside its object each pixel lies, from 0 to 1, as a model says; without it the distance to the
        nearest pixel of another class takes its place.
    settings : CentreSettings, optional
        Their `depth`, `neck`, diameters and `exclude_edge`.
    pixel_size_nm : (float, float), optional
        As (y, x).

    Raises
    ------
    SettingsError
        If the settings give diameters in nanometres and there is no pixel size.
    """
    settings = settings or CentreSettings()
    return _from_landscape(survey(classes_yx, depth_yx), settings, _limits(settings, pixel_size_nm))


def _limits(settings: CentreSettings, pixel_size_nm: tuple[float, float] | None) -> tuple[float, float]:
    """Least and largest diameter in pixels; where pixels are not square, those of a square one of the same area."""
    in_nm = [name for name in ("min_diameter_nm", "max_diameter_nm") if getattr(settings, name) is not None]
    if in_nm and pixel_size_nm is None:
        raise SettingsError(
            f"{in_nm[0]} needs the pixel size, which the micrograph does not state; "
            f"give the pixel size, or {in_nm[0].replace('nm', 'px')} instead."
        )
    size = 1.0 if pixel_size_nm is None else math.sqrt(pixel_size_nm[0] * pixel_size_nm[1])
    least, most = settings.min_diameter_px, settings.max_diameter_px
    if settings.min_diameter_nm is not None:
        least = settings.min_diameter_nm / size
    if settings.max_diameter_nm is not None:
        most = settings.max_diameter_nm / size
    high = math.inf if most is None else most
    low = least if least is not None else SMALLEST if high > SMALLEST else 0.0
    if low > high:
        raise SettingsError(
            f"no diameter is at least {low:g} px and at most {high:g} px; lower the one, or raise the other."
        )
    return low, high


def _blobs(
    micrograph: Micrograph, settings: CentreSettings, plane: int, rows: slice
) -> Generator[Progress, None, Extrema]:
    if settings.method == "model":
        raise ValueError(settings.method)
    image_cyx = micrograph.plane(plane)[:, rows]
    low, high = _limits(settings, micrograph.pixel_size_nm)
    blobs = yield from find_extrema(image_cyx[0], grey_scale(image_cyx), low, high, settings.method)
    if image_cyx.dtype.kind != "f":
        return blobs
    y, x = np.rint(blobs.points_yx).astype(np.int64).T
    return blobs[np.isfinite(image_cyx[0, y, x])]


def _landscape(
    micrograph: Micrograph, settings: CentreSettings, plane: int, rows: slice, loaded: Model | None
) -> Generator[Progress, None, Landscape]:
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.precision, device)
    yield Progress(0, 1, "loading the model")
    model = loaded or load_model(settings.model, str(device))
    model.network.to(device)
    how = SegmentSettings(instances=True)
    image_cyx = micrograph.plane(plane, model.card.architecture.in_channels)[:, rows]
    maps = yield from make_maps(image_cyx, micrograph.name, model, how, device, dtype)
    yield Progress(1, 1, "looking for centres")
    return survey(maps.classes_yx, maps.depth_yx)


def _from_blobs(
    blobs: Extrema, settings: CentreSettings, limits: tuple[float, float], shape: tuple[int, int]
) -> Centres:
    wanted = np.abs(blobs.contrast) >= settings.contrast
    if settings.polarity != "either":
        wanted &= (blobs.contrast > 0) == (settings.polarity == "bright")
    blobs = suppress(blobs[wanted & _within(blobs.diameter_px, limits)], settings.overlap)
    if settings.exclude_edge:
        radius = blobs.diameter_px[:, None] / 2
        first, last = blobs.points_yx - radius, blobs.points_yx + radius
        blobs = blobs[np.all((first >= -0.5) & (last <= np.array(shape) - 0.5), axis=1)]
    sign = np.sign(blobs.contrast).astype(np.int8)
    return Centres(blobs.points_yx.copy(), blobs.diameter_px, np.abs(blobs.contrast), sign)


def _from_landscape(land: Landscape, settings: CentreSettings, limits: tuple[float, float]) -> Centres:
    tops, group = np.unique(join(land.heights, land.passes, land.pass_heights, settings.neck), return_inverse=True)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values, minlength=tops.size).astype(np.float64)  # of none, integers

    diameter = 2 * np.sqrt(total(land.areas) / np.pi)
    weights = total(land.weights)
    points = land.points_yx[tops].astype(np.float64)
    centroids = np.stack([total(column) for column in land.sums_yx.T], axis=1)
    np.divide(centroids, weights[:, None], out=centroids, where=weights[:, None] > 0)
    # The centroid lies more surely in the middle than the summit of a flat top, but not always inside.
    y, x = np.rint(centroids).astype(np.int64).T
    ground = land.ground_yx[y, x]
    inside = (weights > 0) & (ground >= 0)
    inside[inside] = group[ground[inside]] == np.flatnonzero(inside)
    points[inside] = centroids[inside]
    strength = land.heights[tops].astype(np.float64)
    kept = _within(diameter, limits)
    if land.relative:
        kept &= strength >= settings.depth
    else:
        strength = np.sqrt(strength)
    if settings.exclude_edge:
        kept &= total(land.at_edge) == 0
    return Centres(points, diameter, strength, np.zeros(tops.size, dtype=np.int8))[kept]


def _within(diameter: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    within: np.ndarray = (diameter >= limits[0]) & (diameter <= limits[1])
    return within
