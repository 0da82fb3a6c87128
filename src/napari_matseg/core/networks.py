"""The networks themselves: an encoder, and what makes scores of its maps."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from torch import nn
from torch.nn import functional

from napari_matseg.core import mix_transformer
from napari_matseg.core.architectures import stride_of
from napari_matseg.core.mix_transformer import MixTransformer
from napari_matseg.core.vit_adapter import VitAdapter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class AnySize(nn.Module):
    """Mirrors an image to the next multiple of the stride, and cuts the scores to its size; goes before a network."""

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, out_channels, height, width)."""
        height, width = image.shape[-2:]
        stride = stride_of(self)
        for axis, length in ((-2, height), (-1, width)):
            if length % stride:
                image = image.index_select(axis, _mirrored(length, stride, image.device))
        scores: Tensor = super().forward(image)
        return scores[..., :height, :width]


def _mirrored(length: int, stride: int, device: torch.device) -> Tensor:
    """Give the indices of 0 to the next multiple of the stride, folded back about the last pixel."""
    period = max(1, 2 * (length - 1))
    folded = torch.arange(-(-length // stride) * stride, device=device) % period
    return folded.minimum(period - folded)


class Folded(AnySize, nn.Sequential):
    """Network between a fold of pixels into channels and its inverse (Shi et al. 2016, doi 10.1109/CVPR.2016.207)."""

    def __init__(self, network: nn.Module, fold: int) -> None:
        super().__init__(OrderedDict(fold=nn.PixelUnshuffle(fold), network=network, unfold=nn.PixelShuffle(fold)))


def size_independent(network: nn.Module) -> nn.Module:
    """Make every bilinear upsampling of a network's decoder and head that of pixels with an area.

    segmentation-models-pytorch has corner pixels on corner pixels, so that where a pixel is sampled would depend on
    the size of the tile.
    """
    parts: Any = network
    for part in (parts.decoder, parts.segmentation_head):
        for module in part.modules():
            if isinstance(module, nn.Upsample) and module.align_corners:
                module.align_corners = False
    return network


def make_upsampling(mode: str, channels: int, factor: int) -> nn.Module:
    """Make a layer that multiplies height and width by `factor`.

    Parameters
    ----------
    mode : "nearest", "bilinear" or "transposed"
        The last is a transposed convolution of each channel by itself that begins as bilinear interpolation, as in
        Long et al. 2015.
    channels, factor : int
        The factor is even.
    """
    if mode == "nearest":
        return nn.Upsample(scale_factor=factor, mode=mode)
    if mode == "bilinear":
        return nn.Upsample(scale_factor=factor, mode=mode, align_corners=False)
    layer = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False)
    ramp = (torch.arange(2 * factor) + 0.5) / factor
    ramp = torch.minimum(ramp, 2 - ramp)
    with torch.no_grad():
        layer.weight.copy_((ramp[:, None] * ramp).expand_as(layer.weight))
    return layer


class UNet(AnySize, smp.Unet):  # type: ignore[misc]
    """U-Net; Ronneberger et al. 2015, doi 10.1007/978-3-319-24574-4_28.

    Parameters
    ----------
    upsampling : "nearest", "bilinear" or "transposed"
        The last is a transposed convolution over 2 x 2 pixels, as in the paper.
    **options
        Of `segmentation_models_pytorch.Unet`.
    """

    def __init__(self, *, upsampling: str, **options: Any) -> None:
        transposed = upsampling == "transposed"
        super().__init__(decoder_interpolation="nearest" if transposed else upsampling, **options)
        if transposed:
            parts: Any = self
            blocks = parts.decoder.blocks
            before = (parts.encoder.out_channels[-1], *(block.conv2[0].out_channels for block in blocks[:-1]))
            parts.decoder.blocks = nn.ModuleList(map(_Transposed, blocks, before))


class _Transposed(nn.Module):
    """A block of U-Net's decoder after a transposed convolution, which leaves it nothing to interpolate."""

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.block = block

    def forward(self, maps: Tensor, *rest: Any, **named: Any) -> Tensor:
        """(batch, channels, h, w) and what else the block takes -> (batch, its channels, 2 h, 2 w)."""
        larger: Tensor = self.block(self.up(maps), *rest, **named)
        return larger


class DeepLabV3(AnySize, smp.DeepLabV3):  # type: ignore[misc]
    """DeepLabV3; Chen et al. 2017, arXiv 1706.05587."""


class DeepLabV3Plus(AnySize, smp.DeepLabV3Plus):  # type: ignore[misc]
    """DeepLabV3+; Chen et al. 2018, doi 10.1007/978-3-030-01234-2_49."""


class FPN(AnySize, smp.FPN):  # type: ignore[misc]
    """Feature pyramid; Lin et al. 2017, doi 10.1109/CVPR.2017.106, with the head of Kirillov et al. 2019.

    Parameters
    ----------
    upsampling : "nearest" or "bilinear"
    **options
        Of `segmentation_models_pytorch.FPN`.
    """

    def __init__(self, *, upsampling: str, **options: Any) -> None:
        super().__init__(decoder_interpolation=upsampling, **options)


class _Composed(AnySize, SegmentationModel):  # type: ignore[misc]
    """An encoder, a decoder and a head, with the names of segmentation-models-pytorch."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = encoder, decoder, head
        self.classification_head = None


class SegFormer(_Composed):
    """SegFormer; Xie et al. 2021, arXiv 2105.15203.

    Parameters
    ----------
    encoder_name : str
        mit_b0 to mit_b5.
    in_channels, classes : int
    decoder_channels : int, optional
        None: 256 for mit_b0 and mit_b1, 768 for the larger ones, as in the paper.
    """

    def __init__(
        self, *, encoder_name: str, in_channels: int, classes: int, decoder_channels: int | None = None
    ) -> None:
        if encoder_name not in mix_transformer.DEPTHS:
            raise ValueError(f"segformer takes the encoders {', '.join(mix_transformer.DEPTHS)}")
        channels = decoder_channels or (256 if encoder_name in ("mit_b0", "mit_b1") else 768)
        encoder = MixTransformer(encoder_name, in_channels)
        decoder = SegformerDecoder(encoder.out_channels, segmentation_channels=channels)
        super().__init__(encoder, decoder, SegmentationHead(channels, classes, kernel_size=1, upsampling=4))
        SegmentationModel.initialize(self)


class HRNetV2(_Composed):
    """HRNetV2; Sun et al. 2019, arXiv 1904.04514: the four maps side by side, fused by a 1 x 1 convolution.

    Parameters
    ----------
    encoder_name : str
        tu-hrnet_w18, tu-hrnet_w32, tu-hrnet_w48 or another HRNet of timm's.
    in_channels, classes : int
    upsampling : "bilinear", "nearest" or "transposed"
        How the coarser maps become as large as the finest.
    **encoder_options
        Of timm's network.
    """

    def __init__(
        self, *, encoder_name: str, in_channels: int, classes: int, upsampling: str, **encoder_options: Any
    ) -> None:
        if not encoder_name.startswith("tu-hrnet"):
            raise ValueError("hrnetv2 takes the encoders tu-hrnet_w18, tu-hrnet_w32, tu-hrnet_w48 and their like")
        # Without a location the maps are those of the last stage, before the layers of the classifier.
        encoder = smp.encoders.get_encoder(
            encoder_name, in_channels=in_channels, weights=None, feature_location="", **encoder_options
        )
        widths = encoder.out_channels[2:]
        decoder = _SideBySide(widths, upsampling)
        super().__init__(encoder, decoder, SegmentationHead(sum(widths), classes, kernel_size=1, upsampling=4))


class _SideBySide(nn.Module):
    """HRNetV2's representation: maps at 1/4 to 1/32 brought to 1/4, concatenated and mixed."""

    def __init__(self, widths: Sequence[int], upsampling: str) -> None:
        super().__init__()
        factors = (2, 4, 8)
        self.up = nn.ModuleList(
            make_upsampling(upsampling, width, factor) for width, factor in zip(widths[1:], factors, strict=True)
        )
        self.fuse = nn.Sequential(nn.Conv2d(sum(widths), sum(widths), 1), nn.BatchNorm2d(sum(widths)), nn.ReLU())

    def forward(self, maps: list[Tensor]) -> Tensor:
        """From the maps of an encoder, the image first, to (batch, sum of the widths, height / 4, width / 4)."""
        fine, *coarser = maps[2:]
        parts = [up(one) for up, one in zip(self.up, coarser, strict=True)]
        fused: Tensor = self.fuse(torch.cat([fine, *parts], dim=1))
        return fused


class FCN(_Composed):
    """FCN-8s; Long et al. 2015, doi 10.1109/CVPR.2015.7298965, on any encoder instead of VGG.

    Scores at 1/32 are doubled in size and added to those at 1/16, these to those at 1/8, and the sum magnified eight
    times. VGG's fully connected layers have no counterpart here.

    Parameters
    ----------
    encoder_name : str
        Any with maps at 1/8, 1/16 and 1/32, such as resnet18.
    in_channels, classes : int
    upsampling : "transposed", "bilinear" or "nearest"
    **encoder_options
        Of timm's network.
    """

    def __init__(
        self,
        *,
        encoder_name: str,
        in_channels: int,
        classes: int,
        upsampling: str,
        **encoder_options: Any,
    ) -> None:
        encoder = smp.encoders.get_encoder(encoder_name, in_channels=in_channels, weights=None, **encoder_options)
        decoder = _Scores(encoder.out_channels[-3:], classes, upsampling)
        super().__init__(encoder, decoder, make_upsampling(upsampling, classes, 8))


class _Scores(nn.Module):
    """FCN's scores of the last three maps, summed at 1/8."""

    def __init__(self, widths: Sequence[int], classes: int, upsampling: str) -> None:
        super().__init__()
        self.score = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)
        self.up = nn.ModuleList(make_upsampling(upsampling, classes, 2) for _ in range(2))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """From the maps of an encoder, the image first, to (batch, classes, height / 8, width / 8)."""
        eighth, sixteenth, coarsest = (score(one) for score, one in zip(self.score, maps[-3:], strict=True))
        first, second = self.up
        scores: Tensor = eighth + second(sixteenth + first(coarsest))
        return scores


