"""Whether a micrograph looks like those that a model learnt from.

A few plain numbers are measured on each training image, and their ranges go into the card. A micrograph outside them
is not one that the model cannot do; it is one for which nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.normalise import GreyScale, grey_scale
from napari_matseg.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_matseg.core.checkpoints import ModelCard
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import NormaliseSettings, TrainSettings

WINDOW, GRID = 512, 4
"""Of a large image, so many windows along each axis are looked at, of so many pixels."""
LEVELS = 7  # halvings over which structures are looked for
CORE = (2.5, 97.5)  # percentiles of the training images that a range is made of, so that single ones do not widen it
WIDENED = 0.25  # shares of a range that it is wider, as there are other images than those
LEAST_NOISE = 0.01  # of the range from black to white; less is all the same
SAME_SIZE = 1.25  # factor between pixel sizes that is no difference


@dataclass(frozen=True)
class _Quantity:
    """What is measured: by how much a value is outside a range at least, and how to say so."""

    slack: float
    lower: str
    higher: str
    power: bool = True
    """Whether it is kept as a power of 2, and told as a plain number."""


QUANTITIES = {
    "tone": _Quantity(0.4, "it is mostly darker than {}", "it is mostly brighter than {}", power=False),
    "contrast": _Quantity(
        0.3,
        "bright and dark parts differ less than in {}",
        "bright and dark parts differ more than in {}",
        power=False,
    ),
    "noise": _Quantity(0.6, "it has less noise than {}", "it has more noise than {}: expect specks"),
    "sharpness": _Quantity(
        0.6, "it is less sharp than {}: expect outlines that are off", "it is sharper or grainier than {}"
    ),
    "structure_px": _Quantity(
        0.5,
        "its structures are smaller than in {}: magnify it first",
        "its structures are larger than in {}: reduce it first",
    ),
}
LEARNT = "what the model learnt from"


class LearntFrom(Settings):
    """What the images look like that a model learnt from."""

    images: int
    pixel_size_nm: tuple[float, float] | None = None
    """Smallest and largest; None where not all images state theirs."""
    detectors: tuple[str, ...] = ()
    """Empty where not all images state theirs."""
    ranges: dict[str, tuple[float, float]]
    """Percentiles 2.5 and 97.5 of each quantity that `look_of` gives."""

    def to_text(self) -> str:
        """Say it in a line."""
        known = [f"{self.images} image{'s' if self.images > 1 else ''}"]
        known += [] if self.pixel_size_nm is None else [f"{_ends(*self.pixel_size_nm, 3)} nm/px"]
        known += [f"detector {', '.join(self.detectors)}"] if self.detectors else []
        return f"Warns of micrographs unlike those it learnt from: {'; '.join(known)}."


@dataclass(frozen=True)
class Look:
    """What a micrograph looks like.

    Attributes
    ----------
    pixel_size_nm : float or None
        Side of a square as large as a pixel.
    detector : str or None
    numbers : dict
        As `look_of` gives them.
    """

    pixel_size_nm: float | None
    detector: str | None
    numbers: Mapping[str, float]


def look_of(micrograph: Micrograph, rows: slice, scale: GreyScale | NormaliseSettings, channels: int = 1) -> Look:
    """Measure what the first plane of a micrograph looks like.

    Parameters
    ----------
    micrograph : Micrograph
        Of a large one, 16 windows of 512 x 512 px are read.
    rows : slice
        Those without the data bar.
    scale : GreyScale or NormaliseSettings
        Of the plane, as the network gets it; settings measure it first.
    channels : int
        That the network takes.

    Returns
    -------
    Look
        Of grey from -1, black, to 1, white: `tone`, the median; `contrast`, between its quartiles; `noise`, the
        standard deviation of the finest detail, by its median (Donoho and Johnstone 1994, doi
        10.1093/biomet/81.3.425); `sharpness`, how much detail of 1 px there is beside that of 2 px; and
        `structure_px`, the scale at which most of the rest lies. The last three as powers of 2.
    """
    view = micrograph.view(0, channels, rows)
    if not isinstance(scale, GreyScale):
        scale = grey_scale(view, scale)
    windows = [scale.apply(view[:, y, x]).mean(axis=0) for y in _spans(view.shape[1]) for x in _spans(view.shape[2])]
    low, middle, high = np.percentile(np.concatenate([window.ravel() for window in windows]), (25, 50, 75))
    size, detector = micrograph.pixel_size_nm, micrograph.metadata.get("detector")
    return Look(
        None if size is None else float(np.sqrt(size[0] * size[1])),
        None if detector is None else str(detector),
        {"tone": float(middle), "contrast": float(high - low)} | _details(windows),
    )


def learnt_from(looks: Iterable[Look]) -> LearntFrom:
    """Sum up the images that a model learnt from."""
    looks = list(looks)
    sizes = [look.pixel_size_nm for look in looks if look.pixel_size_nm is not None]
    detectors = [look.detector for look in looks if look.detector is not None]
    ends = {name: np.percentile([look.numbers[name] for look in looks], CORE).round(3).tolist() for name in QUANTITIES}
    return LearntFrom(
        images=len(looks),
        pixel_size_nm=(min(sizes), max(sizes)) if len(sizes) == len(looks) else None,
        detectors=tuple(sorted(set(detectors))) if len(detectors) == len(looks) else (),
        ranges={name: (low, high) for name, (low, high) in ends.items()},
    )


def learnt_from_training(settings: TrainSettings, names: Iterable[str], folder: Path) -> LearntFrom:
    """Sum up the images that a training learns from.

    Parameters
    ----------
    settings : TrainSettings
    names : iterable of str
        Of the images, without those that are held out as a whole.
    folder : Path
        What the paths in the settings are relative to.

    Raises
    ------
    InputError
        If an image is missing or cannot be read.
    """
    from napari_matseg.core.dataset import files_of
    from napari_matseg.core.read import read

    micrographs = (read(files_of(settings.data, name, folder)[0]) for name in names)
    channels = settings.architecture.in_channels
    return learnt_from(look_of(one, one.content_rows, settings.normalise, channels) for one in micrographs)


def unlike(look: Look, known: LearntFrom | None, magnified: tuple[float, float] = (1.0, 1.0)) -> list[str]:
    """Say in plain words in what a micrograph is unlike those that a model learnt from.

    Parameters
    ----------
    look : Look
        Of the micrograph.
    known : LearntFrom or None
        Of the model's card; None, as in cards of earlier versions: nothing is said.
    magnified : (float, float)
        By how much the training magnified its images at least and at most.

    Returns
    -------
    list of str
        A sentence for each difference, none if there is none.
    """
    if known is None:
        return []
    said = [_of_size(look.pixel_size_nm, known.pixel_size_nm, magnified), _of_detector(look.detector, known.detectors)]
    for name, quantity in QUANTITIES.items():
        low, high = known.ranges[name]
        slack = max(quantity.slack, WIDENED * (high - low))
        value = look.numbers[name]
        if low - slack <= value <= high + slack:
            continue
        words = quantity.lower if value < low else quantity.higher
        numbers = [2**one if quantity.power else one for one in (value, low, high)]
        said.append(words.format(f"{LEARNT} ({_told(name, numbers)})") + ".")
    return [one for one in said if one is not None]


def warn_of(card: ModelCard, micrograph: Micrograph, rows: slice, plane: Mapping[str, Any]) -> list[str]:
    """Say in what a micrograph is unlike those that a model learnt from; see `unlike`.

    Parameters
    ----------
    card : ModelCard
        Of the model.
    micrograph : Micrograph
    rows : slice
        Those that were segmented.
    plane : mapping
        Record of its first plane, with the grey scale.
    """
    if card.learnt_from is None:
        return []
    scale = GreyScale(tuple(plane["grey_low"]), tuple(plane["grey_high"]), card.normalise.limit)
    look = look_of(micrograph, rows, scale, card.architecture.in_channels)
    smallest, largest = card.recipe.get("augment", {}).get("scale", (1.0, 1.0))
    return unlike(look, card.learnt_from, (float(smallest), float(largest)))


def _told(name: str, numbers: list[float]) -> str:
    """Say a value and the range it is not in."""
    unit = {"noise": " % of the range of grey", "structure_px": " px"}.get(name, "")
    factor = 50 if name == "noise" else 1  # black to white is 2
    value, low, high = (factor * one for one in numbers)
    return f"{value:.2g}{unit}, there {_ends(low, high, 2)}"


def _ends(low: float, high: float, digits: int) -> str:
    """Write a range, or one number where both ends are the same."""
    first, last = (f"{end:.{digits}g}" for end in (low, high))
    return first if first == last else f"{first} to {last}"


def _of_size(size: float | None, known: tuple[float, float] | None, magnified: tuple[float, float]) -> str | None:
    if size is None or known is None:
        return None
    smallest, largest = known[0] / max(magnified[1], SAME_SIZE), known[1] / min(magnified[0], 1 / SAME_SIZE)
    if smallest <= size <= largest:
        return None
    nearest = known[0] if size < known[0] else known[1]
    seen, factor = ("larger", nearest / size) if size < nearest else ("smaller", size / nearest)
    return (
        f"this micrograph has {size:.3g} nm/px, the model learnt from {_ends(*known, 3)} nm/px: expect mistakes, as "
        f"everything looks {factor:.2g} times {seen}; resample it to about {nearest:.3g} nm/px."
    )


def _of_detector(detector: str | None, known: tuple[str, ...]) -> str | None:
    if detector is None or not known or detector in known:
        return None
    return (
        f"this micrograph was taken with detector {detector}, the model learnt from {', '.join(known)}: expect another "
        "contrast between the classes."
    )


def _spans(length: int) -> list[slice]:
    """Windows along an axis, evenly spread; the whole axis where it is no longer than they are together."""
    if length <= GRID * WINDOW:
        return [slice(0, length)]
    return [slice(start, start + WINDOW) for start in np.linspace(0, length - WINDOW, GRID).astype(int).tolist()]


def _details(windows: list[np.ndarray]) -> dict[str, float]:
    """Noise, sharpness and size of structures, as powers of 2."""
    energies = np.zeros(LEVELS)
    finest: list[np.ndarray] = []
    for grey_yx in windows:
        for level in range(LEVELS):
            height, width = (length // 2 for length in grey_yx.shape)
            if min(height, width) < 4:
                break
            blocks = grey_yx[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
            if level == 0:
                finest.append((blocks[:, 0, :, 0] - blocks[:, 1, :, 0] - blocks[:, 0, :, 1] + blocks[:, 1, :, 1]) / 2)
            grey_yx = blocks.mean(axis=(1, 3))
            energies[level] += blocks.var(axis=(1, 3)).mean()
    energies = np.maximum(energies, 1e-9)
    noise = float(np.median(np.abs(np.concatenate([one.ravel() for one in finest])))) / 0.6745 if finest else 0.0
    coarse = energies[1:]
    return {
        "noise": float(np.log2(max(noise, LEAST_NOISE))),
        "sharpness": float(np.log2(energies[0] / energies[1])),
        "structure_px": float((coarse * np.arange(2, LEVELS + 1)).sum() / coarse.sum()),
    }
