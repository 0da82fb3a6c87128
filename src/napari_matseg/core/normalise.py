"""One scale of grey for the whole micrograph, never one per tile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import SettingsError
from napari_matseg.settings import NormaliseSettings

if TYPE_CHECKING:
    from collections.abc import Generator

MAX_SAMPLE = 1 << 24  # values from which percentiles of wide dtypes are taken
BAND = 1 << 22  # values counted at once


@dataclass(frozen=True)
class GreyScale:
    """The grey values that become -1 and 1, one pair for each channel; scaled values are clipped to +-limit."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    limit: float = NormaliseSettings().limit

    def apply(self, image_cyx: np.ndarray) -> np.ndarray:
        """Scale an image, or any part of it.

        Parameters
        ----------
        image_cyx : array, shape (channels, height, width), any real dtype

        Returns
        -------
        array, shape (channels, height, width), float32
            `low` becomes -1 and `high` becomes 1; what is not a number becomes 0.
            A channel without contrast is 0 throughout.
        """
        low = np.asarray(self.low, dtype=np.float64)[:, None, None]
        span = np.asarray(self.high, dtype=np.float64)[:, None, None] - low
        with np.errstate(over="ignore", invalid="ignore"):
            factor = np.divide(2.0, span, out=np.zeros_like(span), where=span > 0)
            offset = np.where(span > 0, -low * factor - 1.0, 0.0)
        # Multiplied out in float64 only where float32 could not hold the values apart.
        wide = image_cyx.dtype.itemsize > 2
        values: np.ndarray = image_cyx.astype(np.float64 if wide else np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            np.multiply(values, factor.astype(values.dtype), out=values)
            np.add(values, offset.astype(values.dtype), out=values)
        if image_cyx.dtype.kind == "f":
            np.nan_to_num(values, copy=False, nan=0.0, posinf=self.limit, neginf=-self.limit)
        return np.clip(values, -self.limit, self.limit, out=values).astype(np.float32, copy=False)


def grey_scale(image_cyx: Any, settings: NormaliseSettings | None = None) -> GreyScale:
    """Measure the grey scale of a whole micrograph.

    Parameters
    ----------
    image_cyx : array, shape (channels, height, width), any real dtype
        Leave out the data bar, which is no part of the micrograph. Of an array that is lazy, such as a `PlaneView`, a
        band of rows is in memory at a time.
    settings : NormaliseSettings, optional

    Returns
    -------
    GreyScale
        The percentiles; the extremes where the percentiles coincide. Values that are not finite do not count.
        Exact for unsigned 8 and 16 bit; for other dtypes from at most 2**24 evenly spaced values.
    """
    return finish(grey_scale_steps(image_cyx, settings))


def grey_scale_steps(image_cyx: Any, settings: NormaliseSettings | None = None) -> Generator[Progress, None, GreyScale]:
    """Measure as `grey_scale` does, as a generator that yields `Progress` after each band of rows."""
    settings = settings or NormaliseSettings()
    n_channels, height, width = image_cyx.shape
    counted = image_cyx.dtype == np.bool_ or (image_cyx.dtype.kind == "u" and image_cyx.dtype.itemsize <= 2)
    step = 1 if counted else max(1, int(np.ceil(np.sqrt(height * width / MAX_SAMPLE))))
    counts = np.zeros((n_channels if counted else 0, 1 << (8 * min(image_cyx.dtype.itemsize, 2))), dtype=np.int64)
    samples: list[list[np.ndarray]] = [[] for _ in range(n_channels)]
    rows = max(1, BAND // max(1, width * n_channels * step)) * step
    for start in range(0, height, rows):
        band_cyx = np.asarray(image_cyx[:, start : start + rows, :])[:, ::step, ::step]
        for channel, band_yx in enumerate(band_cyx):
            if counted:
                counts[channel] += np.bincount(band_yx.astype(np.uint16).ravel(), minlength=counts.shape[1])
            else:
                sample = band_yx.astype(np.float64).ravel()
                samples[channel].append(sample[np.isfinite(sample)])
        yield Progress(min(start + rows, height), height, "measuring the grey scale")
    shares = settings.low / 100, settings.high / 100
    pairs = [_of_counts(one, shares) for one in counts] or [_of_sample(np.concatenate(one), shares) for one in samples]
    if settings.mean is not None and settings.std is not None:
        pairs = _of_statistics(pairs, image_cyx.dtype, settings.mean, settings.std)
    return GreyScale(tuple(low for low, _ in pairs), tuple(high for _, high in pairs), settings.limit)


def _of_statistics(
    pairs: list[tuple[float, float]], dtype: np.dtype[Any], mean: tuple[float, ...], std: tuple[float, ...]
) -> list[tuple[float, float]]:
    """Grey values at which (grey - mean) / std is -1 and 1, for each channel."""
    if len(mean) not in (1, len(pairs)):
        raise SettingsError(
            f"normalise: mean and std are of {len(mean)} channels and the network takes {len(pairs)}; give one of each."
        )
    if dtype == np.uint8:
        pairs = [(0.0, 255.0)] * len(pairs)
    statistics = list(zip(mean, std, strict=True)) * (len(pairs) // len(mean))
    return [
        (low + (m - s) * (high - low), low + (m + s) * (high - low))
        for (low, high), (m, s) in zip(pairs, statistics, strict=True)
    ]


def _of_counts(counts: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Percentiles by how often each grey value occurs."""
    values = np.flatnonzero(counts)
    rank = np.cumsum(counts[values])
    return _ends(values, [int(np.searchsorted(rank, share * counts.sum())) for share in shares])


def _of_sample(sample: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of values, which are sorted in place."""
    sample.sort()
    return _ends(sample, [max(math.ceil(share * sample.size) - 1, 0) for share in shares])


def _ends(values: np.ndarray, places: list[int]) -> tuple[float, float]:
    """Values at two places, or the first and last where these are the same."""
    if values.size == 0:
        return 0.0, 0.0
    low, high = (float(values[place]) for place in places)
    return (low, high) if high > low else (float(values[0]), float(values[-1]))
