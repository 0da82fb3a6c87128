"""The pixels of one mistake, and the prediction as it would be without it."""

from __future__ import annotations

from itertools import count

import numpy as np
from scipy import ndimage

from napari_matseg._napari.evaluate_result import Evaluation, Mistakes
from napari_matseg.core.agreement.mistakes import FALSE_NEGATIVE, FALSE_POSITIVE, KINDS, Mistake
from napari_matseg.errors import InputError


def pixels_of(evaluation: Evaluation, mistakes: Mistakes, mistake: Mistake) -> np.ndarray:
    """Find the pixels that a mistake is about.

    Returns
    -------
    bool array, shape (bottom - top, right - left)
        In the frame of the mistake: the object that is missed, made up, split or a merger; else the piece of outline or
        of a class that is wrong.
    """
    frame = slice(mistake.top, mistake.bottom), slice(mistake.left, mistake.right)
    predicted, true = (side[mistakes.plane][frame] for side in (evaluation.predicted, evaluation.true))
    of_truth, of_prediction = np.isin(true, mistake.truth_labels), np.isin(predicted, mistake.predicted_labels)
    if not evaluation.objects:
        return _piece(of_truth & of_prediction)
    if is_outline(mistake):
        code = KINDS.index(mistake.kind) + 1
        wrong = mistakes.overlay_yx[frame] == code
        return _piece(wrong & (of_prediction if code == FALSE_POSITIVE else of_truth))
    return of_prediction if mistake.kind in ("false positive", "merge") else of_truth


def is_outline(mistake: Mistake) -> bool:
    """Whether it is a piece of wrong outline of an object that is there."""
    wrong = mistake.kind in (KINDS[FALSE_POSITIVE - 1], KINDS[FALSE_NEGATIVE - 1])
    return wrong and bool(mistake.truth_labels) and bool(mistake.predicted_labels)


def with_truth(labels: np.ndarray, evaluation: Evaluation, mistakes: Mistakes, mistake: Mistake) -> np.ndarray:
    """Put the truth in the place of a mistake.

    Parameters
    ----------
    labels : integer array, shape (..., height, width)
        The prediction as it is now, whose values are those that were compared.
    evaluation, mistakes : Evaluation, Mistakes
    mistake : Mistake
        One of them.

    Returns
    -------
    integer array, shape (height, width)
        Its plane. Objects keep their ids as far as there is one for each; further ones get new ids. What the objects of
        the mistake have beside the truth is no object any more.

    Raises
    ------
    InputError
        If the labels' type has no room for a new id.
    """
    plane = labels[tuple(evaluation.planes(mistakes.plane))].copy()
    if not evaluation.objects or is_outline(mistake):
        frame = slice(mistake.top, mistake.bottom), slice(mistake.left, mistake.right)
        value = mistake.predicted_labels[0] if mistake.kind == "false negative" else 0
        if not evaluation.objects:
            value = mistake.truth_labels[0]
        plane[frame][pixels_of(evaluation, mistakes, mistake)] = value
        return plane
    fresh = count(int(labels.max()) + 1)
    ids = list(mistake.predicted_labels)
    true = evaluation.true[mistakes.plane]
    counted = True if evaluation.mask is None else evaluation.mask[mistakes.plane]
    plane[np.isin(plane, ids) & counted] = 0
    for label in mistake.truth_labels:
        value = ids.pop(0) if ids else next(fresh)
        if value > np.iinfo(labels.dtype).max:
            raise InputError(
                f"{evaluation.name}: its type {labels.dtype} has no room for the id {value}; "
                "convert the layer to a larger one (right click on it, Convert data type)."
            )
        plane[(true == label) & counted] = value
    return plane


def _piece(wrong: np.ndarray) -> np.ndarray:
    """Of several pieces in a frame, take the one that the frame is of: it reaches all its sides."""
    pieces, n = ndimage.label(wrong)
    if n < 2:
        return wrong
    reach = [np.bincount(side[side > 0], minlength=n + 1) > 0 for side in (*pieces[[0, -1]], *pieces[:, [0, -1]].T)]
    area = np.bincount(pieces.ravel(), minlength=n + 1)
    area[0] = 0
    return np.asarray(pieces == np.lexsort((area, np.sum(reach, axis=0)))[-1])
