"""Pretrained weights of encoders that are known by name, and where to get them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_matseg.core.checkpoints import user_folder
from napari_matseg.core.download import download
from napari_matseg.core.progress import finish
from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_matseg.core.progress import Progress

Pretraining = Literal["imagenet", "micronet", "imagenet-micronet"]
PRETRAININGS: tuple[Pretraining, ...] = get_args(Pretraining)
PURPOSES: dict[Pretraining, str] = {
    "imagenet": "ImageNet: photographs of everyday things",
    "micronet": "MicroNet: 100,000 micrographs of materials in 54 classes",
    "imagenet-micronet": "ImageNet's photographs, then MicroNet's micrographs",
}
"""What the encoders learnt to tell apart."""

TORCHVISION = "https://download.pytorch.org/models"
# The first digits of each file's sha256 are in its name. Of several versions it is the first, which smp has, too.
IMAGENET = {
    "densenet121": ("densenet121-a639ec97.pth", 31),
    "densenet161": ("densenet161-8d451a50.pth", 110),
    "densenet169": ("densenet169-b2777c0a.pth", 55),
    "densenet201": ("densenet201-c1103571.pth", 77),
    "mobilenet_v2": ("mobilenet_v2-b0353104.pth", 14),
    "resnet101": ("resnet101-63fe2227.pth", 171),
    "resnet152": ("resnet152-394f9c45.pth", 230),
    "resnet18": ("resnet18-f37072fd.pth", 45),
    "resnet34": ("resnet34-b627a593.pth", 83),
    "resnet50": ("resnet50-0676ba61.pth", 98),
    "resnext101_32x8d": ("resnext101_32x8d-8ba56ff5.pth", 340),
    "resnext50_32x4d": ("resnext50_32x4d-7cdf4587.pth", 96),
    "vgg11": ("vgg11-8a719046.pth", 507),
    "vgg11_bn": ("vgg11_bn-6002323d.pth", 507),
    "vgg13": ("vgg13-19584684.pth", 508),
    "vgg13_bn": ("vgg13_bn-abd245e5.pth", 508),
    "vgg16": ("vgg16-397923af.pth", 528),
    "vgg16_bn": ("vgg16_bn-6c64b313.pth", 528),
    "vgg19": ("vgg19-dcbb9e9d.pth", 548),
    "vgg19_bn": ("vgg19_bn-c79401a0.pth", 548),
}
"""Torchvision's files, and their size in megabytes."""

