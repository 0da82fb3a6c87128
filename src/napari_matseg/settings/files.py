"""Settings in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_matseg.errors import SettingsError
from napari_matseg.settings.base import explain
from napari_matseg.settings.prompt_train import PromptTrainSettings, RefineTrainSettings
from napari_matseg.settings.train import TrainSettings

if TYPE_CHECKING:
    from pathlib import Path


def read_mapping(path: Path, see: str) -> dict[str, Any]:
    """Read a YAML file that holds names with values; `see` tells where such files are described.

    Raises
    ------
    SettingsError
        If it is missing, is not YAML, or holds something else.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise SettingsError(f"{path}: is not YAML ({first}); see {see}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: holds no settings; see {see}.")
    return content


Training = TrainSettings | PromptTrainSettings | RefineTrainSettings
"""How a model is trained, of any kind."""


def load_recipe(path: Path) -> Training:
    """Read a training recipe.

    Parameters
    ----------
    path : Path
        A YAML file with the fields of `TrainSettings`, or, where it names `sources`, of `PromptTrainSettings`, and
        where it says what it `refines`, of `RefineTrainSettings`.

    Raises
    ------
    SettingsError
        If the file is missing, is not YAML, or holds unknown keys or impossible values.
    """
    content = read_mapping(path, "the recipes in the documentation")
    kind: type[Training] = TrainSettings
    if "sources" in content:
        kind = RefineTrainSettings if "refines" in content else PromptTrainSettings
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error, kind)}") from error
