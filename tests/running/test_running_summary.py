from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_matseg.errors import OutputError
from napari_matseg.running import summary
from napari_matseg.running.states import Outcome
from napari_matseg.running.summary import hash_recipe, write_index, write_summary
from napari_matseg.running.tables import read_table
from napari_matseg.settings.recipe import Recipe

Make = Callable[..., Outcome]


def change(recipe: Recipe, **changes: object) -> Recipe:
    return Recipe.model_validate(recipe.model_dump() | changes)


def test_all_is_written_and_adds_up(make_outcome: Make, failed: Outcome, recipe: Recipe, tmp_path: Path):
    outcomes = [make_outcome("a", [8, 10]), failed, make_outcome("s/b", [6, 18], [5], state="kept")]
    files = write_summary(outcomes, recipe, tmp_path)
    assert {what: path.name for what, path in files.items()} == {
        "objects": "objects.csv",
        "objects parquet": "objects.parquet",
        "images": "images.csv",
        "images parquet": "images.parquet",
        "sizes figure": "sizes.svg",
        "fractions figure": "fractions.svg",
        "summary": "summary.json",
        "index": "index.html",
    }
    assert all(path.is_file() for path in files.values())
    for what in ("objects", "objects parquet"):
        assert read_table(files[what])["file"].tolist() == ["a", "a", "s/b", "s/b", "s/b"]
    for what in ("images", "images parquet"):
        images = read_table(files[what])
        assert images["file"].tolist() == ["a", "bad", "s/b", "s/b"]
        assert images["d50_nm"].notna().tolist() == [True, False, True, True]
    told = json.loads(files["summary"].read_text())
    assert told["counts"] == {"files": 3, "done": 1, "kept": 1, "failed": 1}
    assert told["failed"] == [{"file": "bad", "image": str(failed.source.path), "reason": failed.reason}]
    assert told["objects"] == 5
    assert told["fractions"][0]["pixels"] == {"matrix": 3 * 4800 - 549, "particle": 549}
    assert told["fractions"][0]["pooled"][1]["fields"] == 3
    assert [(one["of"], one["unit"], one["n_seen"]) for one in told["sizes"]] == [("all objects", "nm", 5)]
    assert told["models"] == [{"name": "squares", "weights_sha256": "12ab", "files": 2}]
    assert told["made_with"] == {"1.2": 2}
    assert told["recipe"] == recipe.used()
    assert told["recipe_sha256"] == hash_recipe(recipe)
    assert told["seconds"] == 1.5
    assert told["files"]["index"] == "index.html"
    assert told["notes"] == []


