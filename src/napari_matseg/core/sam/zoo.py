"""Promptable models of others that are known by name, and where to get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_matseg.core.checkpoints import user_folder
from napari_matseg.core.download import download
from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_matseg.core.progress import Progress


@dataclass(frozen=True)
class ZooEntry:
    """A model that can be fetched.

    Attributes
    ----------
    file : str
        What it is called in the user's folder.
    address : str
    sha256 : str or None
        Of the file; None where its makers state none, so that what comes cannot be checked.
    megabytes : int
        Size of the file.
    licence : str
    purpose : str
        What it is good for, in a line for the user.
    """

    file: str
    address: str
    sha256: str | None
    megabytes: int
    licence: str
    purpose: str

    def describe(self, name: str) -> str:
        """Describe the model for a reader."""
        checked = f"sha256 {self.sha256}" if self.sha256 else "its makers state no sha256, so it cannot be checked"
        lines = (self.purpose, f"Licence: {self.licence}.", f"{self.address}, {self.megabytes} MB; {checked}.")
        return "\n\n".join((f"# {name}", *lines)) + "\n"


META = "https://dl.fbaipublicfiles.com/segment_anything"
# Of one commit, so that the file stays the one that the checksum is of.
MOBILE_SAM = (
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights"
)
# micro-sam's own register (its release 1.8) holds these addresses, with checksums of another kind (xxh128).
BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
ORGANELLES = "organelles in electron micrographs"

ZOO = {
    "vit_b": ZooEntry(
        "sam_vit_b_01ec64.pth",
        f"{META}/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375,
        "Apache-2.0",
        "anything; segment-anything's smallest",
    ),
    "vit_l": ZooEntry(
        "sam_vit_l_0b3195.pth",
        f"{META}/sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1250,
        "Apache-2.0",
        "anything; larger and slower than vit_b",
    ),
    "vit_h": ZooEntry(
        "sam_vit_h_4b8939.pth",
        f"{META}/sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2565,
        "Apache-2.0",
        "anything; segment-anything's largest, for a GPU",
    ),
    "vit_t": ZooEntry(
        "mobile_sam.pt",
        f"{MOBILE_SAM}/mobile_sam.pt",
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        41,
        "Apache-2.0",
        "anything; MobileSAM, quick to embed",
    ),
    "vit_t_em_organelles": ZooEntry(
        "vit_t_em_organelles.pt", f"{BIOIMAGE}/greedy-whale/1/files/vit_t.pt", None, 41, "CC-BY-4.0", ORGANELLES
    ),
    "vit_b_em_organelles": ZooEntry(
        "vit_b_em_organelles.pt", f"{BIOIMAGE}/noisy-ox/1.2/files/vit_b.pt", None, 375, "CC-BY-4.0", ORGANELLES
    ),
    "vit_l_em_organelles": ZooEntry(
        "vit_l_em_organelles.pt", f"{BIOIMAGE}/humorous-crab/1.2/files/vit_l.pt", None, 1250, "CC-BY-4.0", ORGANELLES
    ),
    "vit_b_lm": ZooEntry(
        "vit_b_lm.pt",
        f"{BIOIMAGE}/diplomatic-bug/1.2/files/vit_b.pt",
        None,
        375,
        "CC-BY-4.0",
        "cells and nuclei in light micrographs",
    ),
}
"""Segment-anything's models (Meta), MobileSAM, and those of micro-sam."""


def promptable_folder() -> Path:
    """Folder of the user's own promptable models, within that of the other models."""
    return user_folder() / "promptable"


def how_to_get(name: str) -> str:
    """Say how a model of the zoo is had, with and without a connection."""
    entry = ZOO[name]
    return (
        f"get it with napari-matseg models --get {name} ({entry.megabytes} MB), "
        f"or save {entry.address} as {entry.file} in {promptable_folder()}"
    )


def fetch(name: str) -> Generator[Progress, None, Path]:
    """Fetch a model of the zoo into the user's folder, unless it is there.

    Parameters
    ----------
    name : str
        A key of `ZOO`.

    Yields
    ------
    Progress
        In megabytes; the last one's note has the checksum of what came.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ModelError
        If there is no such model; if it cannot be had, or is not what its checksum says.
    OutputError
        If it cannot be written.
    """
    if name not in ZOO:
        raise ModelError(f"{name}: is none of the models that can be fetched; these are {', '.join(ZOO)}.")
    entry = ZOO[name]
    return (yield from download(entry.address, promptable_folder() / entry.file, entry.sha256))
