"""Stacks of large planes, of which napari is not to read all."""

from __future__ import annotations

from typing import Any

import numpy as np


class LazyStack:
    """A level of a pyramid of planes.

    napari cuts the part that is seen out of all planes, and only then takes the one that is shown. So here a part of
    all planes is not read before a plane of it is taken.

    Parameters
    ----------
    whole : array
        Anything that slices like numpy's; its first axes are those of the planes.
    n_planes_axes : int
    """

    def __init__(self, whole: Any, n_planes_axes: int, part: tuple[slice, ...] | None = None) -> None:
        self.whole = whole
        self._n = n_planes_axes
        self._part = part or (slice(None),) * len(whole.shape)
        # Only the part's extent counts here, of which nothing is read.
        self.shape = tuple(len(range(length)[cut]) for length, cut in zip(whole.shape, self._part, strict=True))
        self.dtype = np.dtype(whole.dtype)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read all of the part."""
        if copy is False:
            raise ValueError("pixels that stay in their file cannot be had without a copy")
        return np.asarray(self.whole[self._part]).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """Read what a key selects; a part of all planes is another stack instead."""
        every = slice(None)
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [one for one in keys if one is Ellipsis] or len(keys) > self.ndim:
            return np.asarray(self)[key]
        keys = (*keys, *[every] * (self.ndim - len(keys)))
        if all(cut == every for cut in keys[: self._n]) and not any(isinstance(cut, int) for cut in keys):
            if all(cut == every for cut in self._part):
                return LazyStack(self.whole, self._n, keys)
            return np.asarray(self)[keys]
        if all(cut == every for cut in keys[self._n :]):
            return np.asarray(self.whole[(*keys[: self._n], *self._part[self._n :])])
        if all(cut == every for cut in self._part):
            return np.asarray(self.whole[keys])
        return np.asarray(self)[keys]
