"""Recipes into files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_matseg.core.export import replacing
from napari_matseg.settings import recipe_text

if TYPE_CHECKING:
    from napari_matseg.settings import Recipe


def write_recipe(recipe: Recipe, path: Path | str) -> None:
    """Write a recipe as YAML, whole or not at all.

    Parameters
    ----------
    recipe : Recipe
    path : Path or str
        One of that name is replaced. Models in its folder are named relative to it.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(recipe_text(recipe, path.parent), encoding="utf-8", newline="\n")
