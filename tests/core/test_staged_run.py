"""Large images in stages against the network in one go."""

from collections import Counter
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_matseg.core.architectures import build_network, stride_of
from napari_matseg.core.staged.layers import Layers
from napari_matseg.core.staged.ops import Region
from napari_matseg.core.staged.run import StagedRun
from napari_matseg.core.staged.shelf import Shelf
from napari_matseg.core.staged.stages import Grid, choose_kept, chunks, flops_of, make_grids, shelf_bytes, targets
from napari_matseg.core.staged.totals import Total
from napari_matseg.core.staged.trace import trace
from napari_matseg.settings import ArchitectureSettings

CPU = torch.device("cpu")
TINY: dict[str, dict[str, Any]] = {
    "unet": {"encoder": "tu-resnet10t", "encoder_depth": 3, "options": {"decoder_channels": [8, 8, 8]}},
    "pooled": {"name": "deeplabv3plus", "options": {"decoder_channels": 16}},
    "normed": {"name": "fpn", "options": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}},
}


@pytest.fixture(scope="module")
def networks() -> dict[str, tuple[nn.Module, Layers]]:
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, given_ in TINY.items():
            network = build_network(ArchitectureSettings(**given_), 3).eval()
            found[name] = network, trace(network, 1, stride_of(network))
    return found


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))


def run_of(layers: Layers, image: torch.Tensor, tile: int, room: int = 1 << 30, read: Any = None) -> StagedRun:
    def part(region: Region) -> torch.Tensor:
        return image[..., region.top : region.bottom, region.left : region.right]

    canvas = (image.shape[2], image.shape[3])
    return StagedRun(layers, canvas, tile, read=read or part, device=CPU, dtype=torch.float32, room=room)


def scores_of(run: StagedRun, shape: tuple[int, int], tile: int) -> torch.Tensor:
    scores = torch.full((1, 3, *shape), torch.nan)
    with torch.inference_mode():
        for region in chunks(shape, Grid(tile, 0)):
            scores[..., region.top : region.bottom, region.left : region.right] = run.scores(region)
            if region.right == shape[1]:
                run.pass_by(region.bottom)
    return scores


@pytest.mark.parametrize("name", TINY)
@settings(max_examples=6)
@given(rows=st.integers(2, 12), columns=st.integers(1, 12), cells=st.sampled_from([2, 4, 8]))
def test_any_size_and_tile_gives_what_the_whole_image_gives(networks, name, rows, columns, cells):
    network, layers = networks[name]
    shape, tile = (rows * layers.stride, columns * layers.stride), cells * layers.stride
    run = run_of(layers, noise(*shape), tile)
    found = scores_of(run, shape, tile)
    with torch.inference_mode():
        expected = network(noise(*shape))
    torch.testing.assert_close(found.softmax(1), expected.softmax(1), atol=1e-4, rtol=0)
    assert not any(run.shelf.rows(number) for number in range(len(layers.steps)))  # nothing waits any more
    run.close()


@pytest.mark.parametrize("name", TINY)
def test_each_chunk_is_computed_once(networks, name, monkeypatch):
    _, layers = networks[name]
    counted: Counter[tuple[int, int, int]] = Counter()
    put = Shelf.put

    def counting(shelf: Shelf, key: tuple[int, int, int], part: Any) -> None:
        counted[key] += 1
        put(shelf, key, part)

    monkeypatch.setattr(Shelf, "put", counting)
    stride = layers.stride
    shape, tile = (20 * stride, 14 * stride), 4 * stride
    scores_of(run_of(layers, noise(*shape), tile), shape, tile)
    assert set(counted.values()) == {1}


def test_some_tiles_alone_are_those_of_all_to_the_bit(networks):
    _, layers = networks["unet"]
    shape, tile = (480, 320), 64
    image = noise(*shape)
    everything = scores_of(run_of(layers, image, tile), shape, tile)
    some = run_of(layers, image, tile)
    with torch.inference_mode():
        for region in (Region(256, 320, 64, 128), Region(320, 384, 0, 64)):
            expected = everything[..., region.top : region.bottom, region.left : region.right]
            assert torch.equal(some.scores(region), expected)


def test_what_waits_does_not_grow_with_the_height(networks):
    _, layers = networks["unet"]
    largest = []
    for height in (960, 1920):
        run = run_of(layers, noise(height, 160), 64)
        scores_of(run, (height, 160), 64)
        largest.append(run.shelf.largest)
    assert largest[0] == largest[1]
    assert largest[0] <= shelf_bytes(layers, (960, 160), choose_kept(layers, 64), 64, 4)


def test_what_does_not_fit_goes_to_a_file_in_half_precision(networks):
    network, layers = networks["pooled"]
    shape, tile = (320, 320), 64
    image = noise(*shape)
    with closing(run_of(layers, image, tile, room=200_000)) as run:
        found = scores_of(run, shape, tile)
    assert run.shelf.written > 0
    assert run.shelf.largest <= 200_000
    with torch.inference_mode():
        expected = network(image)
    torch.testing.assert_close(found.softmax(1), expected.softmax(1), atol=1e-3, rtol=0)


def test_an_error_while_reading_comes_through(networks):
    _, layers = networks["unet"]
    image = noise(480, 320)

    def read(region: Region) -> torch.Tensor:
        if region.top > 200:
            raise OSError("the drive is gone")
        return image[..., region.top : region.bottom, region.left : region.right]

    with pytest.raises(OSError, match="the drive is gone"):
        scores_of(run_of(layers, image, 64, read=read), (480, 320), 64)


@pytest.mark.parametrize("name", ["unet", "deeplabv3", "deeplabv3plus", "fcn", "fpn"])
def test_hardly_anything_is_computed_twice(name):
    network = build_network(ArchitectureSettings(name=name), 2).eval()
    layers = trace(network, 1, stride_of(network))
    staged, once = flops_of(layers, (4096, 4096), choose_kept(layers, 1024), 1024)
    assert once <= staged <= 1.1 * once


def test_grids_let_no_row_of_chunks_need_the_next(networks):
    for _, layers in networks.values():
        kept = choose_kept(layers, 64)
        grids = make_grids(layers, kept, 64)
        assert set(grids) >= set(targets(layers, kept))
        assert all(grid.offset >= 0 for grid in grids.values())
        assert grids[len(layers.steps) - 1].offset == 0
        assert not any(isinstance(layers.steps[i].op, Total) for i in grids)


@given(st.integers(1, 50), st.integers(0, 30), st.integers(1, 300))
def test_chunks_of_an_axis_cover_it_once(side, offset, length):
    grid = Grid(side, offset)
    spans = [grid.span(i, length) for i in range(grid.count(length))]
    assert [spans[0][0], spans[-1][1]] == [0, length]
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(grid.index(cell) == i for i, span in enumerate(spans) for cell in range(*span))
