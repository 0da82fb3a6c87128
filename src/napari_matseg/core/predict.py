"""Tiles through the network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.blend import Blender
from napari_matseg.core.devices import MEMORY_SHARE, autocast, free_memory, is_out_of_memory
from napari_matseg.core.tile import Span, Tile, ceil_to

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import torch
    from torch import Tensor, nn

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.normalise import GreyScale
    from napari_matseg.core.plan import Plan
    from napari_matseg.core.staged.ops import Region


class TooLargeError(Exception):
    """One tile does not fit into memory."""


@dataclass(frozen=True)
class Piece:
    """A finished rectangle of the result.

    Attributes
    ----------
    where : (slice, slice)
        Rows and columns in the micrograph.
    classes_yx : array, shape (height, width), uint8
    probabilities_cyx : array, shape (classes, height, width), float32, or None
    depth_yx : array, shape (height, width), float32, or None
        For models with a distance output, from 0 at an object's edge to 1.
    """

    where: tuple[slice, slice]
    classes_yx: np.ndarray
    probabilities_cyx: np.ndarray | None = None
    depth_yx: np.ndarray | None = None


def predict(
    model: Model,
    image_cyx: Any,
    scale: GreyScale,
    plan: Plan,
    *,
    device: torch.device,
    dtype: torch.dtype,
    probabilities: bool = False,
) -> Generator[tuple[int, Piece | None], None, None]:
    """Take a micrograph through a network, tile by tile.

    Parameters
    ----------
    model : Model
        On `device`.
    image_cyx : array, shape (channels, height, width)
        Grey values as read; only slices of it are loaded.
    scale : GreyScale
        Of the whole micrograph.
    plan : Plan
        For this micrograph.
    device : torch.device
    dtype : torch.dtype
        What the network computes in.
    probabilities : bool
        Whether to give the probabilities too.

    Yields
    ------
    done : int
        Tiles finished so far.
    piece : Piece or None
        What became final. All pieces together cover each pixel exactly once.

    Raises
    ------
    TooLargeError
        If not even one tile fits into memory.
    """
    if plan.strategy == "staged":
        yield from _in_stages(model, image_cyx, scale, plan, device, dtype, probabilities)
        return
    shape = tuple(image_cyx.shape[1:])
    n_classes = len(model.card.classes)
    blend = plan.strategy == "blend"
    run = _Runner(model.network, Results(n_classes, model.card.distance, maps=blend or probabilities), device, dtype)
    blender = Blender(model.card.out_channels, (ceil_to(shape[0], plan.stride), ceil_to(shape[1], plan.stride)))
    done = 0
    with kept_memory(wanted=device.type == "cpu"):
        for tile, classes_yx, maps_cyx, depth_yx in _through(run, plan, image_cyx, scale):
            done += 1
            if not blend:
                inner = tile.inner
                maps = maps_cyx[:n_classes, *inner] if probabilities and maps_cyx is not None else None
                depth = None if depth_yx is None else depth_yx[inner]
                yield done, Piece(tile.keep, classes_yx[inner], maps, depth)
            else:
                final = blender.add(tile, maps_cyx)  # type: ignore[arg-type]
                yield done, None if final is None else _rows(final, shape, n_classes, probabilities)
    if blend:
        yield done, _rows(blender.rest(), shape, n_classes, probabilities)


def _in_stages(
    model: Model,
    image_cyx: Any,
    scale: GreyScale,
    plan: Plan,
    device: torch.device,
    dtype: torch.dtype,
    probabilities: bool,
) -> Generator[tuple[int, Piece], None, None]:
    """Tiles of the scores, each map of the network computed once."""
    import torch

    from napari_matseg.core.staged.ops import Region
    from napari_matseg.core.staged.run import StagedRun

    height, width = image_cyx.shape[1:]
    card, layers = model.card, model.layers
    if isinstance(layers, str):
        raise TypeError(f"a plan in stages for {card.name}, but {layers}")

    def read(region: Region) -> Tensor:
        rows, columns = Span(region.top, region.bottom, 0, 0), Span(region.left, region.right, 0, 0)
        return torch.from_numpy(scale.apply(read_window(image_cyx, Tile(rows, columns))))[None]

    canvas = ceil_to(height, plan.stride), ceil_to(width, plan.stride)
    run = StagedRun(
        layers,
        canvas,
        ceil_to(plan.tile, plan.stride),
        plan.thrift,
        read=read,
        device=device,
        dtype=dtype,
        room=int(free_memory(device) * MEMORY_SHARE[device.type] / 2),
    )
    results = Results(len(card.classes), card.distance, maps=probabilities)
    following = [*(tile.y.start for tile in plan.tiles[1:]), canvas[0]]
    with closing(run), kept_memory(wanted=device.type == "cpu"):
        for done, (tile, row) in enumerate(zip(plan.tiles, following, strict=True), 1):
            try:
                with torch.inference_mode():
                    scores = run.scores(Region(*(end for part in tile.window for end in (part.start, part.stop))))
                    classes, maps, depth = results.of(scores)
                    del scores
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise TooLargeError from error
            if row > tile.y.start:
                run.pass_by(row)
            inner = tile.inner
            yield (
                done,
                Piece(
                    tile.keep,
                    classes[0][inner],
                    None if maps is None else maps[0, : len(card.classes), *inner],
                    None if depth is None else depth[0][inner],
                ),
            )


def _rows(final: tuple[int, np.ndarray], shape: tuple[int, ...], n_classes: int, probabilities: bool) -> Piece:
    """Finished rows of a blend, without the padding of the canvas."""
    first, maps = final
    stop = min(first + maps.shape[1], shape[0])
    maps = maps[:, : stop - first, : shape[1]]
    classes = maps[:n_classes].argmax(axis=0).astype(np.uint8)
    depth = maps[-1] if maps.shape[0] > n_classes else None
    return Piece((slice(first, stop), slice(0, shape[1])), classes, maps[:n_classes] if probabilities else None, depth)


def _through(
    run: _Runner, plan: Plan, image_cyx: Any, scale: GreyScale
) -> Iterator[tuple[Tile, np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """Each tile with what the network makes of it; the next tiles are read while the network works."""

    def load(tiles: Sequence[Tile]) -> np.ndarray:
        return np.stack([scale.apply(read_window(image_cyx, tile)) for tile in tiles])

    batches = list(_batches(plan.tiles, plan.batch))
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, batches[0])
        for number, tiles in enumerate(batches):
            pixels = coming.result()
            if number + 1 < len(batches):
                coming = pool.submit(load, batches[number + 1])
            classes, maps, depth = run(pixels)
            for i, tile in enumerate(tiles):
                yield tile, classes[i], None if maps is None else maps[i], None if depth is None else depth[i]


def _batches(tiles: Sequence[Tile], batch: int) -> Iterator[list[Tile]]:
    """Group neighbouring tiles of one shape, at most `batch` of them."""
    for _, group in groupby(tiles, key=lambda tile: tile.shape):
        alike = list(group)
        yield from (alike[i : i + batch] for i in range(0, len(alike), batch))


def read_window(image_cyx: Any, tile: Tile) -> np.ndarray:
    """Pixels of a window; beyond bottom and right the micrograph is mirrored.

    Parameters
    ----------
    image_cyx : array, shape (channels, height, width)
    tile : Tile

    Returns
    -------
    array, shape (channels, height, width) of the window
    """
    rows, columns = (
        _mirrored(span.start, span.stop, length)
        for span, length in zip((tile.y, tile.x), image_cyx.shape[1:], strict=True)
    )
    part = np.asarray(image_cyx[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    if tile.y.stop <= image_cyx.shape[1] and tile.x.stop <= image_cyx.shape[2]:
        return part
    return part[:, (rows - rows.min())[:, None], columns - columns.min()]


def _mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Give the indices from start to stop, folded back into 0 to length - 1 about the last pixel."""
    period = max(1, 2 * (length - 1))
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros(stop - start, dtype=np.int64)


