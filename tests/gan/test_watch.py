"""What is said of a training that goes wrong, and where it is shown."""

from dataclasses import replace
from math import nan
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
GOOD = {"loss_d": 1.2, "loss_g": 1.0, "d_real": 0.6, "d_fake": 0.4, "diversity": 0.9}
GOOD |= {"diversity_lowest": 0.7, "diversity_saved": 0.9}
D_WINS = {"d_real": 0.95, "d_fake": 0.1}


def history(rows: int = 100, **last: float) -> pd.DataFrame:
    """A good training whose last tenth has these values instead."""
    good = [{"step": i + 1, **GOOD} for i in range(rows)]
    return pd.DataFrame([row | last if i >= 0.9 * rows else row for i, row in enumerate(good)])


@pytest.mark.parametrize(
    ("seen", "config", "name", "advice"),
    [
        (history(), {}, None, ""),
        (history(FEWEST - 1, **D_WINS), {}, None, ""),  # all GANs begin badly
        (history(**D_WINS), {"loss": "hinge"}, None, ""),  # it makes no probabilities
        (history(**D_WINS), {}, "D wins", "try gan.d_norm=spectral or"),
        (history(**D_WINS), {"d_norm": "spectral"}, "D wins", "try gan.diff_augment=True or"),
        (history(**D_WINS), {"d_norm": "spectral", "diff_augment": True}, "D wins", "try a smaller gan.lr"),
        (history(loss_g=12.0), {}, "the losses run away", "smaller gan.lr"),
        (history(loss_d=-11.0), {}, "the losses run away", "smaller gan.lr"),
        (history(diversity=0.1), {}, "samples collapse", "gan.diff_augment=True"),
        (history(diversity=0.1, diversity_lowest=0.01), {}, "samples collapse", "gan.diff_augment=True"),
        (history(diversity_saved=0.1), {}, "what is saved collapses", "try more gan.steps or a smaller gan.ema"),
        (history(diversity_saved=0.1), {"ema": 0.0}, "what is saved collapses", "do; try more gan.steps"),
        # regression: 1 of 10 was not seen
        (history(diversity_lowest=0.05), {}, "a class collapses", "gan.diff_augment=True"),
        (history(diversity=nan, diversity_lowest=nan), {}, None, ""),  # no class came twice in a batch
    ],
)
def test_what_goes_wrong_is_named_with_what_to_try(seen, config, name, advice):
    found = findings(seen, replace(CONFIG, **config))
    assert list(found) == ([name] if name else [])
    assert advice in "".join(found.values())


REAL, Y = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4


@pytest.mark.parametrize(
    ("real", "fake", "y", "expected"),
    [
        (REAL, REAL, Y, (1, 1)),
        (REAL, REAL / 2, Y, (0.5, 0.5)),
        (REAL, REAL[Y], Y, (0, 0)),  # one image a class, whatever differs between classes
        (REAL, torch.where((Y == 2)[:, None, None, None], REAL[2], REAL), Y, (0.75, 0)),  # one class of four collapsed
        (REAL[:4], REAL[:4], Y[:4], (nan, nan)),  # no pair
        (REAL[Y], REAL, Y, (nan, nan)),  # regression: it was infinite
    ],
    ids=["as real ones", "half", "collapse", "one class collapses", "no pair", "real ones alike"],
)
def test_diversity_is_that_of_generated_over_that_of_real_images(real, fake, y, expected):
    assert [float(d) for d in diversity(real, fake, y)] == pytest.approx(expected, abs=0.02, nan_ok=True)


def test_a_warning_is_printed_once_a_training(capsys, tmp_path):
    watch, collapsed = Alarm(CONFIG), history(diversity=0.1).to_dict("records")
    watch(collapsed, tmp_path)
    watch(collapsed, tmp_path)
    printed = capsys.readouterr().err
    assert printed.startswith("GAN of seed 0, step 100: samples collapse: images of a class differ 0.10 times as much")
    assert printed.count("samples collapse") == 1
    watch(history(50).to_dict("records"), tmp_path)  # of the next class, with a generator of its own
    watch(collapsed, tmp_path)
    assert "samples collapse" in capsys.readouterr().err


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
    assert watch.handle is None  # of a run that is there already the notebook displays the figure
    run = train_gan(CONFIG, digits.train, watch=watch)
    assert len(pictures) == len(set(pictures)) == CONFIG.steps
    notebook.show(gan_curves(run.history()), "curves", "Both losses.", handle=watch.handle)
    assert len(pictures) == CONFIG.steps + 1
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_samples_of_later_than_the_history_are_not_shown(tmp_path, monkeypatch):
    """Regression: a run that went on from a checkpoint showed what a killed one had left, even half a file."""
    shown = []
    monkeypatch.setattr(interactive, "below", lambda figure, newest: shown.append(newest.name))
    monkeypatch.setattr(DisplayHandle, "display", lambda self, image: None)
    for step in (25, 50):
        (tmp_path / f"step-{step:06d}.png").write_bytes(b"half a file")
    interactive.LiveFigure(CONFIG)(history(30).to_dict("records"), tmp_path)
    assert shown == ["step-000025.png"]


def test_a_front_end_is_live_in_a_kernel_that_somebody_looks_at(monkeypatch):
    monkeypatch.delenv("RAG_PROGRESS")
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert not progress.live_front_end()
    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    for somebody in (True, False):  # regression: papermill's kernel inherits the variable from a notebook's
        kernel = SimpleNamespace(get_parent=lambda somebody=somebody: {"content": {"allow_stdin": somebody}})
        monkeypatch.setattr("IPython.get_ipython", lambda kernel=kernel: SimpleNamespace(kernel=kernel))
        assert progress.live_front_end() is somebody


def test_a_bar_ends_as_text_and_one_that_nobody_looks_at_prints_lines(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "inherited")
    monkeypatch.delenv("RAG_PROGRESS")
    manager, client = start_new_kernel()
    code = "from rag_lib.runtime.progress import progress\nwith progress(3, 'a < b') as counter: counter.update(3)"
    seen = {True: [], False: []}
    for somebody, messages in seen.items():
        client.execute_interactive(code, allow_stdin=somebody, output_hook=messages.append, timeout=60)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    bars = [m["content"]["data"] for m in seen[True] if m["msg_type"] in ("display_data", "update_display_data")]
    assert "a &lt; b: 3 of 3 steps" in bars[-2]["text/html"]
    assert bars[-1].keys() == {"text/plain"}  # regression: a saved notebook had "model not found" in its place
    assert "a < b: 3 of 3 steps" in bars[-1]["text/plain"]
    assert "a < b: 3 of 3 steps" in "".join(m["content"].get("text", "") for m in seen[False])
