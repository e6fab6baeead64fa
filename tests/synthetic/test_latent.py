"""Ways through the latent space, and the explorer that walks them."""

import base64
import io

import pytest
import torch
from PIL import Image

from rag_lib.figures import charts, galleries, interactive
from rag_lib.gan.networks import Generator
from rag_lib.study.conduct import run_gan
from rag_lib.study.resolve import resolve
from rag_lib.synthetic import latent
from rag_lib.synthetic.generate import generate, load_generator, sample


@pytest.fixture(scope="module", params=["conditional", "per_class", "pseudo", "conditional batch norm", "colour"])
def generator(request, digits, tmp_path_factory):
    overrides = {
        "conditional batch norm": {"gan.g_norm": "conditional"},
        "colour": {"data.channels": 3},
    }.get(request.param, {"gan.labels": request.param})
    # so that images differ by more than a pixel's rounding
    settings = resolve(preset="smoke", overrides={"gan.steps": 40, "gan.lr": 1e-2, "gan.ema": 0.0, **overrides})
    splits = (
        digits
        if request.param != "colour"
        else type(digits)(**{name: type(i)(i.x.repeat(1, 3, 1, 1), i.y, i.classes) for name, i in vars(digits).items()})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_RESULTS", str(tmp_path_factory.mktemp("latent")))
        return load_generator(run_gan(settings, splits).folder)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for a pixel's rounding, which differs with the size of a batch."""
    return (a.int() - b.int()).abs().max() <= 1


def test_the_arc_begins_and_ends_where_it_should_and_keeps_its_distance_from_0():
    a, b = torch.randn(2, 1, 100, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(latent.between(a, b, 0.0), a, atol=1e-5)
    assert torch.allclose(latent.between(a, b, 1.0), b, atol=1e-5)
    length = latent.between(a, b, 0.5).norm()
    assert min(a.norm(), b.norm()) * 0.95 < length < max(a.norm(), b.norm()) * 1.05
    assert (a + b).norm() / 2 < 0.8 * length  # where the straight line would lead
    assert torch.allclose(latent.between(a, a, 0.3), a)
    assert latent.between(a, -a, 0.5).isfinite().all()


def test_a_way_leads_from_one_sample_to_another(generator):
    last = len(latent.names(generator)) - 1
    start = latent.picture(generator, *latent.point(generator, 0, 3, last, 5, 0.0))
    end = latent.picture(generator, *latent.point(generator, 0, 3, last, 5, 1.0))
    if generator.labeller is None:
        assert close(start, sample(generator, [0], seed=3)[0])
        assert close(end, sample(generator, [last], seed=5)[0])
    else:
        assert close(start, generate(generator, 1, seed=3).x[0])
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


def test_each_control_of_the_explorer_changes_the_picture_or_says_why_not(generator):
    box = interactive.explorer(generator)
    image, panel = box.children
    controls = {control.description: control for control in panel.children[:-1]}
    controls["to class"].index = 0
    shown = [image.value]

    def change(name: str, value) -> bool:
        controls[name].value = value
        shown.append(image.value)
        return shown[-1] != shown[-2]

    assert Image.open(io.BytesIO(image.value)).size == (interactive.PIXELS, interactive.PIXELS)
    if len(latent.names(generator)) > 1:
        assert change("class", 1)
        assert not change("to class", 1)  # nothing is seen of where a way leads before it is begun
    assert change("seed", 7)
    assert change("on the way", 0.5)
    assert change("to seed", 8)
    assert change("attention", 1)
    assert change("attention", -1)
    assert controls["attention"].label == "none"  # regression: the list showed nothing
    if generator.labeller is None:
        assert "latent.picture(generator, *latent.point(generator, 1, 7, 1, 8, 0.50))" in panel.children[-1].value
        assert change("on the way", 0.0)
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
    assert picture.alt == "The attention map of each SPAM."
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).format == "PNG"
    assert how["metadata"]["image/png"]["alt"] == picture.alt
    assert (results / "figures" / "attention_over.png").exists()


def test_without_attention_there_is_nothing_to_lay_over_an_image(digits):
    settings = resolve(preset="smoke", overrides={"gan.attention": "none"})
    generator = load_generator(run_gan(settings, digits).folder)
    assert list(latent.attention_views(generator)) == ["image"]
    *_, attention, _ = interactive.explorer(generator).children[1].children
    assert [name for name, _ in attention.options] == ["none"]
