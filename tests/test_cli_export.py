from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_onnx(
    traced: None,
    run: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    onnx_source: Path,
) -> None:
    path = tmp_path / "model.onnx"
    status, out, err = run("export-model", onnx_source, "--to", "onnx", "-o", path)
    assert (status, err) == (0, "")
    assert out == f"{path}: segment with --model {path}, or give it to any ONNX runtime\n"
    assert path.is_file()
    assert run("models", path)[1].startswith("# tiny")


def test_bioimage(traced: None, run: Callable[..., tuple[int, str, str]], tmp_path: Path, onnx_source: Path) -> None:
    path = tmp_path / "model.zip"
    status, out, _ = run("export-model", onnx_source, "--to", "bioimage", "-o", path, "--author", "A", "--author", "B")
    assert status == 0
    assert out.startswith(f"{path}: test it with bioimageio test {path}")
    assert path.is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "pt"), "--to pt: a model can be written as onnx or bioimage; choose one of these."),
        (("--to", "onnx", "--author", "A"), "--author, --licence and --sample are for --to bioimage; leave them out."),
        (("--to", "bioimage"), "ends in .zip; give it such a name."),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], said: str, run: Callable[..., tuple[int, str, str]], tmp_path: Path, onnx_source: Path
) -> None:
    status, out, err = run("export-model", onnx_source, "-o", tmp_path / "model.onnx", *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert not list(tmp_path.iterdir())