@dataclass(frozen=True)
class Results:
    """From the scores of a batch to what is asked for."""

    n_classes: int
    distance: bool
    maps: bool

    def of(self, output: Tensor) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Classes (n, y, x), maps (n, c, y, x) if wanted, and depth (n, y, x) if the model gives it."""
        import torch

        scores = output[:, : self.n_classes]
        classes = scores.argmax(dim=1).to(torch.uint8)
        depth = output[:, -1].float().sigmoid() if self.distance else None
        maps = None
        if self.maps:
            maps = scores.float().softmax(dim=1)
            maps = maps if depth is None else torch.cat([maps, depth[:, None]], dim=1)
        return (
            classes.cpu().numpy(),
            None if maps is None else maps.contiguous().cpu().numpy(),
            None if depth is None else depth.cpu().numpy(),
        )


class _Runner:
    """The network on one batch; halves the batch when memory runs out."""

    def __init__(self, network: nn.Module, results: Results, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        self._network = network.to(memory_format=torch.channels_last)
        self._results = results
        self._device = device
        self._dtype = dtype
        self._most: int | None = None  # tiles that are known to fit

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Classes (n, y, x), maps (n, c, y, x) if wanted, and depth (n, y, x) if the model gives it."""
        import torch

        most = min(self._most or len(pixels), len(pixels))
        while (parts := self._try(pixels, most)) is None:
            # Not before here, outside the handler, are the frames gone that held the memory.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if most == 1:
                raise TooLargeError
            most = self._most = most // 2
        return tuple(None if part[0] is None else np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]

    def _try(
        self, pixels: np.ndarray, most: int
    ) -> list[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]] | None:
        """At most so many tiles at once; None if memory ran out."""
        try:
            return [self._forward(pixels[i : i + most]) for i in range(0, len(pixels), most)]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _forward(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        import torch

        with torch.inference_mode(), autocast(self._device, self._dtype):
            batch = torch.from_numpy(pixels)
            if self._device.type == "cuda":
                batch = batch.pin_memory()
            batch = batch.to(self._device, non_blocking=True, memory_format=torch.channels_last)
            return self._results.of(self._network(batch))
