"""The network that draws an object again: a small U-Net, which the prompts are put into as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLD = 2
"""Of its input, each 2 x 2 pixels are taken together, as channels; so are those of its output."""
INPUTS = 6
"""Maps that it takes; see `core.refine.crops.Maps`."""


class Refiner(nn.Module):
    """A U-Net with residual blocks.

    U-Net: Ronneberger et al. 2015, doi 10.1007/978-3-319-24574-4_28. Residual blocks: He et al. 2016, doi
    10.1109/CVPR.2016.90, whose shortcuts average where they shrink (He et al. 2019, doi 10.1109/CVPR.2019.00065).
    Prompts as maps beside the image: Sofiiuk et al. 2022, doi 10.1109/ICIP46576.2022.9897365. A first answer drawn
    again on a crop round it: Chen et al. 2022 (FocalClick), doi 10.1109/CVPR52688.2022.00136.

    Parameters
    ----------
    channels : sequence of int
        Of the encoder's stages, from 1/2 of the input's resolution; each halves that of the one before.
    blocks : sequence of int
        Residual blocks of each.
    decoder_channels : sequence of int
        Of the decoder's stages, the finest first; one block each.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 40, 72, 104),
        blocks: Sequence[int] = (1, 2, 2, 1),
        decoder_channels: Sequence[int] = (24, 32, 40),
    ) -> None:
        super().__init__()
        self.stride = FOLD * 2 ** (len(channels) - 1)
        self.stem = nn.Sequential(_convolution(INPUTS * FOLD**2, channels[0]), nn.ReLU())
        self.encoder = nn.ModuleList()
        for stage, width in enumerate(channels):
            first = _Block(channels[max(stage - 1, 0)], width, shrink=stage > 0)
            self.encoder.append(nn.Sequential(first, *(_Block(width, width) for _ in range(blocks[stage] - 1))))
        self.decoder = nn.ModuleList()
        below = channels[-1]
        for beside, width in reversed(list(zip(channels, decoder_channels, strict=False))):
            self.decoder.append(_Block(below + beside, width))
            below = width
        self.overview = nn.Sequential(nn.Linear(channels[-1], channels[-1]), nn.ReLU())
        self.iou = nn.Linear(channels[-1], 1)
        self.head = nn.Conv2d(below, FOLD**2, 3, padding=1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Draw objects.

        Parameters
        ----------
        maps : Tensor, shape (objects, 6, side, side)
            The side is a multiple of `stride`.

        Returns
        -------
        scores : Tensor, shape (objects, side, side), float32
            Logits.
        iou : Tensor, shape (objects,), float32
            What the IoU with the true object is thought to be.
        """
        x = self.stem(functional.pixel_unshuffle(maps, FOLD))
        beside = []
        for stage in self.encoder:
            x = stage(x)
            beside.append(x)
        beside.pop()
        overview = self.overview(x.mean(dim=(2, 3)))
        x = x + overview[:, :, None, None]
        for block in self.decoder:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, beside.pop()], dim=1))
        scores = functional.pixel_shuffle(self.head(x).float(), FOLD)[:, 0]
        return scores, self.iou(overview)[:, 0].float().sigmoid()


class _Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out_channels: int, *, shrink: bool = False) -> None:
        super().__init__()
        self.first = _convolution(channels, out_channels, stride=1 + shrink)
        self.second = _convolution(out_channels, out_channels)
        shortcut: list[nn.Module] = [nn.AvgPool2d(2)] if shrink else []
        if shrink or channels != out_channels:
            shortcut += [nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


def _convolution(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out_channels)
    )
