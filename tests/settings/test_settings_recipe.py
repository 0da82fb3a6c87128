from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from napari_matseg.settings import (
    CentreSettings,
    EverythingSettings,
    OutputSettings,
    PromptStep,
    Recipe,
    SegmentSettings,
    explain,
)


def reason(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Recipe(**given)
    return explain(caught.value, Recipe)


@pytest.mark.parametrize("given", [{}, {"segment": SegmentSettings(), "prompt": PromptStep()}])
def test_one_of_segment_and_prompt(given: dict[str, Any]) -> None:
    assert reason(**given) == (
        "a recipe has either segment or prompt; give one of the two, such as segment: {model: particles}"
    )


def test_prompted_objects_have_no_probabilities() -> None:
    assert reason(prompt=PromptStep(), outputs=OutputSettings(probabilities=True)).startswith(
        "outputs.probabilities needs segment"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"segment": {"modle": "a"}}, "segment.modle: there is no such setting; do you mean segment.model?"),
        ({"measur": {}}, "measur: there is no such setting; do you mean measure?"),
        (
            {"model": "a"},
            "model: there is no such setting; do you mean segment.model or prompt.centres.model or "
            "prompt.prompt.model?",
        ),
        ({"clean": {"guard_px": 1}}, "clean.guard_px: there is no such setting; do you mean measure.guard_px?"),
        ({"a b": 1}, "a b: there is no such setting; correct its name"),
        (
            {"prompt": {"centres": {"dpeth": 1}}},
            "prompt.centres.dpeth: there is no such setting; do you mean prompt.centres.depth?",
        ),
        ({"read": {"channel": "alpha"}}, "read.channel: Input should be 'auto', 'luminance', 'red', 'green' or 'blue'"),
        ({"read": {"pixel_size_nm": 2}}, "read.pixel_size_nm: must be a list"),
        ({"read": {"pixel_size_nm": [0, 1]}}, "read.pixel_size_nm.0: Input should be greater than 0"),
        ({"segment": {"model": 304}}, "segment.model: must be text; put it in quotes"),
        ({"segment": "particles"}, "segment: must be settings, each as name: value"),
        ({"clean": {"min_area_px": -1}}, "clean.min_area_px: Input should be greater than or equal to 0"),
        ({"outputs": {"tables": ["xlsx"]}}, "outputs.tables.0: Input should be 'csv' or 'parquet'"),
        ({"format": 2}, "format: Input should be 1"),
    ],
)
def test_errors_name_the_setting_and_the_one_that_is_meant(given: dict[str, Any], said: str) -> None:
    found = reason(**given)
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        (PromptStep(centres=CentreSettings(depth=0.3)), {"find", "centres", "prompt"}),
        (
            PromptStep(find="everything", everything=EverythingSettings(spacing=9)),
            {"find", "everything", "prompt"},
        ),
        (PromptStep(find="points"), {"find", "prompt"}),
    ],
)
def test_used_is_what_has_a_part_in_the_result(step: PromptStep, parts: set[str]) -> None:
    recipe = Recipe(prompt=step, measure=None)
    used = recipe.used()
    assert "segment" not in used
    assert set(used["prompt"]) == parts
    assert used["measure"] is None
    assert Recipe.model_validate(used) == recipe
    assert "prompt" not in Recipe(segment=SegmentSettings()).used()


def test_used_is_the_same_whatever_is_set_of_parts_that_are_not_used() -> None:
    one = Recipe(prompt=PromptStep(find="points", centres=CentreSettings(depth=0.1)))
    assert one.used() == Recipe(prompt=PromptStep(find="points")).used()
