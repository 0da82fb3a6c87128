"""Cross-validation by image: how good models of a recipe are on images that they never saw."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.checkpoints import SUFFIX, load_model, read_card, save_model
from napari_matseg.core.export import make_folder, write_json
from napari_matseg.core.metrics import Counts, Scores
from napari_matseg.core.ranks import Ranks
from napari_matseg.core.splits import Split, check_apart, digests_of, make_folds, split_images
from napari_matseg.core.train import TrainProgress, train_steps
from napari_matseg.core.train_data import hash_images, portable
from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from napari_matseg.settings import TrainSettings

REPORT = "report.json"
RATIOS = ("iou", "dice")


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """How good the models of a recipe are on images that they never saw.

    Attributes
    ----------
    classes : tuple of str
    folds : tuple of tuple of str
        Names of the images that each fold's model was tried on; each image is in one fold.
    counts : dict of str to Counts
        Of each image, by the model that did not learn from it.
    test : tuple of str
        Images that no model has seen, and none was tried on.
    folder : Path
        With the models of the folds and the report.
    final : Path or None
        Model that learnt from all of them.
    """

    classes: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    counts: dict[str, Counts]
    test: tuple[str, ...]
    folder: Path
    final: Path | None = None

    @property
    def report(self) -> Path:
        """File with all figures, for each fold and each image."""
        return self.folder / REPORT

    def rows(self) -> list[dict[str, Any]]:
        """Make a table: for each class, all classes alike ("mean") and all pixels alike ("pooled").

        Returns
        -------
        list of dict
            `class`; `iou` and `dice`: means over the folds; `iou_sd` and `dice_sd`: their standard deviation from fold
            to fold (n - 1); `folds`: how many of them have the class. None where undefined.
        """
        scores = [Scores(sum((self.counts[name] for name in fold), self._zero)) for fold in self.folds]
        found = [self._row(name, [(one.iou[i], one.dice[i]) for one in scores]) for i, name in enumerate(self.classes)]
        mean = self._row("mean", [(one.mean_iou, one.mean_dice) for one in scores])
        # Of all pixels, with every class counted alike, Dice is the share that are right.
        pooled = self._row("pooled", [(one.pooled_iou, one.accuracy) for one in scores])
        return [*found, mean, pooled]

    def to_dict(self) -> dict[str, Any]:
        """Give all of it in plain types, ready for JSON."""
        images = {}
        for number, fold in enumerate(self.folds, start=1):
            for name in fold:
                figures = Scores(self.counts[name]).to_dict(self.classes)
                images[name] = {"fold": number, **{ratio: figures[ratio] for ratio in (*RATIOS, "pooled_iou")}}
        everything = [name for fold in self.folds for name in fold]
        return {
            "summary": self.rows(),
            "all images": Scores(sum(self.counts.values(), self._zero)).to_dict(self.classes),
            "folds": [
                {
                    "learnt from": [name for name in everything if name not in fold],
                    "validated on": list(fold),
                    **Scores(sum((self.counts[name] for name in fold), self._zero)).to_dict(self.classes),
                }
                for fold in self.folds
            ],
            "images": images,
            "test images, not seen": list(self.test),
        }

    @property
    def _zero(self) -> Counts:
        return Counts.zero(len(self.classes))

    @staticmethod
    def _row(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
        row: dict[str, Any] = {"class": name}
        found = 0
        for ratio, column in zip(RATIOS, np.transpose(pairs), strict=True):
            known = column[np.isfinite(column)]
            row[ratio] = float(known.mean()) if known.size else None
            row[f"{ratio}_sd"] = float(known.std(ddof=1)) if known.size > 1 else None
            found = int(known.size)  # the same for both
        return row | {"folds": found}


def fold_steps(
    settings: TrainSettings,
    data_folder: Path,
    out: Path,
    folds: int,
    *,
    final: bool = False,
    resume: bool = True,
    workers: int = 0,
) -> Generator[TrainProgress, None, CrossValidation]:
    """Train as many models as there are folds, each without the images of one, and try it on those.

    All images of the recipe but its test images are dealt out, each to one fold; those of a group, see `data.group`,
    to the same. Nothing is chosen by what is held out: a fold's model is the one after the last step.

    Parameters
    ----------
    settings : TrainSettings
    data_folder : Path
        What the paths in the settings are relative to.
    out : Path
        Folder for `NAME-folds`, with a model for each fold and the report, and for the final model.
    folds : int
        At least 2.
    final : bool
        Also train a model on all images of all folds; its card has the figures of the cross-validation.
    resume : bool
        Take over the models of folds that are there, and go on with an interrupted training.
    workers : int
        As for `train_steps`.

    Yields
    ------
    TrainProgress
        Of all trainings together.

    Returns
    -------
    CrossValidation

    Raises
    ------
    InputError, ModelError, SettingsError, OutputError
        As `train_steps`; if there are fewer images or groups than folds, or two images are the same.
    """
    if Ranks.here().size > 1:
        raise SettingsError("folds are trained by one process; start napari-matseg without torchrun.")
    given = split_images(settings.data, settings.seed, data_folder)
    names = list(dict.fromkeys(given.train + given.validation))
    dealt = make_folds(names, folds, settings.data.group, settings.seed)
    digests = digests_of(settings.data, [*names, *given.test], data_folder, settings.architecture.in_channels)
    parts = {f"fold {number}": fold for number, fold in enumerate(dealt, start=1)} | {"test": given.test}
    check_apart({part: {name: digests[name] for name in some} for part, some in parts.items()})

    folder = out / f"{settings.name}-folds"
    make_folder(folder)
    counts: dict[str, Counts] = {}
    for number, fold in enumerate(dealt):
        split = Split(tuple(name for name in names if name not in fold), (), fold)
        own = _settings(settings, split, f"fold-{number + 1}")
        path = folder / f"{own.name}{SUFFIX}"
        if not (resume and _is_done(path, own, split, data_folder)):
            work = train_steps(own, data_folder, folder, resume=resume, workers=workers)
            path = yield from _of_folds(work, number, folds + final, f"fold {number + 1} of {folds}")
        confusion = read_card(path).accuracy["test"]["images"]
        counts |= {
            name: Counts(np.array(one, dtype=np.int64)) for name, one in zip(fold, confusion.values(), strict=True)
        }
    classes = tuple(spec.name for spec in settings.classes)
    found = CrossValidation(classes, tuple(dealt), counts, given.test, folder)
    recipe = portable(settings, given, data_folder)
    write_json(found.report, {"name": settings.name, **found.to_dict(), "recipe": recipe})
    if not final:
        return found
    own = _settings(settings, Split(tuple(names), (), given.test), settings.name)
    own = own.model_copy(update={"measure_halo": settings.measure_halo})
    work = train_steps(own, data_folder, out, resume=resume, workers=workers)
    path = yield from _of_folds(work, folds, folds + 1, "all images")
    _say_in_card(path, found)
    return CrossValidation(classes, tuple(dealt), counts, given.test, folder, path)


def _settings(settings: TrainSettings, split: Split, name: str) -> TrainSettings:
    """Set one training up: its last weights are kept, for nothing is there to choose others by."""
    data = split.put_into(settings.data).model_copy(update={"region": None})
    return settings.model_copy(update={"name": name, "data": data, "patience": None, "measure_halo": False})


def _is_done(path: Path, settings: TrainSettings, split: Split, data_folder: Path) -> bool:
    """Whether a fold's model is there already.

    Raises
    ------
    SettingsError
        If one is there that other settings made.
    """
    if not path.is_file():
        return False
    card = read_card(path)
    if card.recipe != portable(settings, split, data_folder) or card.images != hash_images(
        settings, split, data_folder
    ):
        raise SettingsError(f"{path}: was made with other settings, images or truths; delete it, or train afresh.")
    return True


def _of_folds(
    work: Generator[TrainProgress, None, Path], index: int, n: int, which: str
) -> Generator[TrainProgress, None, Path]:
    """Tell the progress of one training as progress of all."""
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            path: Path = stop.value
            return path
        done, total = index * step.total + step.done, n * step.total
        yield TrainProgress(done, total, f"{which}: {step.note}", step.loss, step.accuracy, step.look, step.waiting)


def _say_in_card(path: Path, found: CrossValidation) -> None:
    """Write what the models of the folds came to into the card of the final one."""
    model = load_model(path)
    by_class: dict[str, dict[str, float | None]] = defaultdict(dict)
    for row in found.rows():
        for ratio in ("iou", "iou_sd", "dice", "dice_sd"):
            by_class[ratio][row["class"]] = row[ratio]
    pooled: Mapping[str, float | None] = {ratio: values.pop("pooled") for ratio, values in by_class.items()}
    mean = {ratio: values.pop("mean") for ratio, values in by_class.items()}
    about = f"{len(found.folds)} folds of whole images, by models of the same recipe that had not seen them (means)"
    figures = dict(by_class) | {"pooled_iou": pooled["iou"], "mean_iou": mean["iou"], "mean_dice": mean["dice"]}
    accuracy = model.card.accuracy | {"cross-validation": {"on": about} | figures}
    save_model(path, model.network, model.card.model_copy(update={"accuracy": accuracy}))
