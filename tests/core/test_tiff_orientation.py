from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.core import read_tiff
from napari_matseg.core.read import read

GREY = np.random.default_rng(0).integers(0, 255, (61, 83), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 255, (61, 83, 3), dtype=np.uint8)
TURNED = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}
TEXT = b"[Scan]\nPixelWidth=2e-9\nPixelHeight=3e-9\n[Image]\nResolutionX=83\nResolutionY=50\n"


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 32), "compression": "deflate"}], ids=["plain", "tiles"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("orientation", TURNED)
def test_an_image_is_turned_as_it_is_meant_to_be_seen(tmp_path, monkeypatch, orientation, image, options, lazy):
    if lazy:
        monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    path = tmp_path / "image.tif"
    tag = (274, 3, 1, orientation, True)
    tifffile.imwrite(path, image, photometric="rgb" if image.ndim == 3 else "minisblack", extratags=[tag], **options)
    pixels = read(path).pixels
    seen = TURNED[orientation](image)
    assert pixels.shape == seen.shape
    np.testing.assert_array_equal(np.asarray(pixels), seen)
    np.testing.assert_array_equal(pixels[5:40, 7:8], seen[5:40, 7:8])
    if not options:  # of which Pillow turns only the shape
        return
    with Image.open(path) as other:
        other.load()
        np.testing.assert_array_equal(np.asarray(other), seen)


@pytest.mark.parametrize(
    ("orientation", "size", "bar"),
    [(1, (3, 2), (50, 61)), (2, (3, 2), (50, 61)), (4, (3, 2), (0, 11)), (3, (3, 2), (0, 11)), (6, (2, 3), None)],
)
def test_the_record_is_turned_with_the_image(tmp_path, orientation, size, bar):
    path = tmp_path / "image.tif"
    extratags = [(34682, 2, len(TEXT), TEXT, True), (274, 3, 1, orientation, True)]
    tifffile.imwrite(path, GREY, extratags=extratags, metadata=None)
    micrograph = read(path, find_bar=False)
    assert micrograph.pixel_size_nm == pytest.approx(size)
    assert micrograph.data_bar == bar


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_makes_no_sense_turns_nothing(tmp_path, value):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, GREY, extratags=[(274, 3, 1, value, True)])
    np.testing.assert_array_equal(read(path).pixels, GREY)


@pytest.mark.parametrize("orientation", TURNED)
def test_jpeg_and_png_are_turned_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    smooth = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)
    for name in ("image.jpg", "image.png"):
        Image.fromarray(smooth).save(tmp_path / name, exif=exif, quality=95)
        seen = TURNED[orientation](smooth)
        pixels = read(tmp_path / name).pixels
        assert pixels.shape == seen.shape
        assert np.abs(pixels.astype(int) - seen).max() < 8
