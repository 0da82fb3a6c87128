"""Sample data: micrographs that are drawn here, and public sets that are fetched when someone asks for them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from napari_matseg.core.download import download, hash_file
from napari_matseg.core.export import make_folder, write_json
from napari_matseg.core.progress import Progress
from napari_matseg.core.synthetic.demo import Kind, write_demo
from napari_matseg.core.unpack import unpack
from napari_matseg.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Generator

SOURCE = "SOURCE.json"
"""In the folder of a set: where it is from, and under which licence."""
IMAGES = (".tif", ".tiff", ".png", ".jpg")
BESIDE = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "metadata.csv")
"""Files at the top of an archive that are kept."""
DRAWN: dict[str, str] = {
    "particles": "particles on a support, some of them touching (synthetic, 2 nm per pixel)",
    "superalloy": "precipitates of two sizes in a nickel superalloy (synthetic, 12.5 nm per pixel)",
    "cracks": "cracks through the oxide below a ceramic coating (synthetic, 100 nm per pixel)",
}


@dataclass(frozen=True)
class PublicSet:
    """Micrographs with truth that others published.

    Attributes
    ----------
    title : str
    address : str
        Of a ZIP archive of one commit, within a folder of its own.
    commit : str
        Which the archive names in its comment; content and commit belong together.
    sha256 : str or None
        Of the archive; None where its source states none, so that what comes can only be shown.
    licence, citation : str
    folders : tuple of str
        Those that are kept; the last part of a name is what it is called afterwards.
    images, truths : str
        Patterns of image files, and where the truth of each lies: `{folder}`, `{stem}` and `{suffix}` are the image's.
    most_megabytes : int
        The files may unpack to no more.
    """

    title: str
    address: str
    commit: str
    sha256: str | None
    licence: str
    citation: str
    folders: tuple[str, ...]
    images: str
    truths: tuple[str, ...]
    most_megabytes: int = 2000

    def describe(self) -> str:
        """Say what it is, where it is from and what may be done with it, on some lines."""
        checked = (
            f"sha256 {self.sha256}" if self.sha256 else "its source states no checksum; the one of what comes is shown"
        )
        return "\n".join((self.title, f"Licence: {self.licence}", f"Cite: {self.citation}", self.address, checked))


EMPS_COMMIT = "4a17ac63c8ef1a69511516e092da2b0bb9f72c80"
NASA_COMMIT = "63ef39f50220db4c4baad8777fbf1f80d6689442"
# Archives of one commit stay the same in content, though GitHub does not promise their bytes, so states no checksum.
PUBLIC: dict[str, PublicSet] = {
    "emps": PublicSet(
        title="Electron Microscopy Particle Segmentation: SEM and TEM figures of particles, each outlined by hand",
        address=f"https://github.com/by256/emps/archive/{EMPS_COMMIT}.zip",
        commit=EMPS_COMMIT,
        sha256=None,
        licence="MIT",
        citation="Yildirim and Cole 2021, doi 10.1021/acs.jcim.0c01455",
        folders=("images", "segmaps"),
        images="images/*",
        truths=("segmaps/{stem}{suffix}",),
    ),
    "nasa": PublicSet(
        title="Nickel superalloys (Super1 to 4) and environmental barrier coatings (EBC1 to 3), with masks of classes",
        address=f"https://github.com/nasa/pretrained-microscopy-models/archive/{NASA_COMMIT}.zip",
        commit=NASA_COMMIT,
        sha256=None,
        licence="MIT",
        citation="Stuckner et al. 2022, doi 10.1038/s41524-022-00878-5",
        folders=("benchmark_segmentation_data",),
        images="benchmark_segmentation_data/*/*/*",
        truths=("{folder}_annot/{stem}_mask{suffix}", "{folder}_annot/{stem}{suffix}"),
    ),
}


def samples_folder() -> Path:
    """Folder of the sets that were fetched: NAPARI_MATSEG_SAMPLES, or one in the user's data folder."""
    override = os.environ.get("NAPARI_MATSEG_SAMPLES")
    if override:
        return Path(override)
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "napari-matseg" / "samples"


