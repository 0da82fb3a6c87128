from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.errors import SettingsError
from napari_matseg.settings import (
    CentreSettings,
    CleanSettings,
    EverythingSettings,
    MeasureSettings,
    OutputSettings,
    PromptSettings,
    PromptStep,
    ReadSettings,
    Recipe,
    SegmentSettings,
    make_recipe,
    read_recipe,
    recipe_files,
    recipe_text,
)

positive = st.floats(1e-6, 1e6)
share = st.floats(0, 1)
whole = st.integers(0, 10**9)
name = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe_size = st.none() | st.tuples(positive, positive)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[float, float]:
    low, high = sorted((draw(positive), draw(positive)))
    return low, high


segments = st.builds(
    SegmentSettings,
    model=name,
    device=st.sampled_from(["auto", "cpu", "cuda:1"]),
    precision=st.sampled_from(["auto", "float32", "bfloat16", "float16"]),
    tile=st.none() | st.integers(64, 4096),
    batch=st.none() | st.integers(1, 64),
    overlap=st.floats(0.01, 0.99),
    instances=st.booleans(),
)
prompts = st.builds(
    PromptSettings,
    model=name,
    area_nm2=st.none() | ranges(),
    overlaps=st.sampled_from(["score", "smaller", "separate"]),
    fill_holes_px=whole,
    min_iou=share,
    scale=st.none() | positive,
)
steps = st.builds(
    PromptStep,
    find=st.sampled_from(["centres", "everything", "points"]),
    centres=st.builds(CentreSettings, model=name, depth=share, min_diameter_nm=st.none() | positive),
    everything=st.builds(EverythingSettings, spacing=st.none() | positive, max_overlap=share),
    prompt=prompts,
)
fields = {
    "name": name,
    "read": st.builds(ReadSettings, channel=st.sampled_from(["auto", "luminance", "green"]), pixel_size_nm=maybe_size),
    "clean": st.builds(CleanSettings, min_area_px=whole, fill_holes_px=whole, exclude_edge=st.booleans()),
    "measure": st.none() | st.builds(MeasureSettings, guard_px=st.none() | positive, min_area_px=whole),
    "outputs": st.builds(
        OutputSettings,
        labels=st.sampled_from(["tiff", "zarr"]),
        overlay=st.booleans(),
        tables=st.lists(st.sampled_from(["csv", "parquet"]), unique=True),
    ),
}
recipes = st.builds(Recipe, segment=segments, **fields) | st.builds(Recipe, prompt=steps, **fields)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples of a test."""
    return tmp_path_factory.mktemp("recipes") / "recipe.yaml"


def error_of(path: Path, content: bytes | str) -> str:
    """Reason why a file with this content is refused."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SettingsError) as caught:
        read_recipe(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


@given(recipe=recipes)
def test_text_of_a_recipe_is_read_as_the_same_recipe(file: Path, recipe: Recipe) -> None:
    text = recipe_text(recipe)
    file.write_text(text, encoding="utf-8", newline="\n")
    found = read_recipe(file)
    assert found.used() == recipe.used()
    assert recipe_text(found) == text


@given(content=st.text(max_size=60) | st.binary(max_size=60))
def test_anything_else_is_refused_in_one_line(file: Path, content: str | bytes) -> None:
    error_of(file, content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


def test_text_holds_every_value_of_the_parts_that_are_used() -> None:
    plain = yaml.safe_load(recipe_text(Recipe(segment=SegmentSettings())))
    assert set(plain) == set(Recipe.model_fields) - {"prompt"}
    for part, kind in (
        ("read", ReadSettings),
        ("segment", SegmentSettings),
        ("clean", CleanSettings),
        ("measure", MeasureSettings),
        ("outputs", OutputSettings),
    ):
        assert set(plain[part]) == set(kind.model_fields)
    step = yaml.safe_load(recipe_text(Recipe(prompt=PromptStep())))["prompt"]
    assert set(step) == {"find", "centres", "prompt"}
    assert set(step["centres"]) == set(CentreSettings.model_fields)
    assert set(step["prompt"]) == set(PromptSettings.model_fields)


def test_by_hand_it_may_be_short(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf# steel\r\nformat: 1\r\nsegment: {model: superalloy}\r\nmeasure:\r\n")
    assert read_recipe(file) == Recipe(segment=SegmentSettings(model="superalloy"), measure=None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty; a recipe is what Save recipe writes"),
        ("# only a comment\n", "is empty"),
        ("- a\n", "holds no settings; a recipe is what Save recipe writes"),
        ("just words", "holds no settings"),
        ("segment: [", "is not YAML in line 1 ("),
        ("format: 1\nsegment: {}\n\tread: {}\n", "is not YAML in line 3 ("),
        ("a: 1\n---\nb: 1\n", "is not YAML in line 2 ("),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML in line 1 (could not determine a constructor"),
        ("a: \x07", "is not YAML (unacceptable character"),
        ("a: 2020-13-45", "is not YAML (month must be in 1..12); correct it, or save the recipe anew."),
        ("a: !!int ''", "is not YAML ("),
        ("a: !!bool maybe", "is not YAML ("),
        ("a: !!timestamp now", "is not YAML ("),
        ("[" * 20_000, "is not YAML ("),
        (b"caf\xe9: 1", "is not text in UTF-8; save it as that."),
        ("format: 1\nsegment: {}\n".encode("utf-16"), "is no recipe, which is a small text file"),
        (b"II*\0\x08\0\0\0", "is no recipe, which is a small text file; give one that Save recipe wrote."),
        ("#" * (1 << 20) + "\n", "is no recipe, which is a small text file"),
        ("format: 1\nsegment: {}\nsegment: {}\n", "segment is given twice, again in line 3; delete one."),
        ("format: 1\nsegment:\n  tile: 64\n  tile: 128\n", "tile is given twice, again in line 4; delete one."),
        ("a: &a [1]\nb: *a\n", "has aliases (& and *), which recipes do not; write the values out."),
        ("a: &a [*a]\n", "has aliases"),
        ("segment: {}", "format is missing; begin the file with format: 1"),
        ("format: one\nsegment: {}", "format is no whole number; write format: 1"),
        ("format: true\nsegment: {}", "format is no whole number"),
        ("format: 0\nsegment: {}", "is of format 0, which there never was; write format: 1"),
        (
            "format: 2\nsegment: {}",
            "is of format 2, and this version knows formats up to 1; "
            "update it with pip install --upgrade napari-matseg.",
        ),
        ("name: a\ndata: {}\n", "is a recipe for training a model; use it with napari-matseg train."),
        ("name: a\nsources: []\n", "is a recipe for training a model"),
        ("format: 1\nsegmnt: {}\n", "segmnt: there is no such setting; do you mean segment?"),
        (
            "format: 1\nsegment: {instance: true}\n",
            "segment.instance: there is no such setting; do you mean segment.instances?",
        ),
        ("format: 1\nsegment: {}\nfrobnicate: 1\n", "frobnicate: there is no such setting; correct its name"),
        ("format: 1\nsegment: {}\n1: 2\n", "1: names of settings are text; correct it"),
        ("format: 1\nsegment:\n", "a recipe has either segment or prompt; give one of the two"),
    ],
)
def test_content_that_cannot_be_used(tmp_path: Path, content: bytes | str, said: str) -> None:
    assert said in error_of(tmp_path / "recipe.yaml", content)


def test_file_that_is_not_there_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "recipe.yaml", tmp_path):
        with pytest.raises(SettingsError, match=r"cannot be read \(.*\); check the path"):
            read_recipe(path)


class TestMigration:
    """Two formats that never were: in -1 a model was called weights, in 0 the data bar stood outside of segment."""

    @pytest.fixture(autouse=True)
    def _older_formats(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def from_weights(old: dict[str, Any]) -> dict[str, Any]:
            segment = dict(old["segment"])
            return old | {"segment": {"model": segment.pop("weights"), **segment}}

        def from_outside(old: dict[str, Any]) -> dict[str, Any]:
            segment = old["segment"] | {"exclude_data_bar": not old["keep_bar"], "overlap": 0.25}
            return {name: value for name, value in old.items() if name != "keep_bar"} | {"segment": segment}

        monkeypatch.setattr(recipe_files, "MIGRATIONS", {-1: from_weights, 0: from_outside})

    @pytest.mark.parametrize("old", ["format: -1\nsegment: {weights: a}", "format: 0\nsegment: {model: a}"])
    def test_recipes_of_each_format_do_what_they_did(self, tmp_path: Path, old: str) -> None:
        path = tmp_path / "old.yaml"
        path.write_text(old + "\nkeep_bar: true\n")
        found = read_recipe(path)
        assert found == Recipe(segment=SegmentSettings(model="a", exclude_data_bar=False, overlap=0.25))
        assert recipe_text(found).splitlines()[2] == "format: 1"

    def test_paths_of_models_are_known_wherever_they_stood(self, tmp_path: Path) -> None:
        (tmp_path / "a.pt").touch()
        path = tmp_path / "old.yaml"
        path.write_text("format: -1\nsegment: {weights: a.pt}\nkeep_bar: true\n")
        found = read_recipe(str(path)).segment
        assert found is not None
        assert found.model == str(tmp_path / "a.pt")

    def test_names_that_are_unknown_in_the_old_format_are_errors_too(self, tmp_path: Path) -> None:
        content = "format: 0\nsegment: {model: a, instance: true}\nkeep_bar: true\n"
        assert error_of(tmp_path / "old.yaml", content).startswith("segment.instance: there is no such setting; do you")

    def test_what_is_given_is_not_changed(self) -> None:
        content: dict[str, Any] = {"format": -1, "segment": {"weights": "a"}, "keep_bar": False}
        assert make_recipe(content, "the record").segment is not None
        assert content == {"format": -1, "segment": {"weights": "a"}, "keep_bar": False}

    def test_formats_before_the_first(self, tmp_path: Path) -> None:
        assert "is of format -2, which there never was" in error_of(tmp_path / "old.yaml", "format: -2\nsegment: {}")


class TestModels:
    @pytest.mark.parametrize(
        ("before", "after"),
        [("segment: {model: ", "}"), ("prompt: {prompt: {model: ", "}}"), ("prompt: {centres: {model: ", "}}")],
    )
    def test_path_is_from_the_folder_of_the_recipe(self, tmp_path: Path, before: str, after: str) -> None:
        (tmp_path / "models").mkdir()
        model = tmp_path / "models" / "mine.safetensors"
        model.touch()
        path = tmp_path / "recipe.yaml"
        for named in ("models/mine.safetensors", "./models/mine.safetensors"):
            path.write_text(f"format: 1\n{before}{named}{after}\n")
            assert str(model) in str(read_recipe(path).used())

    def test_path_of_a_recipe_that_is_named_from_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("a.pt").touch()
        Path("recipe.yaml").write_text("format: 1\nprompt: {prompt: {model: a.pt}}\n")
        found = read_recipe(Path("recipe.yaml")).prompt
        assert found is not None
        assert found.prompt.model == str(tmp_path / "a.pt")

    @pytest.mark.parametrize(
        "model", ["particles", "gone.safetensors", "models/gone", "x" * 300 + ".pt", "/gone.pt", ""]
    )
    def test_others_are_names(self, tmp_path: Path, model: str) -> None:
        (tmp_path / "particles").touch()  # called like a model, but no path was given
        path = tmp_path / "recipe.yaml"
        path.write_text(f"format: 1\nsegment: {{model: '{model}'}}\n")
        found = read_recipe(path).segment
        assert found is not None
        assert found.model == model
