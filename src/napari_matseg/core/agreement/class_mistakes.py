"""Where predicted classes are wrong: a picture of the errors, and a list of them, largest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.mistakes import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    KINDS,
    RIGHT,
    Mistake,
    largest_first,
    place,
)
from napari_matseg.core.agreement.pieces import SIDE, Pieces, connect, thick
from napari_matseg.core.metrics import count
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def find_class_mistakes(
    prediction_yx: ArrayLike,
    truth_yx: ArrayLike,
    class_names: Sequence[str],
    *,
    ignore: int | None = None,
    mask: ArrayLike | None = None,
) -> tuple[NDArray[np.uint8], list[Mistake]]:
    """Find what is wrong with predicted classes.

    A mistake is a connected piece of pixels of one class that were taken for one other. Where it touches right pixels
    of both classes it may be no more than two outlines of one thing that differ: only what is at least 3 px thick
    of it (holds a square of 3 x 3) is listed. Where it does not, something was missed or made up as a whole: it is
    listed from 9 px on, however thin.

    Parameters
    ----------
    prediction_yx, truth_yx : integer arrays, shape (height, width)
        Class ids; 0 is background or matrix.
    class_names : sequence of str
        A name for each class.
    ignore : int, optional
        Pixels whose truth has this value are left out.
    mask : boolean array, shape (height, width), optional
        Pixels where it is False are left out.

    Returns
    -------
    overlay_yx : uint8 array, shape (height, width)
        For each pixel its place in `KINDS` + 1: 1 where both have the same class, 2 where the truth has class 0 and
        the prediction another, 3 where the prediction has a class that is not that of the truth; 0 where both have
        class 0, and where pixels are left out.
    mistakes : list of Mistake
        Largest `area_px` first.

    Raises
    ------
    InputError
        As `metrics.count` does, and if the arrays are not of one plane.

    Examples
    --------
    >>> truth = np.zeros((8, 8), np.uint8)
    >>> truth[2:5, 2:6] = 1
    >>> overlay, mistakes = find_class_mistakes(np.zeros_like(truth), truth, ["matrix", "pore"])
    >>> mistakes[0].text, mistakes[0].area_px
    ('pore taken for matrix', 12)
    """
    prediction, truth = np.asarray(prediction_yx), np.asarray(truth_yx)
    if truth.ndim != 2:
        raise InputError(
            f"truth: mistakes are found in one plane (height, width), not in an array of shape {truth.shape}; "
            "take the planes of a stack one by one."
        )
    count(prediction, truth, len(class_names), ignore, mask)  # which tells of anything that is wrong with the arrays
    agree = prediction == truth
    wrong = ~agree
    for kept in (None if ignore is None else truth != ignore, None if mask is None else np.asarray(mask)):
        if kept is not None:
            agree &= kept
            wrong &= kept
    overlay = np.zeros(truth.shape, np.uint8)
    overlay[agree & (truth > 0)] = RIGHT
    overlay[wrong] = FALSE_NEGATIVE
    overlay[wrong & (truth == 0)] = FALSE_POSITIVE

    n, width = len(class_names), truth.shape[1]
    owners = np.multiply(truth, n, dtype=np.min_scalar_type(n * n), casting="unsafe")
    np.add(owners, prediction, out=owners, casting="unsafe")
    owners[~wrong] = 0  # which no wrong pixel has but one of class 0, and that one is right
    places = np.flatnonzero(wrong)
    every = connect(places, owners.reshape(-1)[places].astype(np.int64), width)
    outline = _touch_both(every, places, agree, truth, prediction)
    whole = ~outline & (every.extents.area >= SIDE**2)
    owners.reshape(-1)[places[~outline[every.piece]]] = 0
    found = connect(*thick(owners), width)
    mistakes = [
        _class_mistake(pieces, k, class_names)
        for pieces, chosen in ((every, np.flatnonzero(whole)), (found, np.arange(len(found.owner))))
        for k in chosen.tolist()
    ]
    return overlay, largest_first(mistakes)


def _touch_both(
    pieces: Pieces,
    places: NDArray[np.int64],
    agree: NDArray[np.bool_],
    truth: NDArray[Any],
    prediction: NDArray[Any],
) -> NDArray[np.bool_]:
    """Tell which pieces touch right pixels of the class that they are and of the one that they were taken for."""
    height, width = agree.shape
    y, x = np.divmod(places, width)
    touch = [np.zeros(len(pieces.owner), bool) for _ in range(2)]
    for step, inside in ((-width, y > 0), (width, y < height - 1), (-1, x > 0), (1, x < width - 1)):
        inside = np.flatnonzero(inside)
        inside = inside[agree.reshape(-1)[places[inside] + step]]
        here = places[inside]
        for side, classes in enumerate((truth.reshape(-1), prediction.reshape(-1))):
            touch[side][pieces.piece[inside[classes[here + step] == classes[here]]]] = True
    return touch[0] & touch[1]


def _class_mistake(pieces: Pieces, k: int, class_names: Sequence[str]) -> Mistake:
    truth, prediction = divmod(int(pieces.owner[k]), len(class_names))
    return Mistake(
        KINDS[(FALSE_NEGATIVE if truth else FALSE_POSITIVE) - 1],
        (truth,),
        (prediction,),
        **place(pieces.extents, k),
        iou=float("nan"),
        text=f"{class_names[truth]} taken for {class_names[prediction]}",
    )
