"""What a run consists of and what comes of each part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from napari_matseg.core.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One micrograph to run a recipe on.

    Attributes
    ----------
    path : Path
    name : str
        What its outputs are called: their path below the run's folder, with "/" between folders and without ending,
        such as "sample 1/img_0003". No two sources of a run have the same.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Outcome:
    """What came of one micrograph.

    Attributes
    ----------
    source : Source
    state : "done", "kept" or "failed"
        Kept: it was there already, complete and of the same input, recipe and model.
    reason : str or None
        Why it failed, in a sentence.
    files : dict
        What was written, by what it holds; empty if it failed.
    record : dict
        The record beside the outputs; empty if it failed.
    seconds : float
        What it took.
    """

    source: Source
    state: Literal["done", "kept", "failed"]
    reason: str | None = None
    files: dict[str, Path] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class RunProgress(Progress):
    """How far a run has come, and what happened to one of its files.

    Attributes
    ----------
    done, total : int
        Files finished, however that went, and files in all; `total` is at least 1.
    note : str
        What is being done, in words for the user.
    source : Source or None
        The file this is about; None if it is about the run.
    state : {"waiting", "working", "done", "kept", "failed"} or None
        That file's.
    share : float
        How much of that file is done, from 0 to 1.
    seconds_left : float or None
        Till the end of the run; None while it cannot be said.
    file_seconds_left : float or None
        Till the end of that file.
    outcome : Outcome or None
        What came of that file, once it has ended.
    """

    source: Source | None = None
    state: Literal["waiting", "working", "done", "kept", "failed"] | None = None
    share: float = 0.0
    seconds_left: float | None = None
    file_seconds_left: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes
    ----------
    outcomes : tuple of Outcome
        Of each source, in the order of the sources.
    files : dict
        Summary, tables and index, by what they hold.
    notes : tuple of str
        What was left out of the inputs and why.
    """

    outcomes: tuple[Outcome, ...]
    files: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """How many were made in this run."""
        return self._count("done")

    @property
    def kept(self) -> int:
        """How many were there already."""
        return self._count("kept")

    @property
    def failed(self) -> int:
        """How many could not be made."""
        return self._count("failed")

    def _count(self, state: str) -> int:
        return sum(outcome.state == state for outcome in self.outcomes)
