"""How sure a score is: the bootstrap over images.

Images are drawn anew with replacement, as many as there are, and the score is taken from the sum of the counts of
those drawn. The percentiles of the scores of many draws are the limits (Efron and Tibshirani 1993, An Introduction to
the Bootstrap, chapter 13). Whole images are drawn, not pixels: pixels of one image are not independent of each
other. The interval holds for images taken like these; from a handful of them it comes out too narrow.
"""

from __future__ import annotations

import dataclasses
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_matseg.settings import EvaluateSettings

LEVEL = 0.95
CHUNK = 1 << 22  # numbers in the sums that are held at a time


class Additive(Protocol):
    """What can be added up: an array, or a frozen dataclass like `core.metrics.Counts`.

    Of a dataclass, the fields that `+` adds up must be numbers or arrays of one shape for all images; the others, such
    as a tolerance, must be equal for all.
    """

    def __add__(self, other: Any) -> Any:
        """Add the counts of another image."""


T = TypeVar("T", bound=Additive)


@overload
def interval(counts: Sequence[T], score: Callable[[T], float], settings: EvaluateSettings) -> tuple[float, float]: ...


@overload
def interval(
    counts: Sequence[T], score: Callable[[T], NDArray[np.float64]], settings: EvaluateSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


def interval(counts: Sequence[T], score: Callable[[T], Any], settings: EvaluateSettings) -> tuple[Any, Any]:
    """Give the 95 % confidence interval of a score over images.

    Parameters
    ----------
    counts : sequence
        The counts of each image, which `+` adds up: arrays of one shape, or dataclasses (see `Additive`).
    score : callable
        From a sum of counts to a score: a float, or an array of several scores, as many for every sum. What is 0/0
        must be NaN.
    settings : EvaluateSettings
        Of which `bootstrap` (the number of draws) and `seed` count.

    Returns
    -------
    low, high : float, or float64 array of the shape of the score
        The 2.5th and 97.5th percentile of the draws in which the score is defined. NaN where there are fewer than two
        images, no draws, or none in which it is defined.

    Raises
    ------
    InputError
        If there are no counts at all, or `+` finds that they do not belong together.

    Examples
    --------
    >>> from napari_matseg.settings import EvaluateSettings
    >>> hits_of_pixels = [np.array([hits, 100]) for hits in (90, 85, 95, 70, 88, 92)]
    >>> low, high = interval(hits_of_pixels, lambda total: total[0] / total[1], EvaluateSettings())
    >>> round(low, 2), round(high, 2)
    (0.79, 0.92)
    """
    if not len(counts):
        raise InputError("a confidence interval needs the counts of at least one image; there are none.")
    reduce(add, counts)  # which tells of counts that do not belong together
    draws = settings.bootstrap
    if len(counts) < 2 or draws == 0:
        undefined = np.full_like(np.asarray(score(counts[0]), dtype=np.float64), np.nan)
        return _as_given(undefined), _as_given(undefined)
    scores = np.array([score(total) for total in _sums(counts, draws, settings.seed)], dtype=np.float64)
    limits = np.full((2, *scores.shape[1:]), np.nan)
    some = ~np.isnan(scores).all(axis=0)
    tail = (1 - LEVEL) / 2
    limits[:, some] = np.nanquantile(scores[:, some], (tail, 1 - tail), axis=0)
    return _as_given(limits[0]), _as_given(limits[1])


def _sums(counts: Sequence[T], draws: int, seed: int) -> Any:
    """Give the sum of the counts of each draw.

    How often each image was drawn, times the counts of all images, is one product of matrices; adding objects one by
    one would take minutes.
    """
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    first = counts[0]
    names = _added_fields(first)
    stacks = [np.stack([np.asarray(_part(image, name)) for image in counts]) for name in names]
    flat = [stack.reshape(n, -1).astype(np.float64) for stack in stacks]
    step = max(1, CHUNK // max(1, sum(part.shape[1] for part in flat)))
    for start in range(0, draws, step):
        # float64 has the fast product and is exact for whole numbers up to 2^53, more than pixels ever add up to.
        totals = [
            (drawn[start : start + step] @ part).reshape(-1, *stack.shape[1:]).astype(stack.dtype)
            for part, stack in zip(flat, stacks, strict=True)
        ]
        for parts in zip(*totals, strict=True):
            yield parts[0] if names == [""] else dataclasses.replace(first, **dict(zip(names, parts, strict=True)))  # type: ignore[type-var]


def _added_fields(counts: Any) -> list[str]:
    """Name the fields that `+` adds up; one without a name is the array itself."""
    if not dataclasses.is_dataclass(counts):
        return [""]
    twice = counts + counts  # type: ignore[operator]
    names = []
    for field in dataclasses.fields(counts):
        once, sum_ = getattr(counts, field.name), getattr(twice, field.name)
        if isinstance(once, (int, float, np.number, np.ndarray)) and np.array_equal(
            sum_, np.multiply(once, 2), equal_nan=True
        ):
            names.append(field.name)
    return names


def _part(counts: Any, name: str) -> Any:
    return getattr(counts, name) if name else counts


def _as_given(limits: NDArray[np.float64]) -> Any:
    return limits if limits.ndim else float(limits)
