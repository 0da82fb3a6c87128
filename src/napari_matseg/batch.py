"""Several micrographs through one model, each compared with its truth where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.devices import choose_device
from napari_matseg.core.export import make_folder
from napari_matseg.core.image_pairs import match_files
from napari_matseg.core.metrics import Counts, Scores, count
from napari_matseg.core.read import read
from napari_matseg.core.truth import IGNORE, Truth, read_truth
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.pipeline import save, segment_steps

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.progress import Progress
    from napari_matseg.pipeline import Segmentation
    from napari_matseg.settings import Colour, SegmentSettings

RESULT_ENDINGS = ("_labels.tif", "_overlay.png", "_record.json", "_instances.tif")


@dataclass(frozen=True)
class Done:
    """One micrograph that was segmented.

    Attributes
    ----------
    micrograph : Micrograph
    segmentation : Segmentation
    files : dict
        What was written, as `pipeline.save` gives it.
    truth : Truth or None
    scores : Scores or None
        What the comparison with the truth gave.
    """

    micrograph: Micrograph
    segmentation: Segmentation
    files: dict[str, Path]
    truth: Truth | None = None
    scores: Scores | None = None


class Batch:
    """Segmentations with one model, and what they came to.

    Parameters
    ----------
    settings : SegmentSettings
    out : Path
        Folder for the results, made when there is one.

    Attributes
    ----------
    model : Model
    names : list of str
        Of the classes.
    counts : Counts or None
        Of all images that were compared with their truth.
    images : dict
        What each image came to, by its path, in plain JSON types.

    Raises
    ------
    ModelError, SettingsError
        If there is no such model or device.
    """

    def __init__(self, settings: SegmentSettings, out: Path, pixel_size_nm: float | None = None) -> None:
        self._settings = settings
        self._out = out
        self._pixel_size_nm = pixel_size_nm
        self.model = load_model(settings.model, str(choose_device(settings.device)))
        self.names = [spec.name for spec in self.model.card.classes]
        self.counts: Counts | None = None
        self.images: dict[str, dict[str, Any]] = {}

    def steps(
        self, image: Path, truth: Path | None = None, mapping: Mapping[int | Colour, int] | None = None
    ) -> Generator[Progress, None, Done]:
        """Segment one image, write the results, and compare them with the truth.

        Whatever is wrong with image, truth or folder is said before the long work.

        Parameters
        ----------
        image : Path
        truth : Path, optional
        mapping : mapping, optional
            What the values of the truth mean; see `core.truth.to_classes`.

        Raises
        ------
        InputError, OutputError, SettingsError
            If image or truth cannot be used, or the results cannot be written.
        """
        micrograph = read(image, pixel_size_nm=self._pixel_size_nm)
        true = None if truth is None else self._read_truth(truth, micrograph, mapping)
        make_folder(self._out)
        result = yield from segment_steps(micrograph, self._settings, loaded=self.model, work=self._out)
        files = save(result, micrograph, self._out, image.stem)
        about: dict[str, Any] = {
            "fractions": result.record["fractions"],
            "warnings": result.record["warnings"],
            "files": {what: str(path) for what, path in files.items()},
        }
        scores = None
        if true is not None:
            mask = micrograph.content_mask() if self._settings.exclude_data_bar else None
            counts = count(result.classes, true.labels_yx, len(self.names), ignore=IGNORE, mask=mask)
            self.counts = counts if self.counts is None else self.counts + counts
            scores = Scores(counts)
            about |= {"truth": str(truth), **scores.to_dict(self.names)}
        self.images[str(image)] = about
        return Done(micrograph, result, files, true, scores)

    def iou_per_image(self) -> dict[str, float | None]:
        """Mean over the images of each class's IoU, where it is defined."""
        found = {
            name: [one["iou"][name] for one in self.images.values() if one["iou"][name] is not None]
            for name in self.names
        }
        return {name: sum(values) / len(values) if values else None for name, values in found.items()}

    def _read_truth(self, truth: Path, micrograph: Micrograph, mapping: Mapping[int | Colour, int] | None) -> Truth:
        shape = (*micrograph.shape_planes, *micrograph.shape_yx)
        true = read_truth(truth, self.model.card.classes, mapping, shape=shape, image=micrograph.source)
        if true.labels_yx.shape != shape:
            raise InputError(
                f"{truth}: shape {true.labels_yx.shape} is not that of {micrograph.name}, {shape}; "
                "give the truth of this image, neither cropped nor scaled."
            )
        return true


def match(images: Sequence[Path], truths: Sequence[Path] | None) -> list[Path | None]:
    """Find the truth of each image.

    Parameters
    ----------
    images : sequence of Path
    truths : sequence of Path, or None
        One for each image in the same order, or one folder with files of like names, or one COCO file of all images;
        see `core.image_pairs`.

    Raises
    ------
    InputError, SettingsError
        If their number differs, or the folder holds none or several for an image.
    """
    if not truths:
        return [None] * len(images)
    if len(truths) == 1 and (truths[0].is_dir() or (len(images) > 1 and truths[0].suffix.lower() == ".json")):
        return [truth for _, truth in match_files(images, truths[0])]
    if len(truths) != len(images):
        raise SettingsError(
            f"there are {len(images)} images but {len(truths)} truths; give --truth once per image, or a folder."
        )
    return list(truths)


def check_names(images: Sequence[Path], truths: Sequence[Path | None], out: Path) -> None:
    """Hold results to names that are neither each other's nor those of what they are made from.

    Raises
    ------
    SettingsError
        If a result would take the place of another, of an image, or of a truth.
    """
    given = {path.resolve(): path for path in (*images, *truths) if path is not None}
    seen: dict[str, Path] = {}
    for image in images:
        if image.stem in seen:
            raise SettingsError(
                f"{seen[image.stem]} and {image} would both give {image.stem}_labels.tif; "
                "segment them into different folders."
            )
        seen[image.stem] = image
        for ending in RESULT_ENDINGS:
            if (lost := given.get((out / f"{image.stem}{ending}").resolve())) is not None:
                raise SettingsError(f"{lost} would be replaced by a result; choose another folder with --out.")