def test_the_same_outcomes_give_the_same_tables_and_page(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    outcomes = [make_outcome("a", [8, 10])]
    names = ["objects", "images", "sizes figure", "fractions figure", "index"]
    first = [path.read_bytes() for what, path in write_summary(outcomes, recipe, tmp_path).items() if what in names]
    again = [path.read_bytes() for what, path in write_summary(outcomes, recipe, tmp_path).items() if what in names]
    assert first == again


def test_mixed_units_and_classes_are_kept_apart_and_said(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    outcomes = [
        make_outcome("a", [8, 10]),
        make_outcome("b", [8, 10], pixel_nm=None),
        make_outcome("c", [8, 10], classes=("matrix", "pore", "carbide")),
    ]
    files = write_summary(outcomes, recipe, tmp_path)
    assert files["sizes figure px"].is_file()
    told = json.loads(files["summary"].read_text())
    assert [(one["of"], one["unit"]) for one in told["sizes"]] == [
        ("all objects", "nm"),
        ("pore", "nm"),
        ("carbide", "nm"),
        ("all objects", "px"),
    ]
    assert [list(one["pixels"]) for one in told["fractions"]] == [["matrix", "particle"], ["matrix", "pore", "carbide"]]
    page = files["index"].read_text(encoding="utf-8")
    assert len(told["notes"]) == 2
    assert all(note in page for note in told["notes"])


@pytest.mark.parametrize("n", [0, 1])
def test_all_failed_or_nothing_there_is_a_summary_all_the_same(failed: Outcome, recipe: Recipe, tmp_path: Path, n: int):
    files = write_summary([failed] * n, recipe, tmp_path / "out")
    assert set(files) == {"images", "images parquet", "summary", "index"}
    told = json.loads(files["summary"].read_text())
    assert told["counts"]["failed"] == n
    assert (told["objects"], told["fractions"], told["sizes"]) == (None, [], [])


def test_no_object_anywhere_is_said(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    files = write_summary([make_outcome("a"), make_outcome("b")], recipe, tmp_path)
    assert "sizes figure" not in files
    assert read_table(files["objects"]).empty
    assert json.loads(files["summary"].read_text())["objects"] == 0
    page = files["index"].read_text(encoding="utf-8")
    assert "0 objects" in page
    assert "0 of 0" in page


def test_what_an_earlier_recipe_left_goes(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    (tmp_path / "objects.txt").write_text("mine")
    outcome = make_outcome("a", [8, 10])
    write_summary([outcome], recipe, tmp_path)
    for what in ("objects", "objects parquet"):
        del outcome.files[what]
    del outcome.record["fields"], outcome.record["objects"]
    files = write_summary([outcome], change(recipe, measure=None, outputs={"tables": ["csv"]}), tmp_path)
    assert set(files) == {"images", "fractions figure", "summary", "index"}
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("a_")}
    assert left == {"images.csv", "fractions.svg", "fractions.csv", "summary.json", "index.html", "objects.txt"}


def test_only_our_own_files_go(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    for kept in (tmp_path / "precious.csv", out / "precious.csv", out / "images.parquet"):
        kept.touch()
    (out / "summary.json").write_text(json.dumps({"files": {"x": "../precious.csv", "y": "precious.csv", "z": [1]}}))
    write_summary([make_outcome("a")], change(recipe, outputs={"tables": ["csv"]}), out)
    (out / "summary.json").write_text(json.dumps({"files": {"x": "../precious.csv", "y": "precious.csv"}}))
    write_summary([make_outcome("a")], change(recipe, outputs={"tables": ["csv"]}), out)
    assert (tmp_path / "precious.csv").exists()
    assert (out / "precious.csv").exists()
    assert (out / "images.parquet").exists()


def test_without_tables_the_totals_say_what_they_lack(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    files = write_summary([make_outcome("a", [8], kinds=())], change(recipe, outputs={"tables": []}), tmp_path)
    assert set(files) == {"fractions figure", "summary", "index"}
    assert "asks for no tables" in files["index"].read_text(encoding="utf-8")


def test_a_lost_table_stops_nothing(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    lost = make_outcome("lost", [8])
    for what in ("objects", "objects parquet"):
        lost.files[what].unlink()
    files = write_summary([lost, make_outcome("a", [9])], recipe, tmp_path)
    notes = json.loads(files["summary"].read_text())["notes"]
    assert notes
    assert all(note.startswith("lost: its objects are left out") for note in notes)
    assert read_table(files["objects"])["file"].tolist() == ["a"]


def test_a_kill_while_the_summary_is_written_leaves_whole_files(
    make_outcome: Make, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_summary([make_outcome("a", [8])], recipe, tmp_path)
    old = (tmp_path / "index.html").read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(summary, "write_json", fails)
    with pytest.raises(KeyboardInterrupt):
        write_summary([make_outcome("a", [8]), make_outcome("b", [9])], recipe, tmp_path)
    assert (tmp_path / "index.html").read_bytes() == old
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_folder_can_be_moved(make_outcome: Make, recipe: Recipe, tmp_path: Path):
    outcome = make_outcome("a", [8])
    page = write_summary([outcome], recipe, tmp_path)["index"].read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert 'src="a_thumbnail.jpg"' in page


def test_the_index_alone_is_written_while_a_run_goes_on(
    make_outcome: Make, failed: Outcome, recipe: Recipe, tmp_path: Path
):
    outcome = make_outcome("a", [8])
    outcome.files["objects"].unlink()  # which it does not read
    path = write_index([outcome, failed], recipe, tmp_path, total=9)
    page = path.read_text(encoding="utf-8")
    assert "2 of 9 images so far" in page
    assert "Phase fractions of 1 field<" in page
    assert f"<h1>{recipe.name}</h1>" in page
    nameless = write_index([], change(recipe, name=""), tmp_path / "results")
    assert "<h1>results</h1>" in nameless.read_text(encoding="utf-8")


def test_the_hash_of_a_recipe_is_that_of_what_it_does(recipe: Recipe):
    assert hash_recipe(change(recipe, name="other")) == hash_recipe(recipe)
    assert hash_recipe(change(recipe, measure=None)) != hash_recipe(recipe)


def test_a_folder_that_cannot_be_made_says_so(recipe: Recipe, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder"):
        write_summary([], recipe, tmp_path / "file" / "out")
