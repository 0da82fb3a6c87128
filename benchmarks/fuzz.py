"""Damaged and hostile files: whether each ends in a clear error or a right image, within bounds.

    python benchmarks/fuzz.py [--mutants 5000] [--seed 0] [--only KIND ...] [--number N] [--write FILE] [--keep FOLDER]

Each mutant is read in a process of its own. A fault is a crash, a hang, an error that is not one of ours or not one
line, a wrong image, more memory or time than the bounds, any change to the folder, any other file read or written, any
program run, any use of the network. Ends with status 1 if there is one. The same seed gives the same mutants; `--only
KIND --number N` reads one of them again.

Needs Linux or macOS, and for DM, SER and EMD the extra `formats` and pytest.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

import fuzz_child
from fuzz_files import KINDS, make

SHOWN = 20
"""Faults that are shown."""


def main() -> int:
    """Run all mutants and print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutants", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--number", type=int, help="of one mutant of its kind, to be read again")
    parser.add_argument("--write", type=Path, help="file for the report, too")
    parser.add_argument("--keep", type=Path, help="folder for the mutants that end in a fault")
    options = parser.parse_args()
    fuzz_child.prepare()
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    results: dict[str, list[fuzz_child.Result]] = defaultdict(list)
    faults: list[str] = []
    weights = [KINDS[kind].weight for kind in options.only]
    order = random.Random(options.seed).choices(options.only, weights, k=options.mutants)  # noqa: S311
    with tempfile.TemporaryDirectory() as base:
        for done, kind in enumerate([options.only[0]] if options.number is not None else order):
            number = len(results[kind]) if options.number is None else options.number
            folder = Path(base).resolve() / "mutant"
            folder.mkdir()
            case = make(kind, folder, random.Random(f"{options.seed}/{kind}/{number}"))  # noqa: S311
            result = fuzz_child.run(case)
            results[kind].append(result)
            if options.number is not None:
                print(f"{case.what}: {result}")
            if result.outcome == "fault":
                faults.append(f"{kind} {number} ({case.what}): {result.detail}".replace(base, ""))
                print(faults[-1], file=sys.stderr, flush=True)
                if options.keep:
                    shutil.copytree(folder, options.keep / f"{kind}_{number}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder)
            if done % 500 == 499:
                print(f"{done + 1} mutants, {len(faults)} faults", file=sys.stderr, flush=True)
    report = table(results) + "".join(f"\n- {fault}" for fault in faults[:SHOWN]) + ("\n" if faults else "")
    print(report)
    if options.write:
        options.write.write_text(report, encoding="utf-8")
    return 1 if faults else 0


def table(results: dict[str, list[fuzz_child.Result]]) -> str:
    """Report, in Markdown: a row for each kind, and one for all."""
    lines = [
        "| files | mutants | errors | images | faults | worst time, s | worst memory, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [(KINDS[kind].name, results[kind]) for kind in KINDS if results.get(kind)]
    rows.append(("all", [result for _, some in rows for result in some]))
    for name, some in rows:
        counts = [sum(one.outcome == outcome for one in some) for outcome in ("error", "image", "fault")]
        worst = max(one.seconds for one in some), max(one.n_bytes for one in some) / 2**20
        lines.append(f"| {name} | {len(some)} | {' | '.join(map(str, counts))} | {worst[0]:.1f} | {worst[1]:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
