"""What the edge of the field does to a count of objects, and what makes up for it.

An object shows in a field whole, cut, or not at all. Those cut have no known size; to leave them out makes large
objects too rare, for they are cut more often, and to keep them makes them too small and too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_matseg.settings import MeasureSettings

LISTED = 3  # corrections that a line names before it says "and more"


def edge_weights(
    centres_yx: NDArray[np.float64],
    extents_yx: NDArray[np.float64],
    touches_edge: NDArray[np.bool_],
    shape_yx: tuple[int, int],
    settings: MeasureSettings,
) -> tuple[NDArray[np.float64], str]:
    """Give how many objects of the specimen each object in a field stands for.

    "miles-lantuejoul" leaves out objects that touch the edge and weighs an object of h x w pixels with
    H W / ((H - h - 1)(W - w - 1)), H x W being the field: the inverse of the share of its possible places at which
    it is seen whole. It needs no guard and wastes no object. The 1 is that of pixels: an object with a pixel in the
    outermost row may go on beyond it, so it is no whole one, and there is one place less than H - h. The weights of an
    object over all its places add up to H W exactly.

    "guard" counts the objects with their centre of mass in a frame inside the field and weighs each with the ratio of
    the areas of field and frame. An object has one centre of mass, so frames side by side would count each object once,
    whatever its size and shape: the associated point rule. It holds as long as an object with its centre in the frame
    lies whole in the field, which it does if none is larger than the guard. Gundersen's frame with two forbidden sides
    is unbiased for the same reason.

    "drop" gives 0 to the objects that touch the edge and 1 to the others; "keep" gives 1 to all. Both are biased.

    Parameters
    ----------
    centres_yx : float64 array, shape (n, 2)
        Centres of mass in pixels; that of the first pixel of the field is (0, 0).
    extents_yx : float64 array, shape (n, 2)
        Height and width of the bounding boxes in pixels.
    touches_edge : boolean array, shape (n,)
        Whether an object has a pixel in the outermost rows or columns of the field.
    shape_yx : (int, int)
        Height and width of the field in pixels.
    settings : MeasureSettings
        Of which `edge` and `guard_px` count.

    Returns
    -------
    float64 array, shape (n,)
        0 for objects that are left out.
    str
        What was done, in words for a table.

    Raises
    ------
    InputError
        If an object that touches no edge does not fit into the field, or the guard leaves no frame.

    References
    ----------
    Miles (1974), "On the elimination of edge effects in planar sampling", in Harding and Kendall, Stochastic Geometry.
    Lantuéjoul (1980), "On the estimation of mean values in individual analysis of particles", Microscopica Acta,
    Suppl. 4, 266-273. ISO 13322-1:2014, treatment of particles cut by the edge of the measurement frame.
    Miles (1978), "The sampling, by quadrats, of planar aggregates", Journal of Microscopy 113, 257-267.
    Gundersen (1977), "Notes on the estimation of the numerical density of arbitrary profiles: the edge effect",
    Journal of Microscopy 111, 219-223.
    """
    height, width = shape_yx
    if settings.edge == "keep":
        return np.ones(len(extents_yx)), "not corrected: objects at the edge kept"
    if settings.edge == "drop":
        return (~touches_edge).astype(np.float64), "not corrected: objects at the edge left out"
    if settings.edge == "guard":
        return _guarded(centres_yx, extents_yx, touches_edge, shape_yx, settings.guard_px)

    places = np.array(shape_yx) - extents_yx - 1
    whole = ~touches_edge
    if (places[whole] < 1 - 1e-6).any():  # extents were nanometres before
        h, w = extents_yx[whole][(places[whole] < 1 - 1e-6).any(axis=1)][0]
        raise InputError(
            f"an object of {h:g} x {w:g} px does not lie within a field of {height} x {width} px without touching its "
            "edge; give the size of the field that the objects were measured in."
        )
    weights = np.zeros(len(extents_yx))
    weights[whole] = height * width / places[whole].prod(axis=1)
    words = "Miles-Lantuéjoul weights"
    spanning = int((places < 1 - 1e-6).any(axis=1).sum())
    if spanning:
        words += f", {spanning} object{'s' if spanning > 1 else ''} as large as the field left out"
    return weights, words


def _guarded(
    centres_yx: NDArray[np.float64],
    extents_yx: NDArray[np.float64],
    touches_edge: NDArray[np.bool_],
    shape_yx: tuple[int, int],
    guard_px: float | None,
) -> tuple[NDArray[np.float64], str]:
    guard = float(extents_yx.max(initial=0.0)) if guard_px is None else guard_px
    height, width = shape_yx
    frame = np.array(shape_yx) - 2 * guard
    if (frame <= 0).any():
        advice = "take Miles-Lantuéjoul weights" if guard_px is None else "set a narrower one"
        raise InputError(
            f"a guard of {guard:g} px leaves no frame in a field of {height} x {width} px; {advice}, "
            "or measure larger fields."
        )
    # The field begins half a pixel before the centre of its first pixel.
    place = centres_yx + 0.5 - guard
    inside = ((place >= 0) & (place < frame)).all(axis=1)
    cut = int((inside & touches_edge).sum())
    words = f"guard frame of {round(guard, 1):g} px"
    if cut:
        words += f", {cut} object{'s' if cut > 1 else ''} in it cut by the edge"
    return inside * (height * width / frame.prod()), words


def describe(corrections: Sequence[str]) -> str:
    """Say in one line what was done in several fields.

    Examples
    --------
    >>> describe(["guard frame of 35 px", "guard frame of 40 px", "guard frame of 35 px"])
    'guard frame of 35 px; guard frame of 40 px'
    """
    different = list(dict.fromkeys(corrections))
    more = len(different) - LISTED
    return "; ".join(different[:LISTED]) + (f"; and {more} more" if more > 0 else "")
