from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer
import yaml

from napari_matseg import settings
from napari_matseg.cli import app
from napari_matseg.core.checkpoints import ModelCard, read_card
from napari_matseg.core.refine.files import find_refiner, read_refiner_card
from napari_matseg.core.sam.weights import available_promptable, read_promptable_card

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES]
REPOSITORY = "https://github.com/napari-matseg/napari-matseg/blob/main/"
RAW = "https://raw.githubusercontent.com/napari-matseg/napari-matseg/main/"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """Text without its code, in which brackets and hashes mean other things."""
    return re.sub(r"^( *)```.*?^\1```$", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def links_of(path: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose_of(path))


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose_of(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def code_of(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(path), flags=re.DOTALL | re.MULTILINE)


def section_of(path: Path, heading: str) -> str:
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text_of(path), flags=re.DOTALL | re.MULTILINE)
    assert found, f"{path.name} has no section {heading!r}"
    return found[1]


def test_navigation_names_every_page() -> None:
    nav = re.search(r"^nav:\n(.*)", text_of(ROOT / "mkdocs.yml"), flags=re.DOTALL | re.MULTILINE)
    assert nav
    assert sorted(re.findall(r": (\S+\.md)$", nav[1], flags=re.MULTILINE)) == [page.name for page in PAGES]


@each_text
def test_links_lead_somewhere(path: Path) -> None:
    for link in links_of(path):
        if link.startswith((REPOSITORY, RAW)):
            target, _, anchor = link.removeprefix(REPOSITORY).removeprefix(RAW).partition("#")
            file = ROOT / target
        elif link.startswith(("https://", "http://")):
            continue
        else:
            target, _, anchor = link.partition("#")
            file = path.parent / target if target else path
        assert file.is_file(), link
        assert not anchor or anchor in anchors_of(file), link


def test_readme_can_be_read_elsewhere() -> None:
    assert all(link.startswith("https://") for link in links_of(ROOT / "README.md"))


@each_text
def test_no_figure_is_left_open(path: Path) -> None:
    assert not re.findall(r"@[A-Z][A-Z0-9_]+@", text_of(path))


def test_pictures_are_small_and_used() -> None:
    used = {Path(link).name for path in TEXTS for link in links_of(path) if link.endswith(".png")}
    pictures = sorted((DOCS / "pictures").iterdir())
    assert {picture.name for picture in pictures} == used
    assert not [picture.name for picture in pictures if picture.stat().st_size > 300_000]


@each_text
def test_python_in_the_text_is_python(path: Path) -> None:
    for code in code_of(path, "python"):
        ast.parse(code)


@each_text
def test_names_that_python_imports_exist(path: Path) -> None:
    import napari_matseg

    for code in code_of(path, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "napari_matseg":
                assert {name.name for name in node.names} <= set(napari_matseg.__all__)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "napari_matseg":
                assert node.attr in napari_matseg.__all__


def test_every_command_has_a_section() -> None:
    headings = re.findall(r"^## (\S+)$", text_of(DOCS / "command-line.md"), flags=re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_options_are_those_of_the_command(name: str) -> None:
    rows = re.findall(r"^\| `(--.+?)` \|([^|]*)\|", section_of(DOCS / "command-line.md", name), flags=re.MULTILINE)
    written = {tuple(sorted(flags.split("`, `"))): default.strip("` ") for flags, default in rows}
    options = [option for option in COMMANDS[name].params if option.param_type_name == "option"]
    assert written == {
        tuple(sorted(option.opts)): "" if option.default is None or option.default is False else str(option.default)
        for option in options
    }


@each_text
def test_commands_in_the_text_have_such_options(path: Path) -> None:
    for line in re.findall(rf"napari-matseg ((?:{'|'.join(COMMANDS)}) .*)$", text_of(path), flags=re.MULTILINE):
        command, rest = line.split(maxsplit=1)
        known = {flag for option in COMMANDS[command].params for flag in option.opts} | {"--help"}
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", re.split(r"[`#\"]", f" {rest}")[0])) <= known, line


def test_settings_are_all_described_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section_of(DOCS / "python.md", "Settings"), flags=re.MULTILINE)
    defaults = settings.SegmentSettings().model_dump()
    assert {name: ast.literal_eval(default) for name, default in rows} == defaults


@pytest.mark.parametrize(
    "kind",
    [
        settings.TrainSettings,
        settings.DataSettings,
        settings.ArchitectureSettings,
        settings.NormaliseSettings,
        settings.LossTerm,
        settings.AugmentSettings,
    ],
)
def test_recipe_fields_are_all_described(kind: type[settings.Settings]) -> None:
    words = set(re.findall(r"\w+", text_of(DOCS / "train.md")))
    assert set(kind.model_fields) <= words


def test_augmentation_defaults_are_those_of_the_settings() -> None:
    defaults = settings.AugmentSettings().model_dump(mode="json")
    rows = re.findall(r"^\| (`.+?`) \| (`.+?`) \|", section_of(DOCS / "train.md", "Augmentation"), flags=re.MULTILINE)
    written = {
        name: yaml.safe_load(value)
        for names, values in rows
        for name, value in zip(names.strip("`").split("`, `"), values.strip("`").split("`, `"), strict=True)
    }
    assert written == defaults


def test_recipes_in_the_text_are_recipes() -> None:
    whole, *others = map(yaml.safe_load, code_of(DOCS / "train.md", "yaml"))
    settings.TrainSettings.model_validate(whole)
    for other in others:
        data = {**whole["data"], **other.get("data", {})}
        settings.TrainSettings.model_validate({**whole, **other, "data": data})


def test_recipe_in_the_text_is_the_one_that_is_saved() -> None:
    whole, *others = code_of(DOCS / "recipes.md", "yaml")
    recipe = settings.make_recipe(yaml.safe_load(whole), "recipes.md")
    assert recipe == settings.Recipe(name="particles", segment=settings.SegmentSettings(instances=True))
    assert settings.recipe_text(recipe) == whole
    assert others
    for other in others:
        settings.make_recipe(yaml.safe_load(other), "recipes.md")


def test_every_line_of_a_recipe_is_described() -> None:
    rows = re.findall(r"^\| (`.+?`) \|", prose_of(DOCS / "recipes.md"), flags=re.MULTILINE)
    described = [name for row in rows for name in row.strip("`").split("`, `")]
    parts = (
        *(settings.ReadSettings, settings.SegmentSettings, settings.CleanSettings, settings.MeasureSettings),
        *(settings.OutputSettings, settings.CentreSettings, settings.EverythingSettings, settings.PromptSettings),
    )
    assert sorted(described) == sorted(
        ["format", "name", "find", *(name for part in parts for name in part.model_fields)]
    )


def test_table_of_the_superalloy_recipe_is_true() -> None:
    recipe = yaml.safe_load(text_of(ROOT / "recipes" / "superalloy.yaml"))
    table = section_of(DOCS / "train.md", "The recipe of superalloy, field by field")
    for names, values in re.findall(r"^\| (`.+?`) \| (`.+?`) \|", table, flags=re.MULTILINE):
        for name, value in zip(names.strip("`").split("`, `"), values.strip("`").split("`, `"), strict=True):
            found = recipe
            for part in name.split("."):
                found = found[part]
            assert found == (yaml.safe_load(f"{{{value}}}") if ": " in value else yaml.safe_load(value)), name


def test_card_and_record_keys_are_all_described() -> None:
    assert set(ModelCard.model_fields) - {"format"} <= set(re.findall(r"\w+", text_of(DOCS / "models.md")))


@pytest.mark.parametrize("name", ["particles", "superalloy"])
def test_figures_are_those_of_the_cards(name: str) -> None:
    card = read_card(name)
    page, readme = section_of(DOCS / "models.md", name), text_of(ROOT / "README.md")
    found = card.accuracy["test"]
    headline = found["iou_per_image"]["particle"] if name == "particles" else found["pooled_iou"]
    assert f"**{headline:.4f}**" in page
    assert f"**{headline:.4f}**" in readme
    for spec in card.classes[1:]:
        assert f"{found['iou'][spec.name]:.4f}" in page
        assert f"{found['dice'][spec.name]:.4f}" in page
    assert f"{card.reach} px; tiled in stages (a halo would be {card.halo} px)" in page
    assert f"| `{name}` | {card.reach} px | {card.halo} px | {card.disagreement:.4%} ".replace("%", " %") in text_of(
        DOCS / "tiling.md"
    )


def test_figures_of_the_promptable_model_are_those_of_its_card() -> None:
    promptable, path = read_promptable_card(available_promptable()["compact"]), find_refiner("compact")
    assert promptable is not None
    assert path is not None
    card = read_refiner_card(path)
    assert card.refines_sha256 == promptable.weights_sha256
    page, readme = section_of(DOCS / "points.md", "compact"), text_of(ROOT / "README.md")
    found = card.accuracy["EMPS test"]
    for kind in ("1 click", "box"):
        assert f"**{found[kind]:.4f}**" in page
        assert f"**{found[kind]:.4f}**" in readme
    tested = [
        card.accuracy["EMPS test"],
        card.accuracy["EMPS test, mean over images"],
        promptable.accuracy["EMPS test"],
    ]
    assert all(f"{value:.4f}" in page for figures in tested for value in figures.values())


def test_cards_lie_beside_the_models() -> None:
    """As the models have them."""
    models = ROOT / "src" / "napari_matseg" / "models"
    promptable, refiner = models / "promptable" / "compact.safetensors", models / "refiners" / "compact.safetensors"
    card = read_promptable_card(promptable)
    assert card is not None
    assert promptable.with_suffix(".md").read_text() == card.to_markdown()
    assert refiner.with_suffix(".md").read_text() == read_refiner_card(refiner).to_markdown()
    assert promptable.stat().st_size + refiner.stat().st_size <= 25_000_000


def test_readme_tests_as_the_pipeline_does() -> None:
    command = section_of(ROOT / "README.md", "Tests").split("```")[1].removeprefix("sh\n").strip()
    assert text_of(ROOT / ".ci" / "run").splitlines()[-1] == f'{command} -- "$@"'


def test_readme_installs_what_it_runs() -> None:
    commands = [line for code in code_of(ROOT / "README.md", "sh") for line in code.splitlines() if "venv" in line]
    assert commands[0] == ('python3 -m venv .venv && .venv/bin/pip install ".[all]" && .venv/bin/napari-matseg demo')
    assert 'all = ["napari[all]' in text_of(ROOT / "pyproject.toml")
