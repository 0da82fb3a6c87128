"""What a batch says: its recipe in a sentence, its states and results in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_matseg.running.states import Outcome
from napari_matseg.settings import Recipe

STATES = {"waiting": "waiting", "working": "working", "done": "done", "kept": "there already", "failed": "failed"}


def in_words(recipe: Recipe) -> str:
    """Say in a sentence what a recipe does to each micrograph."""
    parts = [_objects(recipe), *_clean(recipe)]
    if recipe.measure is not None:
        parts.append(f"measures {'objects and area fractions' if recipe.segment else 'the objects'}")
    outputs = ["labels (OME-Zarr)" if recipe.outputs.labels == "zarr" else "labels (TIFF)"]
    outputs += ["an overlay"] * recipe.outputs.overlay + ["probabilities"] * recipe.outputs.probabilities
    if recipe.measure is not None and recipe.outputs.tables:
        outputs.append(
            f"tables ({', '.join({'csv': 'CSV', 'parquet': 'Parquet'}[one] for one in recipe.outputs.tables)})"
        )
    text = "; ".join([*parts, f"writes {_listed(outputs)}"])
    return f"{text[0].upper()}{text[1:]}."


def _objects(recipe: Recipe) -> str:
    if recipe.segment is not None:
        objects = ", with an id for every object" if recipe.segment.instances else ""
        return f"segments with the model {_name(recipe.segment.model)}{objects}"
    assert recipe.prompt is not None  # noqa: S101
    step = recipe.prompt
    centres = "blobs" if step.centres.method != "model" else f"the model {_name(step.centres.model)}"
    found = {
        "centres": f"finds centres by {centres} and outlines the object at each",
        "everything": "outlines everything it finds",
        "points": "outlines the object at each point of the CSV file beside the micrograph",
    }
    return f"{found[step.find]} with the model {_name(step.prompt.model)}"


def _clean(recipe: Recipe) -> list[str]:
    clean, said = recipe.clean, []
    if clean.fill_holes_px:
        said.append(f"fills holes of up to {clean.fill_holes_px} px")
    if clean.min_area_px:
        said.append(f"drops what is smaller than {clean.min_area_px} px")
    if clean.exclude_edge:
        said.append("drops what the edge cuts")
    return said


def _name(model: str) -> str:
    return Path(model).name.removesuffix(".safetensors")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def result(outcome: Outcome | None) -> str:
    """Say in a line what came of a micrograph."""
    if outcome is None:
        return ""
    if outcome.state == "failed":
        return reason(outcome).removeprefix(f"{outcome.source.path}: ")
    said = []
    number = outcome.record.get("objects", {}).get("n")
    if number is not None:
        said.append(f"{number} object{'s' if number != 1 else ''}")
    fractions: Mapping[str, Any] = outcome.record.get("fractions") or {}
    said += [f"{share:.1%} {name}" for name, share in list(fractions.items())[1:] if share is not None]
    return ", ".join(said)


def reason(outcome: Outcome | None) -> str:
    """Say why a micrograph failed, and what to do."""
    return (outcome and outcome.reason) or "It is not known why; try again."


def counted(numbers: Mapping[str, int]) -> str:
    """Say how many files are in which state, without those that wait or are in work."""
    return ", ".join(f"{numbers[state]} {STATES[state]}" for state in ("done", "kept", "failed") if numbers.get(state))


def files(number: int) -> str:
    """Say how many micrographs there are."""
    return f"{number} micrograph{'s' if number != 1 else ''}"
