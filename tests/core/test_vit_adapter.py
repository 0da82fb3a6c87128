from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_matseg.core.vit_adapter import (
    DeformableAttention,
    Extractor,
    Injector,
    SpatialPrior,
    VitAdapter,
    centres,
)

SHAPES = [(8, 4), (4, 2), (2, 1)]  # of an image of 64 x 32 px
CELLS = 32 + 8 + 2
GRID = (4, 2)
NAME = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"depth": 4, "embed_dim": 24, "num_heads": 2, "prior_channels": 8}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def shake(module: torch.nn.Module) -> None:
    """Move every weight, so that none is at the 0 that it begins with."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn_like(weight))


class TestSpatialPrior:
    def test_shapes(self) -> None:
        maps = SpatialPrior(2, 8, 24)(torch.randn(3, 2, 64, 32))
        assert [tuple(one.shape) for one in maps] == [(3, 24, 64 // s, 32 // s) for s in (4, 8, 16, 32)]

    def test_gradients(self) -> None:
        prior = SpatialPrior(1, 8, 24)
        image = torch.randn(2, 1, 64, 64, requires_grad=True)
        sum(one.square().sum() for one in prior(image)).backward()
        assert all(weight.grad.abs().sum() > 0 for name, weight in prior.named_parameters() if "0.bias" not in name)
        assert image.grad.abs().sum() > 0


class TestDeformableAttention:
    def test_it_is_the_sum_over_places_of_interpolated_values(self) -> None:
        attention = DeformableAttention(6, 2, 3, 2).double()
        shake(attention)
        queries, values = torch.randn(1, 3, 6).double(), torch.randn(1, CELLS, 6).double()
        places = torch.rand(3, 2)
        with torch.no_grad():
            found = attention(queries, places, values, SHAPES)
            expected = by_hand(attention, queries[0], places, values[0], SHAPES)
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)

    def test_without_offsets_each_cell_sees_itself(self) -> None:
        attention = DeformableAttention(4, 2, 1, 3)
        torch.nn.init.zeros_(attention.offsets.bias)
        values = torch.randn(2, 32, 4)
        with torch.no_grad():
            found = attention(torch.randn(2, 32, 4), centres([(8, 4)], values), values, [(8, 4)])
            expected = attention.out(attention.value(values))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    def test_heads_begin_by_looking_in_different_directions(self) -> None:
        offsets = DeformableAttention(8, 4, 1, 2).offsets.bias.view(4, 2, 2)
        expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        torch.testing.assert_close(offsets[:, 0], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(offsets[:, 1], 2 * expected, atol=1e-6, rtol=0)

    def test_gradients_are_those_of_finite_differences(self) -> None:
        attention = DeformableAttention(4, 2, 2, 2)
        shake(attention)
        places = torch.rand(3, 2)
        shapes = [(3, 2), (2, 2)]

        def loss(queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            return attention(queries, places, values, shapes).square().sum()

        given = [torch.randn(1, 3, 4, requires_grad=True), torch.randn(1, 10, 4, requires_grad=True)]
        loss(*given).backward()
        for i, one in enumerate(given):
            step = 1e-3 * torch.randn_like(one)
            with torch.no_grad():
                more, less = (loss(*given[:i], one + sign * step, *given[i + 1 :]) for sign in (1, -1))
            assert ((more - less) / 2).item() == pytest.approx((one.grad * step).sum().item(), rel=0.03)

    def test_every_weight_has_a_gradient(self) -> None:
        attention = DeformableAttention(6, 2, 3, 2)
        shake(attention)
        attention(torch.randn(2, 3, 6), torch.rand(3, 2), torch.randn(2, CELLS, 6), SHAPES).square().sum().backward()
        assert all(weight.grad.abs().sum() > 0 for weight in attention.parameters())


def by_hand(
    attention: DeformableAttention,
    queries: torch.Tensor,
    places: torch.Tensor,
    values: torch.Tensor,
    shapes: list[tuple[int, int]],
) -> torch.Tensor:
    """The same, one place at a time."""
    heads, levels, points = attention.heads, attention.levels, attention.points
    values = attention.value(values).view(len(values), heads, -1)
    found = torch.zeros(len(queries), heads, values.shape[2]).double()
    for n, query in enumerate(queries):
        offsets = attention.offsets(query).view(heads, levels, points, 2)
        weights = attention.weights(query).view(heads, -1).softmax(-1).view(heads, levels, points)
        for head in range(heads):
            start = 0
            for level, (height, width) in enumerate(shapes):
                for point in range(points):
                    x = places[n, 0].item() * width + offsets[head, level, point, 0].item() - 0.5
                    y = places[n, 1].item() * height + offsets[head, level, point, 1].item() - 0.5
                    for row in range(height):
                        for column in range(width):
                            near = max(0, 1 - abs(row - y)) * max(0, 1 - abs(column - x))
                            cell = values[start + row * width + column, head]
                            found[n, head] += weights[head, level, point] * near * cell
                start += height * width
    return attention.out(found.flatten(1))


def test_centres() -> None:
    found = centres([(1, 2), (2, 1)], torch.zeros(1))
    expected = torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])
    torch.testing.assert_close(found, expected)


class TestInjectorAndExtractor:
    def test_an_injector_begins_by_changing_nothing(self) -> None:
        tokens, cells = torch.randn(2, 8, 12), torch.randn(2, CELLS, 12)
        injector = Injector(12, 2, 4)
        places = centres([GRID], tokens)
        assert torch.equal(injector(tokens, cells, places, SHAPES), tokens)
        torch.nn.init.ones_(injector.gamma)
        changed = injector(tokens, cells, places, SHAPES)
        assert changed.shape == tokens.shape
        assert not torch.allclose(changed, tokens)

    def test_a_gradient_moves_it_from_there(self) -> None:
        injector = Injector(12, 2, 4)
        tokens, cells = torch.randn(2, 8, 12), torch.randn(2, CELLS, 12)
        injector(tokens, cells, centres([GRID], tokens), SHAPES).square().sum().backward()
        assert injector.gamma.grad.abs().min() > 0

    def test_extractor(self) -> None:
        tokens, cells = torch.randn(2, 8, 12, requires_grad=True), torch.randn(2, CELLS, 12, requires_grad=True)
        extractor = Extractor(12, 2, 4)
        shake(extractor)
        changed = extractor(cells, tokens, centres(SHAPES, tokens), SHAPES, GRID)
        assert changed.shape == cells.shape
        changed.square().sum().backward()
        assert all(weight.grad.abs().sum() > 0 for weight in extractor.parameters())
        assert tokens.grad.abs().sum() > 0
        assert cells.grad.abs().sum() > 0


class TestVitAdapter:
    @pytest.mark.parametrize("shape", [(32, 32), (64, 96)])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            (NAME, {}),
            ("vit_small_patch32_224", {}),
            ("vit_small_patch8_224", {"interactions": 3}),
            (NAME, {"class_token": False, "reg_tokens": 0, "interactions": 1}),
            (NAME, {"reg_tokens": 3, "in_channels": 3}),
        ],
    )
    def test_maps_of_a_pyramid(self, name: str, options: dict[str, Any], shape: tuple[int, int]) -> None:
        options = {"in_channels": 1} | options
        adapter = VitAdapter(name, **options, **SMALL).eval()
        maps = adapter(torch.randn(2, options["in_channels"], *shape))
        assert [tuple(one.shape) for one in maps] == [(2, 24, shape[0] // s, shape[1] // s) for s in (4, 8, 16, 32)]
        assert adapter.out_channels == [24] * 4

    def test_blocks_are_divided_evenly_and_each_is_run_once(self) -> None:
        adapter = VitAdapter(NAME, 1, **SMALL | {"depth": 7}).eval()
        assert adapter.groups == [(0, 2), (2, 4), (4, 5), (5, 7)]
        runs: list[int] = []
        for i, block in enumerate(adapter.vit.blocks):
            block.register_forward_hook(lambda *_, i=i: runs.append(i))
        adapter(torch.zeros(1, 1, 32, 32))
        assert runs == list(range(7))

    def test_every_weight_has_a_gradient_once_injectors_count(self) -> None:
        adapter = VitAdapter(NAME, 1, **SMALL)
        shake(adapter)
        sum(one.square().sum() for one in adapter(torch.randn(2, 1, 64, 64))).backward()
        without = [name for name, weight in adapter.named_parameters() if weight.grad is None]
        assert not without

    def test_fine_detail_reaches_the_tokens_and_the_image_far_away_the_cells(self) -> None:
        adapter = VitAdapter(NAME, 1, **SMALL).eval()
        shake(adapter)
        image = torch.randn(1, 1, 96, 96)
        changed = image.clone()
        changed[..., :8, :8] += 1
        with torch.no_grad():
            before, after = adapter(image), adapter(changed)
        assert all((a != b).any(dim=1)[0, -1, -1] for a, b in zip(before, after, strict=True))

    def test_position_embedding_is_that_of_timm_at_its_own_size(self) -> None:
        options = SMALL | {"img_size": 64}
        adapter = VitAdapter(NAME, 1, **options).eval()
        tokens = adapter.vit._pos_embed(torch.zeros(1, 4, 4, 24))
        torch.testing.assert_close(tokens[:, 1:], adapter.vit.pos_embed[:, 1:])

    @pytest.mark.parametrize(
        ("name", "options", "said"),
        [
            ("resnet10t", {}, None),
            ("vit_tiny_patch16_224", {"interactions": 5}, "4 blocks cannot be divided into 5 groups"),
            ("vit_tiny_patch16_224", {"interactions": 0}, "4 blocks cannot be divided into 0 groups"),
            ("vit_small_patch14_dinov2", {}, "patches of 14 px do not divide 32 px"),
        ],
    )
    def test_what_does_not_fit(self, name: str, options: dict[str, Any], said: str | None) -> None:
        with pytest.raises(ValueError if said else TypeError, match=said):
            VitAdapter(name, 1, **SMALL, **options)