# The project's own code makes its addresses like this. Its README lists the encoders; of those that it has with and
# without ImageNet, vgg11 and vgg13 are left out, which tell 1 or 2 % of MicroNet right.
NASA = "https://nasa-public-data.s3.amazonaws.com/microscopy_segmentation_models"
BOTH = (
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("dpn107", "dpn131", "dpn68", "dpn68b", "dpn92", "dpn98"),
    *("efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4", "efficientnet-b5"),
    *("inceptionresnetv2", "inceptionv4", "mobilenet_v2", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50"),
    *("resnext50_32x4d", "se_resnet101", "se_resnet152", "se_resnet50", "se_resnext101_32x4d", "se_resnext50_32x4d"),
    *("senet154", "vgg11_bn", "vgg13_bn", "vgg16_bn", "xception"),
)
MICRONET: dict[str, dict[str, str]] = {
    "micronet": {name: f"{name}_pretrained_microscopynet_v1.0.pth.tar" for name in BOTH}
    # Of these two the project's code makes another name; of the second the same one, whatever is asked for.
    | {"resnet50": "resnet50_pretrained_microscopynet_v1.1.pth.tar"}
    | {"resnext101_32x8d": "resnext101_pretrained_microscopynet_v1.0.pth.tar"},
    "imagenet-micronet": {
        name: f"{name}_pretrained_imagenet-microscopynet_v1.0.pth.tar"
        for name in (*BOTH, "efficientnet-b6", "efficientnet-b7")
    },
}
"""Files of NASA's pretrained-microscopy-models (Stuckner et al. 2022, doi 10.1038/s41524-022-00878-5)."""

MIT = "MIT, as the project nasa/pretrained-microscopy-models; it states none for the weights alone"
HUB = "https://huggingface.co"
HASHED = re.compile(r"-([0-9a-f]{8})\.pth$")
NVIDIA = "NVIDIA Source Code License for SegFormer: research and evaluation, not commercial use"

RGB = tuple[float, float, float]
IMAGENET_STATISTICS: tuple[RGB, RGB] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: tuple[RGB, RGB] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DPN: tuple[RGB, RGB] = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3


@dataclass(frozen=True)
class EncoderSource:
    """Weights of one encoder that can be fetched.

    Attributes
    ----------
    encoder : str
        As `ArchitectureSettings.encoder`.
    pretraining : str
        A key of `PURPOSES`.
    file : str
        What it is called in the user's folder.
    address : str
    sha256 : str or None
        The digits that its makers state in its name; None where they state none, so that what comes cannot be checked.
    megabytes : int or None
        Size of the file; None where it is not known beforehand.
    licence : str
    """

    encoder: str
    pretraining: Pretraining
    file: str
    address: str
    sha256: str | None
    megabytes: int | None
    licence: str

    @property
    def name(self) -> str:
        """As `--get` takes it."""
        return f"{self.pretraining}/{self.encoder}"

    @property
    def path(self) -> Path:
        """Where the file belongs."""
        return encoder_folder() / self.file

    @property
    def here(self) -> bool:
        """Whether it has been fetched."""
        return self.path.is_file()

    def how_to_get(self) -> str:
        """Say how it is had, with and without a connection."""
        size = "" if self.megabytes is None else f" ({self.megabytes} MB)"
        return (
            f"get it with napari-matseg encoders --get {self.name}{size}, "
            f"or save {self.address} as {self.file} in {encoder_folder()}"
        )

    def describe(self) -> str:
        """Describe the weights for a reader."""
        stated = "no sha256 of it is known here, so that what comes cannot be checked"
        if self.sha256:
            stated = f"sha256 begins with {self.sha256}, which is all that its makers state"
        lines = (
            f"Encoder {self.encoder}, pretrained on {PURPOSES[self.pretraining]}.",
            f"Licence: {self.licence}.",
            f"{self.address}{'' if self.megabytes is None else f', {self.megabytes} MB'}; {stated}.",
            f"It is here: {self.path}" if self.here else f"It is not here; {self.how_to_get()}.",
        )
        return "\n\n".join((f"# {self.name}", *lines)) + "\n"


def encoder_folder() -> Path:
    """Folder of weights of encoders, within that of the user's models."""
    return user_folder() / "encoders"


def find_source(encoder: str, pretraining: Pretraining) -> EncoderSource | None:
    """Where the weights of an encoder are had; None if nowhere that is known."""
    if pretraining in MICRONET:
        known = MICRONET[pretraining].get(encoder)
        return None if known is None else EncoderSource(encoder, pretraining, known, f"{NASA}/{known}", None, None, MIT)
    if encoder in IMAGENET:
        file, megabytes = IMAGENET[encoder]
        licence = "BSD-3-Clause, as torchvision, which adds that terms of the data (ImageNet) may apply"
        return EncoderSource(encoder, "imagenet", file, f"{TORCHVISION}/{file}", _stated(file), megabytes, licence)
    return _of_timm(encoder) if encoder.startswith("tu-") else _of_smp(encoder)


def _stated(address: str) -> str | None:
    found = HASHED.search(address)
    return found[1] if found else None


def _of_timm(encoder: str) -> EncoderSource | None:
    """Look up what timm would fetch: a file with digits of its checksum in its name, where there is one."""
    import timm

    known: Any = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
    if known is None:
        return None
    licence = known.license or f"as its authors say, see {HUB}/{known.hf_hub_id}"
    if isinstance(known.url, str) and (digits := _stated(known.url)):
        file = known.url.rpartition("/")[2]
        return EncoderSource(encoder, "imagenet", file, known.url, digits, None, licence)
    if not known.hf_hub_id:
        return None
    address = f"{HUB}/{known.hf_hub_id}/resolve/main/model.safetensors"
    file = f"{known.hf_hub_id.replace('/', '_')}.safetensors"
    return EncoderSource(encoder, "imagenet", file, address, None, None, licence)


def _of_smp(encoder: str) -> EncoderSource | None:
    """Look up what segmentation-models-pytorch would fetch, which is a file of one commit."""
    from segmentation_models_pytorch.encoders import encoders

    known = encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if known is None:
        return None
    page = f"{HUB}/{known['repo_id']}"
    address = f"{page}/resolve/{known['revision']}/model.safetensors"
    licence = NVIDIA if encoder.startswith("mit_") else f"as its authors say, see {page}"
    file = f"{known['repo_id'].replace('/', '_')}.safetensors"
    return EncoderSource(encoder, "imagenet", file, address, None, None, licence)


def sources_of(encoder: str) -> list[EncoderSource]:
    """All pretrained weights that are known of an encoder."""
    found = (find_source(encoder, pretraining) for pretraining in PRETRAININGS)
    return [source for source in found if source is not None]


def statistics_of(encoder: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation by which an encoder had its images normalised, of grey values from 0 to 1."""
    if encoder.startswith("tu-"):
        import timm

        known: Any = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        return IMAGENET_STATISTICS if known is None else (known.mean, known.std)
    if encoder.startswith(("inception", "xception")):
        return HALF
    return DPN if encoder.startswith("dpn") else IMAGENET_STATISTICS


def fetch_encoder(encoder: str, pretraining: Pretraining) -> Path:
    """Fetch pretrained weights of an encoder into the user's folder, unless they are there.

    Parameters
    ----------
    encoder : str
        As `ArchitectureSettings.encoder`.
    pretraining : "imagenet", "micronet" or "imagenet-micronet"

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ModelError
        If there are no such weights; if they cannot be had, or are not what their checksum says.
    OutputError
        If they cannot be written.
    """
    return finish(fetch_encoder_steps(encoder, pretraining))


def fetch_encoder_steps(encoder: str, pretraining: Pretraining) -> Generator[Progress, None, Path]:
    """Fetch as `fetch_encoder` does, as a generator that yields `Progress` in megabytes."""
    source = find_source(encoder, pretraining)
    if source is None:
        raise ModelError(no_such(encoder, pretraining))
    return (yield from download(source.address, source.path, source.sha256))


def no_such(encoder: str, pretraining: str) -> str:
    """Say that there are no such weights, and which there are."""
    others = " or ".join(source.pretraining for source in sources_of(encoder))
    remedy = f"take {others}, a file of your own, or none" if others else "take another encoder, a file, or none"
    return f"{pretraining}: no such weights are known of encoder {encoder}, nor is it a file; {remedy}."
