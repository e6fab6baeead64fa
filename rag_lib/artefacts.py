"""Images that published figures need, kept as small PNG files with their labels inside."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from rag_lib.errors import UserError
from rag_lib.images import Images
from rag_lib.paths import ROOT, results_dir
from rag_lib.storage import room_for, write_whole

PUBLISHED = ROOT / "results" / "samples"  # by their study


def samples_dir() -> Path:
    return results_dir() / "samples"


def save_images(images: Images, name: str) -> Path:
    """Writes `results/samples/<name>.png`: the images in a row, lossless; returns its path."""
    n, channels, size, _ = images.x.shape
    strip = images.x.permute(2, 0, 3, 1).reshape(size, n * size, channels).numpy()
    info = PngInfo()
    info.add_text("rag_lib", json.dumps({"y": images.y.tolist(), "classes": images.classes}))
    path, png = samples_dir() / f"{name}.png", BytesIO()
    Image.fromarray(strip.squeeze(-1) if channels == 1 else strip).save(png, "PNG", pnginfo=info)
    with room_for(f"the images {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, png.getvalue())
    return path


def load_images(name: str) -> Images:
    """The images that `save_images` wrote, or published ones; raises `UserError` where there are none."""
    path = samples_dir() / f"{name}.png"
    if not path.exists():
        path = PUBLISHED / f"{name}.png"
    if not path.exists():
        raise UserError(f"{path} does not exist; notebook 02_gallery writes it")
    with Image.open(path) as picture:
        card = json.loads(picture.text["rag_lib"])
        strip = torch.from_numpy(np.array(picture)).unflatten(1, (len(card["y"]), -1))  # H x N x W (x C)
    strip = strip.unsqueeze(-1) if strip.ndim == 3 else strip
    x = strip.permute(1, 3, 0, 2).contiguous()
    return Images(x, torch.tensor(card["y"], dtype=torch.int64), tuple(card["classes"]))


def names(prefix: str) -> list[str]:
    """What stands behind `prefix-` in the names of the published images: their studies."""
    return sorted(path.stem.partition("-")[2] for path in PUBLISHED.glob(f"{prefix}-*.png"))
