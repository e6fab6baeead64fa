"""An image file as pixels: upright, square, 8 bits; odd depths, and white that is 0, as the file means them."""

import sys
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base

from rag_lib.base import UserError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others start programs: Ghostscript for EPS
DECODER = 2  # bumped with any change of the pixels that `decode` returns
TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reader mixes up planes of 16 bits


def decode(data: bytes, name: str, channels: int, size: int) -> np.ndarray:
    """One image file's bytes as uint8, `channels` x `size` x `size`; raises `UserError` naming `name`."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            if min(opened.size) < size // 2:
                raise UserError(
                    f"{name} is {opened.width} x {opened.height} pixels; images must have at least {size // 2} a side"
                )
            opened.load()
            try:
                orientation = opened.getexif().get(Base.Orientation)
            except Exception as e:
                print(f"{name}: its EXIF data are damaged ({e}); it is taken to be upright", file=sys.stderr)
                orientation = 1
            image = with_eight_bits(opened, name, data)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if channels == 1 else "RGB")
            image.info = {}
            image.getexif()[Base.Orientation] = orientation
            pixels = np.asarray(ImageOps.fit(ImageOps.exif_transpose(image), (size, size), Image.Resampling.LANCZOS))
    except UserError:
        raise
    except UnidentifiedImageError as e:
        raise UserError(f"{name} cannot be read as an image (its format is unknown); replace or remove it") from e
    except Exception as e:  # Pillow's readers raise errors of nearly every type for damaged files
        raise UserError(f"{name} cannot be read as an image ({e}); replace or remove it") from e
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def with_eight_bits(image: Image.Image, name: str, data: bytes) -> Image.Image:
    """Return the image in the file `data` with 8 bits a sample, its transparent colour likewise; raise `UserError`."""
    clear = image.info.get("transparency", -1)
    of_tiff = image.tag_v2 if image.format == "TIFF" else {}
    signed = of_tiff.get(Base.SampleFormat) == (2,) and of_tiff.get(Base.BitsPerSample) == (16,)
    if image.mode in ("F", "LAB") or signed:
        kind = "signed" if signed else {"F": "floating-point", "LAB": "LAB"}[image.mode]
        raise UserError(f"{name} has {kind} pixels; save it with 8 or 16 bits, grey or RGB")
    if image.format == "PNG" and image.mode in ("L", "RGB") and clear != -1:
        largest = 2 ** data[24] - 1  # by the header's bits a sample; Pillow scales the pixels, and not this colour
        if largest > 255:
            raise UserError(f"{name} has 16 bits a colour, one of them transparent; save it with 8 bits")
        image.info["transparency"] = clear * 255 // largest if image.mode == "L" else clear
    if not image.mode.startswith("I"):
        return image
    grey = np.asarray(image)  # 16 bits, which Pillow would clip at 255
    if of_tiff.get(Base.PhotometricInterpretation) == 0:  # white is 0, for Pillow black
        grey = 65535 - grey
    # all black is an image, too; 12 bits in 16 would be left with 16 levels
    if grey.any() and not (grey.min() >= 0 and 4096 <= grey.max() <= 65535):
        raise UserError(
            f"{name} has grey values from {grey.min()} to {grey.max()}; expected are 16 bits that use 0 to "
            "65535: scale them, or save it with 8 bits"
        )
    return Image.fromarray((np.where(grey == clear, 65535, grey) / 257).round().astype(np.uint8))
