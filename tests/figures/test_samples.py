"""Published samples come back as they went in."""

import pytest
import torch

from rag_lib.analysis.published import registry
from rag_lib.base import UserError
from rag_lib.data.images import Images
from rag_lib.figures.galleries import load_images, names, save_images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 7])
def test_images_come_back_byte_for_byte_with_labels_and_names(channels, n):
    x = torch.randint(0, 256, (n, channels, 28, 28), dtype=torch.uint8)
    images = Images(x, torch.arange(n), ("Größe", "007", *"abcde"))
    save_images(images, "real-mnist-quick")
    back = load_images("real-mnist-quick")
    assert torch.equal(back.x, images.x)
    assert torch.equal(back.y, images.y)
    assert back.classes == images.classes


def test_missing_images_are_named_with_what_makes_them():
    with pytest.raises(UserError, match="notebook 02_gallery writes it"):
        load_images("real-nothing")


def test_published_images_are_found_by_their_study_from_any_results_folder():
    assert names("real") == sorted(name for name in registry() if name in names("generated"))
    assert len(load_images("real-table_1")) == 100
