"""One scale of grey for the whole micrograph, never one per tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_matseg.settings import NormaliseSettings

MAX_SAMPLE = 1 << 24  # values from which percentiles of wide dtypes are taken
BAND = 1 << 24  # values counted at once


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


def grey_scale(image_cyx: np.ndarray, settings: NormaliseSettings | None = None) -> GreyScale:
    """Measure the grey scale of a whole micrograph.

    Parameters
    ----------
    image_cyx : array, shape (channels, height, width), any real dtype
        Leave out the data bar, which is no part of the micrograph.
    settings : NormaliseSettings, optional

    Returns
    -------
    GreyScale
        The percentiles; the extremes where the percentiles coincide. Values that are not finite do not count.
        Exact for unsigned 8 and 16 bit; for other dtypes from at most 2**24 evenly spaced values.
    """
    settings = settings or NormaliseSettings()
    pairs = [_channel_scale(channel, settings) for channel in image_cyx]
    return GreyScale(tuple(low for low, _ in pairs), tuple(high for _, high in pairs), settings.limit)


def _channel_scale(image_yx: np.ndarray, settings: NormaliseSettings) -> tuple[float, float]:
    if image_yx.dtype == np.bool_ or (image_yx.dtype.kind == "u" and image_yx.dtype.itemsize <= 2):
        values, weights = _histogram(image_yx)
    else:
        step = max(1, int(np.ceil(np.sqrt(image_yx.size / MAX_SAMPLE))))
        sample = np.asarray(image_yx[::step, ::step], dtype=np.float64).ravel()
        values = np.sort(sample[np.isfinite(sample)])
        weights = np.ones(values.size, dtype=np.int64)
    if values.size == 0:
        return 0.0, 0.0
    rank = np.cumsum(weights)
    low, high = (
        float(values[np.searchsorted(rank, share / 100 * rank[-1])]) for share in (settings.low, settings.high)
    )
    return (low, high) if high > low else (float(values[0]), float(values[-1]))


def _histogram(image_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey values that occur, ascending, and how often; read in bands so that a lazy array stays lazy."""
    counts = np.zeros(1 << (8 * image_yx.dtype.itemsize), dtype=np.int64)
    rows = max(1, BAND // max(1, image_yx.shape[1]))
    for start in range(0, image_yx.shape[0], rows):
        band = np.asarray(image_yx[start : start + rows])
        counts += np.bincount(band.astype(np.uint16).ravel(), minlength=counts.size)
    values = np.flatnonzero(counts)
    return values, counts[values]