def fetch_set(name: str, folder: Path | None = None) -> Generator[Progress, None, Path]:
    """Fetch a public set into a folder, unless it is there.

    Parameters
    ----------
    name : str
        A key of `PUBLIC`.
    folder : Path, optional
        Which the set becomes; one of its name in `samples_folder` by default.

    Yields
    ------
    Progress
        In megabytes, then in files; the last one's note has licence and checksum.

    Returns
    -------
    Path
        The folder, with `SOURCE.json` in it.

    Raises
    ------
    InputError
        If there is no such set, or what came is not it.
    ModelError
        If it cannot be had.
    OutputError
        If it cannot be written.
    """
    if name not in PUBLIC:
        raise InputError(f"{name}: is none of the public sets; these are {', '.join(PUBLIC)}.")
    one = PUBLIC[name]
    folder = (folder or samples_folder() / name).absolute()
    known = source_of(folder)
    if known is not None and known.get("address") == one.address:
        yield Progress(1, 1, say_source(folder))
        return folder
    if folder.exists():
        raise OutputError(f"{folder}: is there already, and is not this set; name another folder, or delete it.")
    archive = folder.with_name(f"{folder.name}.zip")
    make_folder(folder.parent)
    yield from download(one.address, archive, one.sha256)
    sha256 = yield from hash_file(archive)
    yield from unpack(
        archive,
        folder,
        place=lambda path: _place(path, one),
        most_bytes=one.most_megabytes * 10**6,
        comment=one.commit.encode(),
    )
    about = {
        "title": one.title,
        "address": one.address,
        "sha256": sha256,
        "sha256_known_before": one.sha256 is not None,
    }
    write_json(folder / SOURCE, about | {"licence": one.licence, "citation": one.citation})
    archive.unlink(missing_ok=True)
    yield Progress(1, 1, say_source(folder))
    return folder


def say_source(folder: Path) -> str:
    """Say of a set that was fetched what may be done with it, and what came; empty where it is not there."""
    known = source_of(folder)
    if known is None:
        return ""
    checked = "as expected" if known.get("sha256_known_before") else "not checked, since its source states none"
    return (
        f"licence {known.get('licence')}; {known.get('citation')}; "
        f"sha256 of the archive {known.get('sha256')}, {checked}"
    )


def _place(path: PurePosixPath, one: PublicSet) -> PurePosixPath | None:
    """Where a file of the archive belongs, below the one folder that all of it lies in."""
    inner = PurePosixPath(*path.parts[1:])
    if len(inner.parts) == 1 and inner.name in BESIDE:
        return inner
    kept = len(inner.parts) > 1 and inner.parts[0] in one.folders and inner.suffix.lower() in IMAGES
    return inner if kept else None


def source_of(folder: Path) -> dict[str, Any] | None:
    """Say where a set is from; None if it is not there, or not whole."""
    try:
        known = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def pairs(name: str, folder: Path) -> list[tuple[Path, Path]]:
    """Images of a set that was fetched, each with its truth, by name."""
    found = []
    for image in sorted(folder.glob(PUBLIC[name].images)):
        parts = {"folder": image.parent.relative_to(folder).as_posix(), "stem": image.stem, "suffix": image.suffix}
        for pattern in PUBLIC[name].truths:
            truth = folder / pattern.format(**parts)
            if truth.is_file() and truth != image:
                found.append((image, truth))
                break
    return found


def write_sample(kind: str, folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write a micrograph that is drawn, and its truth.

    Parameters
    ----------
    kind : str
        A key of `DRAWN`.
    folder : Path
    seed : int
        Another number gives another micrograph.

    Returns
    -------
    image, truth : Path

    Raises
    ------
    InputError
        If there is no such sample.
    OutputError
        If a file cannot be written.
    """
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    if kind not in kinds:
        raise InputError(f"{kind}: is no sample; there are {', '.join((*DRAWN, *PUBLIC))}.")
    make_folder(folder)
    return write_demo(folder / f"{kind}.tif", kinds[kind], seed)
