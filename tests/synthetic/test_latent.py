"""Ways through the latent space, and the explorer that walks them."""

import base64
import io

import pytest
import torch
from PIL import Image

from rag_lib.base import UserError
from rag_lib.data.datasets import Splits
from rag_lib.data.images import Images
from rag_lib.figures import charts, galleries, interactive
from rag_lib.gan.networks import Generator
from rag_lib.study.conduct import run_gan
from rag_lib.study.resolve import resolve
from rag_lib.synthetic import latent
from rag_lib.synthetic.generate import generate, load_generator, sample

KINDS = {
    "conditional": {},
    "per_class": {"gan.labels": "per_class"},
    "pseudo": {"gan.labels": "pseudo"},
    "conditional batch norm": {"gan.g_norm": "conditional"},
    "colour": {"data.channels": 3},
}


@pytest.fixture(scope="module", params=KINDS)
def generator(request, digits, tmp_path_factory):
    # so that images differ by more than a pixel's rounding
    settings = resolve(
        preset="smoke", overrides={"gan.steps": 40, "gan.lr": 1e-2, "gan.ema": 0.0} | KINDS[request.param]
    )
    channels = settings.data.channels
    coloured = {name: Images(i.x.repeat(1, channels, 1, 1), i.y, i.classes) for name, i in vars(digits).items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_RESULTS", str(tmp_path_factory.mktemp("latent")))
        patch.setenv("RAG_DEVICE", "cpu")
        return load_generator(run_gan(settings, Splits(**coloured)).folder)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for a pixel's rounding, which differs with the size of a batch."""
    return (a.int() - b.int()).abs().max() <= 1


def test_the_arc_leads_from_end_to_end_and_keeps_its_distance_from_0():
    a, b = torch.randn(2, 1, 100, generator=torch.Generator().manual_seed(0))
    for t, expected in ((0.0, a), (1.0, b)):
        torch.testing.assert_close(latent.between(a, b, t), expected, rtol=0, atol=1e-5)
    length = latent.between(a, b, 0.5).norm()
    assert min(a.norm(), b.norm()) * 0.95 < length < max(a.norm(), b.norm()) * 1.05
    assert (a + b).norm() / 2 < 0.8 * length  # where the straight line would lead
    torch.testing.assert_close(latent.between(a, a, 0.3), a)
    assert latent.between(a, -a, 0.5).isfinite().all()


def test_a_way_leads_from_one_sample_to_another(generator):
    last = len(latent.names(generator)) - 1
    start, end = (latent.picture(generator, *latent.point(generator, 0, 3, last, 5, t)) for t in (0.0, 1.0))
    if generator.labeller is None:
        assert close(start, sample(generator, [0], seed=3)[0])
        assert close(end, sample(generator, [last], seed=5)[0])
    else:
        assert close(start, generate(generator, 1, seed=3).x[0])
        with pytest.raises(UserError, match=r"use generate\(\), which labels it"):
            sample(generator, [0])
    assert not close(start, end)


def test_ways_and_views_can_be_drawn(generator):
    ways = latent.ways(generator, columns=5)
    assert list(ways["within"]) == list(latent.names(generator))
    assert bool(ways["between"]) == (generator.labeller is None and isinstance(generator, Generator))
    views = latent.attention_views(generator)
    assert list(views) == ["image", "S of SPAM 1", "S of SPAM 2", "S of SPAM 3"]
    assert {x.shape[1:] for x in views.values()} == {(3, 28, 28)}
    for pictures in (ways["within"], ways["between"], views):
        if pictures:
            charts.plt.close(galleries.picture_rows(pictures))


def test_each_control_of_the_explorer_changes_the_picture(generator):
    image, panel = interactive.explorer(generator).children
    controls = {control.description: control for control in panel.children[:-1]}
    controls["to class"].index = 0

    def changes(name: str, value) -> bool:
        before = image.value
        controls[name].value = value
        return image.value != before

    assert Image.open(io.BytesIO(image.value)).size == (interactive.PIXELS, interactive.PIXELS)
    if len(latent.names(generator)) > 1:
        assert changes("class", 1)
        assert not changes("to class", 1)  # nothing is seen of where a way leads before it is begun
    for name, value in (("seed", 7), ("on the way", 0.5), ("to seed", 8), ("attention", 1), ("attention", -1)):
        assert changes(name, value)
    assert controls["attention"].label == "none"  # regression: the list showed nothing
    if generator.labeller is None:
        assert "latent.picture(generator, *latent.point(generator, 1, 7, 1, 8, 0.50))" in panel.children[-1].value
        assert changes("on the way", 0.0)
        assert "synthetic.sample(generator, [1], seed=7)" in panel.children[-1].value


def test_a_picture_stands_in_for_the_explorer(generator, monkeypatch, results):
    shown = []
    monkeypatch.setattr(interactive, "display", lambda bundle, **how: shown.append((bundle, how)))
    for live in (False, True):
        monkeypatch.setattr(interactive, "live_front_end", lambda live=live: live)
        figure = galleries.picture_rows(latent.attention_views(generator))
        interactive.show(generator, figure, "attention_over", "The attention map of each SPAM.")
        assert figure.number not in charts.plt.get_fignums()
    (picture, _), (bundle, how) = shown
    assert picture.alt == how["metadata"]["image/png"]["alt"] == "The attention map of each SPAM."
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).format == "PNG"
    assert (results / "figures" / "attention_over.png").exists()
