"""Recipes as YAML, of this format and of those before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_matseg.errors import SettingsError
from napari_matseg.settings.base import explain
from napari_matseg.settings.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT: int = Recipe.model_fields["format"].default
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From each format before this one to the next. What one does not know it leaves alone, for `Recipe` to refuse; and it
writes down the values that a newer default would change."""
HEADER = """\
# What is done to each micrograph. To do it to a whole folder:
#   napari-matseg run THIS_FILE FOLDER -o OUT
"""
MOST_BYTES = 1 << 20
MODELS = (("segment", "model"), ("prompt", "prompt", "model"), ("prompt", "centres", "model"))
FOR_TRAINING = {"architecture", "data", "sources"}
NOT_YAML = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What PyYAML lets through besides its own errors, of values that their tags do not fit."""


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path or str
        A YAML file with the fields of `Recipe`, of this format or one before it. The path of a model is relative to
        the folder of this file if there is a model; otherwise it stays as it is, as a name does.

    Returns
    -------
    Recipe

    Raises
    ------
    SettingsError
        If the file is missing, is no YAML, is of a newer format, or holds unknown keys or impossible values.
    """
    path = Path(path)
    content = _migrated(_load(path), path)
    for *parts, name in MODELS:
        within: Any = content
        for part in parts:
            within = within.get(part) if isinstance(within, dict) else None
        if isinstance(within, dict) and isinstance(within.get(name), str):
            within[name] = _beside(path.parent, within[name])
    return _validated(content, path)


def make_recipe(content: Any, origin: Path | str) -> Recipe:
    """Make a recipe of plain values, such as `Recipe.used` gives, of this format or one before it.

    Parameters
    ----------
    content : dict
        It is not changed.
    origin : Path or str
        Where it is from, for the message of an error.

    Raises
    ------
    SettingsError
        If it is of a newer format, or holds unknown keys or impossible values.
    """
    return _validated(_migrated(content, origin), origin)


def recipe_text(recipe: Recipe, folder: Path | None = None) -> str:
    """Give a recipe as YAML: every value of the parts that are used, so that a later default changes nothing.

    Parameters
    ----------
    recipe : Recipe
    folder : Path, optional
        Where the text is going to lie; models in it are named relative to it, so that it can be moved as a whole.

    Returns
    -------
    str
        Which `read_recipe` reads.
    """
    import yaml

    plain = recipe.used()
    if folder is not None:
        for *parts, name in MODELS:
            within = plain
            for part in parts:
                within = within.get(part, {})
            if name in within:
                within[name] = _from(folder, within[name])
    return HEADER + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _load(path: Path) -> Any:
    """Content of a YAML file."""
    import yaml

    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    if b"\0" in raw or len(raw) > MOST_BYTES:
        raise SettingsError(f"{path}: is no recipe, which is a small text file; give one that Save recipe wrote.")
    try:
        text = raw.decode("utf-8-sig")
        _check_plain(yaml.compose(text, Loader=yaml.SafeLoader), path)
        return yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not text in UTF-8; save it as that.") from error
    except (yaml.YAMLError, *NOT_YAML) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" in line {mark.line + 1}"
        reason = (getattr(error, "problem", None) or str(error) or type(error).__name__).splitlines()[0]
        raise SettingsError(f"{path}: is not YAML{place} ({reason}); correct it, or save the recipe anew.") from error


def _check_plain(root: Any, path: Path) -> None:
    """Refuse what YAML has and a recipe has not.

    Of a key that is given twice YAML would take the last; and a few aliases of aliases can fill the memory.
    """
    import yaml

    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            raise SettingsError(f"{path}: has aliases (& and *), which recipes do not; write the values out.")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            names = set()
            for key, value in node.value:
                nodes += key, value
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else None
                if name in names:
                    line = key.start_mark.line + 1
                    raise SettingsError(f"{path}: {name} is given twice, again in line {line}; delete one.")
                names |= {name} - {None}


def _migrated(content: Any, origin: Path | str) -> dict[str, Any]:
    """Content in the present format."""
    if not isinstance(content, dict):
        what = "is empty" if content is None else "holds no settings"
        raise SettingsError(f"{origin}: {what}; a recipe is what Save recipe writes, see the documentation.")
    if FOR_TRAINING & content.keys():
        raise SettingsError(f"{origin}: is a recipe for training a model; use it with napari-matseg train.")
    given = content.get("format")
    if given is None:
        raise SettingsError(f"{origin}: format is missing; begin the file with format: {FORMAT}")
    if type(given) is not int:
        raise SettingsError(f"{origin}: format is no whole number; write format: {FORMAT}")
    if given > FORMAT:
        raise SettingsError(
            f"{origin}: is of format {given}, and this version knows formats up to {FORMAT}; "
            "update it with pip install --upgrade napari-matseg."
        )
    if given < min(MIGRATIONS, default=FORMAT):
        raise SettingsError(f"{origin}: is of format {given}, which there never was; write format: {FORMAT}")
    migrated: dict[str, Any] = content
    for number in range(given, FORMAT):
        migrated = MIGRATIONS[number](migrated) | {"format": number + 1}
    return migrated


def _validated(content: dict[str, Any], origin: Path | str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{origin}: {explain(error, Recipe)}") from error


def _beside(folder: Path, model: str) -> str:
    """Model by its path, if its path leads from a folder to it."""
    path = Path(model)
    # A file that only happens to be called like a model that ships is not meant.
    if path.is_absolute() or not (path.suffix or "/" in model or "\\" in model):
        return model
    try:
        beside = folder.absolute() / path
        return str(beside) if beside.exists() else model
    except (OSError, ValueError):  # of names that can be no path
        return model


def _from(folder: Path, model: str) -> str:
    """Model by its path from a folder, if it lies in it or below it."""
    path = Path(model)
    if not path.is_absolute() or not path.is_relative_to(folder.absolute()):
        return model
    return f"./{path.relative_to(folder.absolute()).as_posix()}"
