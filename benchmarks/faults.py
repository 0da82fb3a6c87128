"""What faults do to a run: kills, full disks, lost rights, lost drives, inputs that change, several runs at once.

    python benchmarks/faults.py [--kills 50] [--seed 0] [--only NAME ...] [--distributed] [--write REPORT.md]

Runs a recipe on two dozen small made-up micrographs in processes of their own, disturbs them, starts them again until
they are complete, and compares all that is there with a run that nothing disturbed: the pixels of labels, the bytes of
tables and pictures, and records but for their times. After each fault it is looked whether any record speaks of
a file that is not as it says. Ends with status 1 if anything is lost, damaged or there twice, or if something temporary
is left.

Needs no network and no GPU. As root, on Linux, the disk that gets full is a small one of its own (tmpfs); elsewhere
files may not grow beyond a size. Not even root may write everywhere in the runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from faults_bench import Bench, Ended, N, Row, Run, content, look, write_micrograph

from napari_matseg.running.commit import READY, RECORD, TEMPORARY, WORK_FOLDER, committed
from napari_matseg.running.inputs import find_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGING = ("i02", "i05", "s 1/i08")
"""Micrographs that are replaced while they are read."""
SHOWN = 5
"""Files that the report names of each kind of harm."""


def kills(bench: Bench, number: int) -> Row:
    """Kill -9 at any moment, while outputs are written, and while they take their places."""
    row = Row("kill -9 of the run")
    rounds = 0
    while row.times < number:
        recipe = ("tiff", "zarr")[rounds % 2]
        out = bench.new_folder()
        for i in range(N):
            run = Run(bench, recipe, bench.inputs, out)
            if i % 6 == 5:
                run.wait_for("up")
                time.sleep(bench.rng.uniform(0, bench.seconds))
            elif run.wait_for("working"):
                time.sleep(bench.rng.uniform(0, 2 * bench.seconds))
                if i % 3:
                    wait_for_commit(run, out, written=i % 3 == 2)
                    time.sleep(bench.rng.uniform(0, 0.01 if i % 3 == 2 else 0.3 * bench.seconds))
            if not run.kill():
                break
            row.times += 1
            look(row, out)
            if row.times == number:
                break
        rounds += 1
        bench.finish(row, recipe, out)
    row.notes.append(f"{rounds} rounds")
    return row


def wait_for_commit(run: Run, out: Path, *, written: bool = False) -> None:
    """Wait until outputs are being written, or are written and take their places."""
    while run.process.is_alive():
        with contextlib.suppress(OSError):
            folders = [entry.path for entry in os.scandir(out / WORK_FOLDER) if entry.name.endswith(TEMPORARY)]
            if any(not written or os.path.exists(os.path.join(folder, READY)) for folder in folders):
                return
        time.sleep(0.0002)


def killed_workers(bench: Bench, number: int) -> Row:
    """Kill -9 of worker processes, while the run that they are of goes on."""
    row = Row("kill -9 of a worker process")
    out = bench.new_folder()
    run = Run(bench, "tiff", bench.inputs, out, workers=2)
    run.wait_for("working")
    main = psutil.Process(run.process.pid)
    while row.times < max(2, number // 10) and run.process.is_alive():
        time.sleep(bench.rng.uniform(0, 8 * bench.seconds))
        with contextlib.suppress(psutil.Error, ValueError):
            busy = [one for one in main.children() if one.memory_info().rss > 100e6]
            busy[bench.rng.integers(len(busy))].kill()
            row.times += 1
        look(row, out)
    ended = run.wait()
    row.notes.append(f"{len(ended.failed) - 1} files given up for the next run")
    bench.finish(row, "tiff", out)
    return row


def full_disk(bench: Bench, _: int) -> Row:
    """Let the disk get full, give it more room, and start again."""
    needed = sum(path.stat().st_size for path in bench.wanted["tiff"].rglob("*") if path.is_file())
    with small_disk(bench, needed // 2) as disk:
        if disk is None:
            row = Row("files that may not grow")
            sizes = [path.stat().st_size for path in bench.wanted["tiff"].rglob("*_overlay.png")]
            out = bench.new_folder()
            ended = Run(bench, "tiff", bench.inputs, out, most_bytes=int(np.median(sizes))).wait()
            ends = [ended]
        else:
            row = Row("disk full (tmpfs)")
            out = bench.new_folder(disk)
            ends = []
            for share in (0.5, 0.8, 1.0):
                resize(disk, int(share * needed))
                ends.append(Run(bench, "tiff", bench.inputs, out).wait())
                look(row, out)
            resize(disk, 4 * needed)
        count(row, ends, "disk is full")
        bench.finish(row, "tiff", out)
    return row


def count(row: Row, ends: list[Ended], *words: str) -> None:
    """Count for how many files, or at the end, it was said what is wrong; note what else was said."""
    reasons = [reason for ended in ends for name, reason in ended.failed.items() if name != "broken"]
    reasons += [ended.error for ended in ends if ended.error is not None]
    expected = [reason for reason in reasons if any(word in reason for word in words)]
    row.times += len(expected)
    row.notes += sorted(set(reasons) - set(expected))[:3]


@contextlib.contextmanager
def small_disk(bench: Bench, size: int) -> Iterator[Path | None]:
    """Mount one, where that is allowed."""
    disk, mount, unmount = bench.folder / "disk", shutil.which("mount"), shutil.which("umount")
    disk.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if not mount or not unmount or subprocess.run(command, capture_output=True).returncode:  # noqa: S603
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run([unmount, str(disk)], check=True)  # noqa: S603


def resize(disk: Path, size: int) -> None:
    """Give a disk another size."""
    subprocess.run([str(shutil.which("mount")), "-o", f"remount,size={size}", str(disk)], check=True)  # noqa: S603


def lost_rights(bench: Bench, _: int) -> Row:
    """Take the right to write midway, and give it back later."""
    row = Row("permission lost midway")
    for turn in range(4):
        out = bench.new_folder()
        run = Run(bench, "tiff", bench.inputs, out)
        for _ in range(int(bench.rng.integers(2, 8))):
            run.wait_for("working")
        if turn % 2:
            wait_for_commit(run, out)
        folders = [out, *(path for path in out.iterdir() if path.is_dir() and (turn > 1 or path.name != WORK_FOLDER))]
        modes = [stat.S_IMODE(folder.stat().st_mode) for folder in folders]
        for folder in folders:
            folder.chmod(0o555)
        ended = run.wait()
        look(row, out)
        count(row, [ended], "Permission denied", "may not be written to")
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
        bench.finish(row, "tiff", out)
    return row


def lost_drive(bench: Bench, _: int) -> Row:
    """Let the folder of the run go away midway, and come back later."""
    row = Row("drive of the results lost midway")
    for turn in range(4):
        drive = bench.folder / f"drive {turn}"
        drive.mkdir()
        out, away = bench.new_folder(drive), bench.folder / f"away {turn}"
        run = Run(bench, "tiff", bench.inputs, out)
        for _ in range(int(bench.rng.integers(2, 8))):
            run.wait_for("working")
        if turn % 2:
            wait_for_commit(run, out)
        drive.rename(away)
        drive.mkdir()  # the empty folder that a drive is mounted on
        run.wait()
        row.times += 1
        row.twice += [str(path.relative_to(bench.folder)) for path in drive.rglob("*") if path.is_file()]
        shutil.rmtree(drive)
        away.rename(drive)
        look(row, out)
        bench.finish(row, "tiff", out)
    return row


def replaced_inputs(bench: Bench, _: int) -> Row:
    """Replace inputs all the time, as a whole and byte by byte, while they are read."""
    row = Row("input replaced while it is read")
    others = bench.folder / "other micrographs"
    shutil.copytree(bench.inputs, others)
    paths = {name: next(bench.inputs.glob(f"{name}.*")) for name in CHANGING}
    first = {name: path.read_bytes() for name, path in paths.items()}
    rng = np.random.default_rng(1)
    for path in paths.values():
        write_micrograph(others / path.relative_to(bench.inputs), rng)
    second = {name: (others / path.relative_to(bench.inputs)).read_bytes() for name, path in paths.items()}
    wanted = bench.new_folder()
    Run(bench, "tiff", others, wanted).wait()
    right = {}
    for name in CHANGING:
        for folder in (bench.wanted["tiff"], wanted):
            record = committed(folder, name) or {}
            right[name, record["image"]["sha256"]] = content(folder / f"{name}_labels.tif")
    stop = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        while not stop.is_set():
            for name, path in paths.items():
                data = (first, second)[changes % 2][name]
                if changes % 3:
                    path.with_suffix(".new").write_bytes(data)
                    path.with_suffix(".new").replace(path)
                else:
                    path.write_bytes(data)
                changes += 1
            time.sleep(bench.seconds / 20)

    refused = 0
    for _ in range(5):
        out = bench.new_folder()
        stop.clear()
        thread = threading.Thread(target=change)
        thread.start()
        ended = Run(bench, "tiff", bench.inputs, out).wait()
        stop.set()
        thread.join()
        row.times += len(CHANGING)
        refused += len(ended.failed) - 1
        for name in CHANGING:
            record = committed(out, name)
            if record and right.get((name, record["image"]["sha256"])) != content(out / f"{name}_labels.tif"):
                row.damaged.append(f"{out.name}/{name}: labels of another content")
        for name, path in paths.items():
            path.write_bytes(first[name])
        bench.finish(row, "tiff", out)
    row.notes.append(f"{changes} changes; {refused} times refused, and done later")
    return row


def several_runs(bench: Bench, _: int) -> Row:
    """Three runs at once on one folder; in every second turn one of them is killed."""
    row = Row("three runs at once on one folder")
    for turn in range(4):
        out = bench.new_folder()
        runs = [Run(bench, "tiff", bench.inputs, out) for _ in range(3)]
        if turn % 2:
            runs[0].wait_for("working")
            time.sleep(bench.rng.uniform(0, 4 * bench.seconds))
            runs.pop(0).kill()
        ends = [run.wait() for run in runs]
        row.times += 1
        n = len(list(bench.wanted["tiff"].rglob(f"*{RECORD}")))
        for ended in ends:
            if ended.done + ended.kept != n:
                row.lost.append(f"{out.name}: {ended}")
        made = sum(ended.done for ended in ends)
        if made > n or (made < n and not turn % 2):
            row.twice.append(f"{out.name}: {made} of {n} made")
        bench.finish(row, "tiff", out)
    return row


def killed_cluster(bench: Bench, number: int) -> Row:
    """Kill -9 of dask's workers, of whole micrographs in half of the turns and of bands of them in the others."""
    from faults_cluster import run_with_kills, workers

    from napari_matseg.core.recipes import write_recipe
    from napari_matseg.settings.recipe_files import read_recipe

    row = Row("kill -9 of a worker of a cluster")
    whole = read_recipe(bench.recipes["tiff"])
    assert whole.segment is not None
    parts = whole.segment.model_copy(update={"large_px": 1, "tile": 64, "instances": True})
    bench.recipes["bands"] = bench.folder / "bands.yaml"
    write_recipe(whole.model_copy(update={"segment": parts}), bench.recipes["bands"])
    bench.wanted["bands"] = bench.new_folder()
    Run(bench, "bands", bench.inputs, bench.wanted["bands"]).wait()
    rounds = 0
    with workers() as client:
        while rounds < 2 or row.times < max(20, number // 2):
            recipe = ("tiff", "bands")[rounds % 2]
            out = bench.new_folder()
            sources, _ = find_inputs([bench.inputs], out)
            summary, n = run_with_kills(client, bench.recipes[recipe], sources, out, bench.rng, 2 * bench.seconds)
            row.times += n
            rounds += 1
            look(row, out)
            for outcome in summary.outcomes:
                if outcome.state == "failed" and outcome.source.name != "broken":
                    row.lost.append(f"{out.name}/{outcome.source.name}: {outcome.reason}")
            bench.finish(row, recipe, out)
    row.notes.append(f"{rounds} runs, half of them with each micrograph shared out in bands")
    return row


FAULTS: dict[str, Callable[[Bench, int], Row]] = {
    "kills": kills,
    "workers": killed_workers,
    "disk": full_disk,
    "rights": lost_rights,
    "drive": lost_drive,
    "inputs": replaced_inputs,
    "runs": several_runs,
    "cluster": killed_cluster,
}
"""Each makes one row of the report; "cluster", which needs the extra of that name, only if it is asked for."""


def report(rows_: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| Fault | Times | Lost | Damaged | Twice | Left over |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {row.fault} | {row.times} | {len(row.lost)} | {len(row.damaged)} | {len(row.twice)} | {len(row.left)} |"
            for row in rows_
        ),
    ]
    details = [
        f"- {row.fault}: {what}"
        for row in rows_
        for what in (
            *row.notes,
            *(one for found in (row.lost, row.damaged, row.twice, row.left) for one in found[:SHOWN]),
        )
    ]
    return "\n".join([*lines, "", *details])


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of the whole run, at least (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the micrographs and of when it is killed (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=FAULTS, help="some of the faults")
    parser.add_argument("--distributed", action="store_true", help="also of runs on a cluster, here on this machine")
    parser.add_argument("--write", type=Path, help="file for the report")
    args = parser.parse_args()
    chosen = args.only or [name for name in FAULTS if name != "cluster"]
    if args.distributed and "cluster" not in chosen:
        chosen.append("cluster")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows_ = []
    with tempfile.TemporaryDirectory(prefix="faults ", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        started = time.perf_counter()
        bench = Bench(Path(folder), args.seed, distributed="cluster" in chosen)
        print(
            f"undisturbed: {bench.seconds:.2f} s a micrograph, {time.perf_counter() - started:.0f} s in all", flush=True
        )
        for name in chosen:
            since = time.perf_counter()
            rows_.append(FAULTS[name](bench, args.kills))
            print(f"{rows_[-1].fault}: {rows_[-1].times} in {time.perf_counter() - since:.0f} s", flush=True)
    text = report(rows_)
    print(f"\n{text}")
    if args.write:
        args.write.write_text(text + "\n", encoding="utf-8")
    return 0 if all(row.is_good for row in rows_) else 1


if __name__ == "__main__":
    sys.exit(main())
