"""Objects of the shipped models against the truth, one by one, and what that does to sizes and counts.

    python benchmarks/objects.py DATA [--limit N] [--out FOLDER]

DATA holds emps/images, emps/labels and emps/test.txt (EMPS, MIT licence, doi 10.1021/acs.jcim.0c01455), none of which
any model was trained on. Two ways to objects are tried: the particles model and its own parting of those that touch
(`napari-matseg segment --instances`), and the same model for centres with the compact promptable model for masks
(`napari-matseg prompt --detect`). With --out the labels and all tables are kept there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_matseg.comparing import ObjectComparison, compare_steps, save_comparison
from napari_matseg.core.agreement.size_errors import say_size_errors
from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.progress import finish
from napari_matseg.core.prompt import PromptSession
from napari_matseg.pipeline import segment
from napari_matseg.prompting import find_steps
from napari_matseg.settings import CentreSettings, EvaluateSettings, PromptSettings
from napari_matseg.terminal import table_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


def main() -> None:
    """Segment, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, help="images, from the first")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.data / "emps"
    stems = [Path(name).stem for name in (folder / "test.txt").read_text().split()][: arguments.limit]
    images = {path.stem: path for path in (folder / "images").iterdir()}

    particles = load_model("particles")
    session = PromptSession(PromptSettings(cache_gb=0))
    ways: dict[str, Callable[[Path], np.ndarray]] = {
        "particles": lambda path: segment(path, loaded=particles, instances=True).instances,
        "particles, centres, compact": lambda path: (
            finish(find_steps(path, CentreSettings(), session, loaded=particles)).labels
        ),
    }
    with tempfile.TemporaryDirectory() as temporary:
        for number, (way, objects_of) in enumerate(ways.items(), start=1):
            out = (arguments.out or Path(temporary)) / str(number)
            out.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            pairs = []
            for done, stem in enumerate(stems, start=1):
                pairs.append((out / f"{stem}_labels.tif", folder / "labels" / f"{stem}.png"))
                write_labels(pairs[-1][0], objects_of(images[stem]))
                print(f"\r{way}: {done}/{len(stems)}", end="", file=sys.stderr)
            print(file=sys.stderr)
            seconds = time.perf_counter() - started
            compared = finish(compare_steps(pairs, EvaluateSettings(objects=True)))
            if arguments.out:
                save_comparison(compared, arguments.out, f"emps_{number}")
            report(way, compared, seconds)


def report(way: str, compared: ObjectComparison, seconds: float) -> None:
    """Print the tables of one way."""
    tables = compared.tables()
    columns = ("threshold", "ap", "ap_low", "ap_high", "f1", "panoptic_quality", "mean_matched_iou", "missed", "false")
    print(f"\n{way}: {len(compared.images)} images of EMPS test in {seconds:.0f} s")
    print("\n".join(table_lines([{name: row[name] for name in columns} for row in tables["objects"]])))
    print("\n".join(["", *table_lines(tables["overall"])]))
    print("\n".join(["", *table_lines(tables["sizes"])]))
    print(say_size_errors(tables["sizes"], compared.scores.mean_best_iou))


if __name__ == "__main__":
    main()
