"""Image files that Pillow alone would refuse or read wrong: damaged side data, odd depths, white that is 0."""

import sys
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import Base

from rag_lib.base import UserError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others start programs: Ghostscript for EPS
TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reader mixes up planes of 16 bits


def opened_image(data: bytes, name: str) -> Image.Image:
    """Open the image in the file `data`; of a damaged PNG file without what its pixels do not need, which is said."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        image.load()
    except Exception:
        if not data.startswith(b"\x89PNG"):
            raise
        image = Image.open(BytesIO(needed_chunks(data)), formats=FORMATS)
        image.load()
        print(f"{name}: text, profile or EXIF data in it are damaged or too long, and left out", file=sys.stderr)
    return image


def needed_chunks(png: bytes) -> bytes:
    """Drop the chunks of a PNG file that its pixels do not need (those have no capital), but for whole EXIF data."""
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4])
        kind, whole = png[at + 4 : at + 8], zlib.crc32(png[at + 4 : end - 4]) == int.from_bytes(png[end - 4 : end])
        if kind[:1].isupper() or kind == b"tRNS" or (kind == b"eXIf" and whole):
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


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