class ViTAdapter(_Composed):
    """ViT-Adapter (see `core.vit_adapter`) with the head of a feature pyramid.

    The paper puts UPerNet on it, which pools over the whole image before its pyramid; the transformer has seen the
    whole image already, so that is left out.

    Parameters
    ----------
    encoder_name : str
        tu- and the name of a plain ViT of timm's, such as tu-vit_small_patch16_224.
    in_channels, classes : int
    decoder_channels : int
    upsampling : "bilinear", "nearest" or "transposed"
        Within the pyramid.
    **encoder_options
        Of `VitAdapter` and of timm's network.
    """

    def __init__(
        self,
        *,
        encoder_name: str,
        in_channels: int,
        classes: int,
        decoder_channels: int = 128,
        upsampling: str,
        **encoder_options: Any,
    ) -> None:
        if not encoder_name.startswith("tu-vit_"):
            raise ValueError("vit_adapter takes the plain ViTs of timm's, such as tu-vit_small_patch16_224")
        encoder = VitAdapter(encoder_name.removeprefix("tu-"), in_channels, **encoder_options)
        decoder = _Pyramid(encoder.out_channels, decoder_channels, upsampling)
        super().__init__(encoder, decoder, SegmentationHead(decoder_channels, classes, kernel_size=1, upsampling=4))


