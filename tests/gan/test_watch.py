"""What is said of a training that goes wrong, and where it is shown."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from helpers import train_gan
from IPython.display import DisplayHandle
from jupyter_client.manager import start_new_kernel

from rag_lib import notebook
from rag_lib.figures import interactive
from rag_lib.figures.charts import gan_curves
from rag_lib.gan.watch import FEWEST, Alarm, diversity, findings
from rag_lib.runtime import progress
from rag_lib.study.resolve import resolve

CONFIG = resolve(preset="smoke").gan
GOOD = {"loss_d": 1.2, "loss_g": 1.0, "d_real": 0.6, "d_fake": 0.4, "diversity": 0.9, "diversity_lowest": 0.7}


def history(rows: int = 100, **last: float) -> pd.DataFrame:
    """A good training whose last tenth has these values instead."""
    good = [{"step": i + 1, **GOOD} for i in range(rows)]
    return pd.DataFrame([row | last if i >= 0.9 * rows else row for i, row in enumerate(good)])


@pytest.mark.parametrize(
    ("last", "name", "advice"),
    [
        ({}, None, ""),
        ({"d_real": 0.95, "d_fake": 0.1}, "D wins", "gan.d_norm=spectral"),
        ({"loss_g": 12.0}, "the losses run away", "smaller gan.lr"),
        ({"loss_d": -11.0}, "the losses run away", "smaller gan.lr"),
        ({"diversity": 0.1}, "samples collapse", "gan.diff_augment=True"),
        ({"diversity": 0.1, "diversity_lowest": 0.01}, "samples collapse", "gan.diff_augment=True"),
        ({"diversity_lowest": 0.05}, "a class collapses", "gan.diff_augment=True"),  # regression: 1 of 10 was not seen
        ({"diversity": float("nan"), "diversity_lowest": float("nan")}, None, ""),  # no class came twice in a batch
    ],
)
def test_what_goes_wrong_is_named_with_what_to_try(last, name, advice):
    found = findings(history(**last), CONFIG)
    assert list(found) == ([name] if name else [])
    assert advice in "".join(found.values())


def test_advice_has_the_form_of_the_place_where_it_is_read(monkeypatch):
    bad = history(d_real=0.95, d_fake=0.1)
    assert "try --set gan.d_norm=spectral" in findings(bad, CONFIG)["D wins"]
    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    assert 'overrides["gan.d_norm"] = "spectral"' in findings(bad, CONFIG)["D wins"]


def test_all_gans_begin_badly_and_the_hinge_loss_makes_no_probabilities():
    bad = {"d_real": 0.99, "d_fake": 0.01}
    assert not findings(history(FEWEST - 1, **bad), CONFIG)
    assert not findings(history(**bad), replace(CONFIG, loss="hinge"))
    advice = findings(history(**bad), replace(CONFIG, d_norm="spectral"))["D wins"]
    assert "gan.diff_augment=True" in advice  # not what it has already
    best = replace(CONFIG, d_norm="spectral", diff_augment=True)
    assert findings(history(**bad), best)["D wins"].endswith("try a smaller gan.lr")


def test_a_run_without_diversity_is_from_an_older_version():
    older = history().drop(columns=["diversity", "diversity_lowest"])
    assert not findings(older, CONFIG)
    assert gan_curves(older)


def test_diversity_is_that_of_the_generated_images_over_that_of_the_real_ones():
    torch.manual_seed(0)
    real, y = torch.rand(20, 1, 28, 28), torch.arange(20) % 4
    assert diversity(real, real, y) == (1, 1)
    assert diversity(real, real / 2, y) == (pytest.approx(0.5), pytest.approx(0.5))
    # one image a class: nothing differs within a class, whatever differs between them
    assert max(diversity(real, real[y], y)) < 1e-3
    assert all(value.isnan() for value in diversity(real[:4], real[:4], y[:4]))
    assert all(value.isnan() for value in diversity(real[y], real, y))  # regression: it was infinite


def test_the_collapse_of_one_class_is_the_lowest_diversity():
    torch.manual_seed(0)
    real, y = torch.rand(20, 1, 28, 28), torch.arange(20) % 4
    fake = torch.where((y == 2)[:, None, None, None], real[2], real)
    together, lowest = diversity(real, fake, y)
    assert together == pytest.approx(0.75, abs=0.02)
    assert lowest < 1e-3


def test_a_training_shows_every_row_of_its_history_to_who_watches(digits):
    seen = []
    run = train_gan(CONFIG, digits.train, watch=lambda history, samples: seen.append((len(history), samples.name)))
    assert seen == [(i + 1, "samples") for i in range(len(run.history()))]


def test_a_warning_is_printed_once_a_training(capsys, tmp_path):
    watch = Alarm(CONFIG)
    for _ in range(2):
        watch(history(diversity=0.1).to_dict("records"), tmp_path)
    printed = capsys.readouterr().err
    assert printed.count("samples collapse") == 1
    watch(history(50).to_dict("records"), tmp_path)  # of the next class, with a generator of its own
    watch(history(diversity=0.1).to_dict("records"), tmp_path)
    assert "samples collapse" in capsys.readouterr().err
    assert printed.startswith("step 100: samples collapse: images of a class differ 0.10 times as much")


def test_the_live_figure_moves_and_ends_as_the_one_of_the_whole_training(digits, monkeypatch):
    """Without a browser: what would reach it, and that a front end with widgets is what decides."""
    assert type(interactive.watcher(CONFIG)) is Alarm
    monkeypatch.setattr(interactive, "live_front_end", lambda: True)
    pictures = []
    for shown in ("display", "update"):
        monkeypatch.setattr(DisplayHandle, shown, lambda self, image: pictures.append(image.data))
    monkeypatch.setattr(interactive, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(interactive, "MAX_SHARE", 1e9)
    watch = interactive.watcher(CONFIG)
    run = train_gan(CONFIG, digits.train, watch=watch)
    assert len(pictures) == CONFIG.steps
    assert len(set(pictures)) == CONFIG.steps
    notebook.show(gan_curves(run.history()), "curves", "Both losses.", handle=watch.handle)
    assert len(pictures) == CONFIG.steps + 1
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_samples_of_later_than_the_history_are_not_shown(tmp_path, monkeypatch):
    """Regression: a run that went on from a checkpoint showed what a killed one had left, even half a file."""
    shown = []
    monkeypatch.setattr(interactive, "below", lambda figure, newest: shown.append(newest))
    monkeypatch.setattr(DisplayHandle, "display", lambda self, image: None)
    for step in (25, 50):
        (tmp_path / f"step-{step:06d}.png").write_bytes(b"half a file")
    interactive.LiveFigure(CONFIG)(history(30).to_dict("records"), tmp_path)
    assert [path.name for path in shown] == ["step-000025.png"]


def test_a_run_that_is_there_already_moves_nothing():
    assert interactive.LiveFigure(CONFIG).handle is None  # the notebook displays the figure


def test_a_front_end_is_live_in_a_kernel_that_somebody_looks_at(monkeypatch):
    monkeypatch.delenv("RAG_PROGRESS")
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert not progress.live_front_end()
    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    for somebody in (True, False):  # regression: papermill's kernel inherits the variable from a notebook's
        kernel = SimpleNamespace(get_parent=lambda somebody=somebody: {"content": {"allow_stdin": somebody}})
        monkeypatch.setattr("IPython.get_ipython", lambda kernel=kernel: SimpleNamespace(kernel=kernel))
        assert progress.live_front_end() is somebody


def test_a_bar_in_a_kernel_ends_as_text_and_one_that_nobody_looks_at_prints_lines(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "inherited")
    monkeypatch.delenv("RAG_PROGRESS")
    manager, client = start_new_kernel()
    code = "from rag_lib.runtime.progress import progress\nwith progress(3, 'a < b') as counter: counter.update(3)"
    seen = {}
    for somebody in (True, False):
        seen[somebody] = []
        client.execute_interactive(code, allow_stdin=somebody, output_hook=seen[somebody].append, timeout=60)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    bars = [m["content"]["data"] for m in seen[True] if m["msg_type"] in ("display_data", "update_display_data")]
    assert "a &lt; b: 3 of 3 steps" in bars[-2]["text/html"]
    assert bars[-1].keys() == {"text/plain"}  # regression: a saved notebook had "model not found" in its place
    assert "a < b: 3 of 3 steps" in bars[-1]["text/plain"]
    assert "a < b: 3 of 3 steps" in "".join(m["content"].get("text", "") for m in seen[False])
