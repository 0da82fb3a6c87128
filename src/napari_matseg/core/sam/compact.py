"""An image encoder for segment-anything's decoder that is small enough to ship and quick enough for a laptop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from napari_matseg.core.architectures import build_network
from napari_matseg.core.prompt_image import HALF_RANGE, LUMINANCE
from napari_matseg.settings import ArchitectureSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

PIXEL_MEAN = (123.675, 116.28, 103.53)  # segment-anything's own, which its Sam subtracts
PIXEL_STD = (58.395, 57.12, 57.375)
SHRINK = 2
FOLD = 2
CELL = 8  # px of the body's input for one cell of the embedding
PART = 4  # px of the body's input for which an object's extent is guessed
FREQUENCIES = 16


class CompactEncoder(nn.Module):
    """A U-Net whose maps of several resolutions are gathered into segment-anything's embedding.

    Each cell of the embedding keeps what the U-Net found inside it, pixel by pixel, as channels: the mask decoder
    draws finer than the cells, and could not know from a coarse map where an edge runs.

    For each part of a cell the bounding box of the object that it lies in is guessed as well (Tian et al. 2019, FCOS,
    doi 10.1109/ICCV.2019.00972), and its corners are put into the embedding as the prompt encoder would put those of a
    box prompt: parts of one object look alike, those of its neighbour differ, and a prompt can be compared with both.

    Parameters
    ----------
    img_size : int
        Side of the frame, in pixels; a multiple of 128.
    encoder : str
        Of segmentation-models-pytorch.
    channels, decoder_channels : sequence of int
        Of the U-Net's stages.
    out_channels : int
        Channels of the embedding.
    """

    grey: Tensor
    frequencies: Tensor

    def __init__(
        self,
        img_size: int = 1024,
        encoder: str = "tu-resnet18d",
        channels: Sequence[int] = (64, 128, 256, 256),
        decoder_channels: Sequence[int] = (192, 96, 48, 24, 16),
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        options = {"channels": list(channels), "decoder_channels": list(decoder_channels)}
        unet: Any = build_network(
            ArchitectureSettings(name="unet", encoder=encoder, in_channels=FOLD**2, options=options), 1
        )
        self.encoder, self.decoder = unet.encoder, unet.decoder
        *_, at_4, at_2, at_1 = decoder_channels
        gathered = at_4 + 4 * at_2 + 16 * at_1 + 4 * 4 * FREQUENCIES
        self.extent = nn.Sequential(nn.Conv2d(at_2, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 4, 1))
        self.register_buffer("frequencies", torch.randn(2, FREQUENCIES))
        self.neck = nn.Sequential(
            nn.Conv2d(gathered, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )
        self.readout = nn.Sequential(
            nn.Conv2d(out_channels, out_channels // 2, 1), nn.GELU(), nn.Conv2d(out_channels // 2, 4 * 4, 1)
        )
        weights = torch.tensor(LUMINANCE)
        grey = weights * torch.tensor(PIXEL_STD)
        offset = float((weights * torch.tensor(PIXEL_MEAN)).sum()) / HALF_RANGE - 255 / 2 / HALF_RANGE
        self.register_buffer("grey", (grey / HALF_RANGE)[None, :, None, None], persistent=False)
        self.offset = offset

    def forward(self, image: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        image : Tensor, shape (batch, 3, img_size, img_size), float
            As `Sam.preprocess` gives them.

        Returns
        -------
        Tensor, shape (batch, out_channels, img_size / 16, img_size / 16)
        """
        grey = (image * self.grey).sum(dim=1, keepdim=True) + self.offset
        return self.embed_grey(functional.avg_pool2d(grey, SHRINK))[0]

    def embed_grey(self, grey: Tensor, place_yx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embed grey of half the frame's resolution, or of a part of the frame.

        Parameters
        ----------
        grey : Tensor, shape (batch, 1, height, width)
            -1.25 to 1.25 for black to white; height and width are multiples of 64.
        place_yx : Tensor, shape (batch, 2), optional
            Where in the frame each image's first pixel lies, in pixels.

        Returns
        -------
        embedding : Tensor, shape (batch, out_channels, height / 8, width / 8)
        extent : Tensor, shape (batch, 4, height / 4, width / 4)
            Natural logarithm of the distances to the top, left, bottom and right of the object's bounding box, in units
            of 8 px.
        """
        grey = grey.contiguous(memory_format=torch.channels_last)
        features = self.encoder(functional.pixel_unshuffle(grey, FOLD))
        *skips, deepest = features[1:]
        gathered = []
        extent = grey
        x = self.decoder.center(deepest)
        for block, target in zip(self.decoder.blocks, features[-2::-1], strict=True):
            skip = skips.pop() if skips else None
            x = block(x, *target.shape[2:], skip_connection=skip)
            shrink = x.shape[-1] * CELL // grey.shape[-1]
            if shrink >= 1:
                gathered.append(functional.pixel_unshuffle(x, shrink))
            if shrink * PART == CELL:
                extent = self.extent(x).float().clamp(-4, 4)
        corners = functional.pixel_unshuffle(self._corners(extent.detach(), place_yx), CELL // PART)
        embedding: Tensor = self.neck(torch.cat([*gathered, corners.to(gathered[0].dtype)], dim=1))
        return embedding, extent

    def guess_extent(self, embedding: Tensor) -> Tensor:
        """Guess again, from the embedding alone, what `embed_grey` gives as `extent`."""
        guess: Tensor = functional.pixel_shuffle(self.readout(embedding), CELL // PART).float().clamp(-4, 4)
        return guess

    def guess_boxes(self, embedding: Tensor, points_xy: Tensor) -> Tensor:
        """Guess the bounding boxes of the objects at some points.

        Parameters
        ----------
        embedding : Tensor, shape (1, out_channels, height, width)
        points_xy : Tensor, shape (objects, 2), float32
            In pixels of the frame, or of its part that was embedded.

        Returns
        -------
        Tensor, shape (objects, 4), float32
            Left, top, right and bottom, in the same pixels.
        """
        distance = self.guess_extent(embedding)[0].exp() * CELL * SHRINK
        step = PART * SHRINK
        x, y = ((points_xy[:, k] / step).long().clamp(0, distance.shape[2 - k] - 1) for k in (0, 1))
        top, left, bottom, right = distance[:, y, x]
        middle_x, middle_y = ((n + 0.5) * step - 0.5 for n in (x, y))
        return torch.stack([middle_x - left, middle_y - top, middle_x + right, middle_y + bottom], dim=-1)

    def _corners(self, extent: Tensor, place_yx: Tensor | None) -> Tensor:
        """Fourier features of both corners of the box, in float32.

        Shape (batch, 4 * FREQUENCIES, height / 4, width / 4).
        """
        rows, columns = (torch.arange(n, device=extent.device) * PART + (PART - 1) / 2 for n in extent.shape[2:])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        distance = extent.exp() * CELL
        corners = torch.stack([x - distance[:, 1], y - distance[:, 0], x + distance[:, 3], y + distance[:, 2]], dim=-1)
        if place_yx is not None:
            corners = corners + place_yx.flip(-1).repeat(1, 2)[:, None, None]
        frame = self.img_size / SHRINK
        x, y = (2 * corners / frame - 1).unflatten(-1, (2, 2))[..., None].unbind(-2)
        # No matrix product, which autocast would round to 8 bits.
        angles = (x * self.frequencies[0] + y * self.frequencies[1]) * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2).movedim(-1, 1)