class _Pyramid(nn.Module):
    """From coarse to fine each map is added to the next; all are then brought to 1/4 and mixed."""

    def __init__(self, widths: Sequence[int], channels: int, upsampling: str) -> None:
        super().__init__()
        self.project = nn.ModuleList(_normalised(width, channels, 1) for width in widths)
        self.up = nn.ModuleList(make_upsampling(upsampling, channels, 2) for _ in widths[1:])
        self.smooth = nn.ModuleList(_normalised(channels, channels, 3) for _ in widths)
        self.fuse = _normalised(len(widths) * channels, channels, 3)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps at 1/4 to 1/32 -> (batch, channels, height / 4, width / 4)."""
        projected = [project(one) for project, one in zip(self.project, maps, strict=True)]
        for i in reversed(range(len(self.up))):
            projected[i] = projected[i] + self.up[i](projected[i + 1])
        smooth = [layer(one) for layer, one in zip(self.smooth, projected, strict=True)]
        size = smooth[0].shape[2:]
        large = [functional.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in smooth]
        fused: Tensor = self.fuse(torch.cat(large, dim=1))
        return fused


def _normalised(before: int, after: int, side: int) -> nn.Sequential:
    """Give a convolution with batch norm."""
    return nn.Sequential(
        nn.Conv2d(before, after, side, padding=side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


FROM_SMP: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "fpn": FPN,
}
COMPOSED: dict[str, type[nn.Module]] = {
    "hrnetv2": HRNetV2,
    "segformer": SegFormer,
    "fcn": FCN,
    "vit_adapter": ViTAdapter,
}
