"""Opening a large file in a real viewer, and how responsive the window stays while one is segmented.

    python benchmarks/viewing.py [--size 65536] [--segment 4096] [--model particles] [--folder FOLDER]

Writes a tiled, uncompressed TIFF without smaller copies (65536: 4 GB), opens it in napari, and prints how long it takes
until something is seen, how long the smaller copies take, and the longest time that the window did not answer meanwhile
(a timer that should fire every 5 ms tells). Then a micrograph is segmented in the widget, in memory and part by part.
Needs a screen, such as that of xvfb-run. The first layer of a session makes napari import much; a small image is shown
before anything is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from gigapixel import write_scene

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_MS = 5
MOST_S = 3600


class Stalls:
    """Longest times between two turns of the event loop."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(INTERVAL_MS)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def __str__(self) -> str:
        """Say the longest three, and the share of the time in stalls of more than 0.1 s."""
        longest = " ".join(f"{gap * 1e3:.0f}" for gap in sorted(self.gaps)[:-4:-1])
        share = sum(gap for gap in self.gaps if gap > 0.1) / max(sum(self.gaps), 1e-9)
        return f"longest stalls {longest} ms; {share:.1%} of the time in stalls above 100 ms"


def wait_until(done: Callable[[], bool]) -> float:
    """Run the event loop; give the seconds that it took."""
    from qtpy.QtCore import QEventLoop, QTimer

    started = time.perf_counter()
    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: done() and loop.quit())
    timer.start(20)
    QTimer.singleShot(MOST_S * 1000, loop.quit)
    if not done():
        loop.exec()
    return time.perf_counter() - started


def open_large(viewer: Any, image: Path) -> None:
    """Open a file, look at it, and wait for its smaller copies."""
    from qtpy.QtWidgets import QApplication

    from napari_matseg.core.pyramid_cache import SUFFIX, pyramid_folder

    for what in ("without copies", "with copies in the cache"):
        started = time.perf_counter()
        viewer.open(image, plugin="napari-matseg")
        QApplication.processEvents()
        viewer.screenshot(flash=False)
        print(f"  opened and drawn in {time.perf_counter() - started:.2f} s {what}", flush=True)
        stalls = Stalls()
        seconds = wait_until(lambda: any(path.name[0] != "." for path in pyramid_folder().glob(f"*{SUFFIX}")))
        if what == "without copies":
            print(f"  smaller copies made in {seconds:.0f} s; {stalls}", flush=True)
        shown = time.monotonic()
        wait_until(lambda shown=shown: time.monotonic() > shown + 1)
        viewer.layers.clear()


def segment(viewer: Any, image: Path, model: str, large: bool) -> None:
    """Segment in the widget."""
    from napari_matseg._napari import segment as module
    from napari_matseg.pipeline import segment_steps

    viewer.open(image, plugin="napari-matseg")
    if large:
        module.segment_steps = lambda *args, **kwargs: segment_steps(*args, **kwargs, large_px=1)
    _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
    widget.model.model = model
    widget.device.setCurrentIndex(widget.device.findData("cpu"))
    seen: list[float] = []
    started = time.perf_counter()
    viewer.layers.events.inserted.connect(lambda _: seen.append(time.perf_counter() - started))
    stalls = Stalls()
    widget.run()
    seconds = wait_until(lambda: not widget.run_bar.cancel_button.isEnabled())
    shown = f"first tiles shown after {seen[0]:.0f} s" if seen else "nothing shown"
    print(f"  {'part by part' if large else 'in memory'}: {seconds:.0f} s, {shown}; {stalls}", flush=True)
    module.segment_steps = segment_steps
    viewer.window.remove_dock_widget(widget)
    viewer.layers.clear()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=65536, help="width and height of the file that is opened; 0: none")
    parser.add_argument("--segment", type=int, default=4096, help="of the one that is segmented; 0: none")
    parser.add_argument("--model", default="particles")
    parser.add_argument("--folder", type=Path, help="keep the images here, and use those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["NAPARI_MATSEG_CACHE"] = temporary
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        import napari

        viewer = napari.Viewer()
        viewer.add_image(np.zeros((64, 64), np.uint16))
        viewer.screenshot(flash=False)
        viewer.layers.clear()
        import napari_matseg._napari.segment  # noqa: F401

        for side, work in ((arguments.size, "open"), (arguments.segment, "segment")):
            if not side:
                continue
            image = folder / f"view_{side}.tif"
            if not image.exists():
                write_scene(image, side, side, arguments.model)
            print(f"{image.name}: {image.stat().st_size / 1e9:.2f} GB, load of the machine {os.getloadavg()[0]:.1f}")
            if work == "open":
                open_large(viewer, image)
            else:
                for large in (False, True):
                    segment(viewer, image, arguments.model, large)
        viewer.close()


if __name__ == "__main__":
    main()
