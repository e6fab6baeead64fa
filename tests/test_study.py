"""Arms, the table, and what each part is allowed to see."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rag_lib import paper, plots, report, study
from rag_lib.arms import arm, parse_arm
from rag_lib.config import REAL_ARMS, ClassifierConfig
from rag_lib.data import load
from rag_lib.images import Images
from rag_lib.presets import resolve
from rag_lib.runs import Run

SETTINGS = resolve(preset="smoke", arms=["generated", "original", "mixed"])


def group(spec: str, real: Images, synthetic: Images, seed: int = 0) -> Images:
    name, share = parse_arm(spec)
    gan = None if name in REAL_ARMS else SETTINGS.gan
    return arm(ClassifierConfig(arm=name, share=share, gan=gan, seed=seed), real, synthetic)


def classify(settings, splits):
    """One replicate of these settings on these images, which need not be those that the settings name."""
    gan = study.run_gan(settings, splits)
    quality = study.run_quality(settings, splits, gan)
    return study.run_classifiers(settings, splits, gan)[0], quality


def constant(value: int, n: int = 20, size: int = 28) -> Images:
    return Images(torch.full((n, 1, size, size), value, dtype=torch.uint8), torch.arange(n) % 10, tuple("0123456789"))


@pytest.mark.parametrize(("name", "real", "synthetic"), [("original", 20, 0), ("generated", 0, 20), ("mixed", 10, 10)])
def test_the_three_groups_are_equally_large_and_composed_as_the_paper_says(name, real, synthetic):
    images = group(name, constant(1), constant(2))
    assert (images.x[:, 0, 0, 0] == 1).sum() == real
    assert (images.x[:, 0, 0, 0] == 2).sum() == synthetic


def test_the_mixed_groups_halves_have_every_class():
    images = group("mixed", constant(1), constant(2))
    for value in (1, 2):
        assert images.y[images.x[:, 0, 0, 0] == value].sort().values.tolist() == list(range(10))


def test_generated_crops_are_continued_to_the_stored_size():
    images = group("mixed", constant(1, size=32), constant(2, size=28))
    assert images.x.shape == (20, 1, 32, 32)


def test_the_table_has_a_row_a_run_and_a_second_study_reuses_all_of_them(digits, results):
    table, quality = classify(SETTINGS, digits)
    assert list(table["arm"]) == ["generated", "original", "mixed"]
    assert table["test_accuracy"].between(0, 100).all()
    files = {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    again, quality_again = classify(SETTINGS, digits)
    assert quality_again.metrics == quality.metrics
    pd.testing.assert_frame_equal(table, again)
    assert files == {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    saved = pd.read_csv(results / "tables" / "classify.csv").set_index("run_id").loc[table["run_id"]]
    assert saved["test_accuracy"].tolist() == table["test_accuracy"].tolist()
    fidelity = pd.read_csv(results / "tables" / "quality.csv")
    assert fidelity["gan_test_accuracy"].tolist() == [round(100 * quality.metrics["gan_test_accuracy"], 4)]
    assert {"data.rotation", "classifier.lr", "classifier.precision", "gan.attention", "gan.steps"} <= set(saved)


def test_own_test_accuracy_weighs_real_and_generated_images_by_the_groups_composition(digits):
    gan = study.run_gan(SETTINGS, digits)
    table, runs = study.run_classifiers(SETTINGS, digits, gan)
    for row, run in zip(table.itertuples(), runs, strict=True):
        real, generated = 100 * run.metrics["test_accuracy"], 100 * run.metrics.get("generated_accuracy", 0)
        expected = {"original": real, "mixed": (real + generated) / 2, "generated": generated}[row.arm]
        assert row.own_test_accuracy == pytest.approx(expected, abs=1e-3)


def test_nothing_but_the_train_split_reaches_the_gan_and_the_classifiers_weights(digits, results, monkeypatch):
    """Val and test images are replaced by noise: every weight stays the same. Noise in train changes them."""

    def noise(images: Images) -> Images:
        return replace(images, x=torch.randint(0, 256, images.x.shape, dtype=torch.uint8))

    def weights(splits, name: str) -> dict[str, bytes]:
        monkeypatch.setenv("RAG_RESULTS", str(results / name))
        classify(SETTINGS, splits)
        return {p.parent.name: p.read_bytes() for p in (results / name / "runs").rglob("*.safetensors")}

    true = weights(digits, "true")
    assert len(true) == 4
    assert weights(replace(digits, val=noise(digits.val), test=noise(digits.test)), "blind") == true
    changed = weights(replace(digits, train=noise(digits.train)), "changed")
    assert all(changed[name] != true[name] for name in true)


def test_the_original_group_does_not_depend_on_the_generator(digits):
    tables = []
    for seed in (0, 1):
        settings = replace(resolve(preset="smoke", seed=seed), arms=SETTINGS.arms)
        tables.append(study.run_classifiers(settings, digits, study.run_gan(settings, digits))[0].set_index("arm"))
    assert tables[0].run_id["original"] == tables[1].run_id["original"]
    assert tables[0].run_id["mixed"] != tables[1].run_id["mixed"]


def test_the_gan_is_judged_on_labels_it_was_asked_for(digits):
    gan = study.run_gan(SETTINGS, digits)
    run = study.run_quality(SETTINGS, digits, gan)
    counts = run.confusion()
    assert counts.to_numpy().sum() == 10_000
    assert counts.sum(axis=1).tolist() == [1_000] * 10
    assert run.metrics["gan_test_accuracy"] == pytest.approx(counts.to_numpy().trace() / 10_000)
    assert f"{100 * run.metrics['gan_test_accuracy']:.2f}%" in report.gallery_conclusion(run)


def test_summary_and_conclusion_say_what_the_table_says():
    table = pd.DataFrame(
        {
            "classifier": ["cnn"] * 6,
            "arm": ["generated", "original", "mixed"] * 2,
            "test_accuracy": [90.0, 98.0, 97.0, 92.0, 99.0, 97.5],
        }
    )
    assert report.summary(table).loc["cnn"].to_dict() == {"generated": 91.0, "original": 98.5, "mixed": 97.25}
    text = report.conclusion(table)
    assert "98.50% from the original images, 97.25% (-1.25 points)" in text
    assert "91.00% (-7.50) from generated images alone" in text


def test_ours_stand_beside_the_papers_numbers():
    ours = pd.DataFrame({"generated": [1.0, 2.0], "original": [3.0, 4.0], "mixed": [5.0, 6.0]}, index=["cnn", "timm:x"])
    both = paper.beside_paper(ours)
    assert both.loc["cnn", "mixed"].to_dict() == {"ours": 5.0, "paper": 98.36}
    assert both.loc["timm:x", "mixed"].isna().to_dict() == {"ours": False, "paper": True}


def test_the_mixed_group_is_half_and_half_where_classes_are_rare_too():
    """Regression: every rare class once enlarged the real half."""
    y = torch.cat([torch.zeros(28, dtype=torch.int64), torch.arange(1, 30)])
    real = Images(torch.ones(len(y), 1, 28, 28, dtype=torch.uint8), y, tuple(map(str, range(30))))
    synthetic = Images(torch.zeros(len(y), 1, 28, 28, dtype=torch.uint8), torch.arange(len(y)) % 30, real.classes)
    images = group("mixed", real, synthetic)
    assert (images.x[:, 0, 0, 0] == 1).sum() == len(y) // 2
    assert len(images) == len(y)


def test_the_real_half_depends_on_the_seed():
    real = replace(constant(1, n=40), x=torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 28, 28))
    halves = [group("mixed", real, constant(200, n=40), seed).x[:20, 0, 0, 0].tolist() for seed in (0, 0, 1)]
    assert halves[0] == halves[1] != halves[2]


@pytest.fixture
def own_images(tmp_path):
    """Three classes of unequal size, with names that a table could take for numbers and gaps."""
    rng = np.random.default_rng(0)
    for name, n in (("007", 30), ("NA", 12), ("Größe", 5)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.png")
    return tmp_path / "own"


def test_own_images_go_through_the_whole_study(own_images, results):
    settings = study.settings_for(f"folder:{own_images}", "smoke")
    splits = load(settings.data)
    assert [len(images) for images in vars(splits).values()] == [33, 5, 9]
    table, quality = classify(settings, splits)
    assert list(table["dataset"].unique()) == ["folder:own"]
    assert str(own_images) not in (results / "tables" / "classify.csv").read_text()
    assert list(quality.confusion().index) == list(quality.confusion().columns) == ["007", "Größe", "NA"]
    assert "007" in report.gallery_conclusion(quality) or "NA" in report.gallery_conclusion(quality)
    plots.use_style()
    plots.save(plots.confusion(quality.confusion(), "own"), f"gan_test-{settings.name}")
    assert (results / "figures" / "gan_test-folder_own-smoke.png").exists()


def test_a_moved_copy_of_own_images_reuses_the_runs(own_images, tmp_path):
    moved = tmp_path / "elsewhere" / "own"
    shutil.copytree(own_images, moved)
    ids = []
    for path in (own_images, moved):
        settings = study.settings_for(f"folder:{path}", "smoke")
        ids.append(study.run_gan(settings, load(settings.data)).id)
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        (0.55, 0.48, "Both are near 0.5"),
        (0.97, 0.02, "D has won"),
        (0.1, 0.9, "At the balance"),
        (0.66, 0.39, "At the"),
    ],
)
def test_the_gans_conclusion_follows_from_its_history(real, fake, words, tmp_path):
    steps = range(1, 101)
    history = pd.DataFrame({"step": steps, "d_real": [0.5] * 90 + [real] * 10, "d_fake": [0.5] * 90 + [fake] * 10})
    history.to_csv(tmp_path / "history.csv", index=False)
    text = report.gan_conclusion(resolve(overrides={"gan.steps": 100}), Run("gan-x", tmp_path, {}, reused=True))
    assert words in text
    assert f"{real:.2f}, generated ones with {fake:.2f}" in text


def test_passes_say_what_the_steps_mean():
    text = report.passes(resolve(preset="quick"), n_train=3_500)
    assert text.splitlines()[0] == "cnn: 1,000 steps of 64 images, 18.3 passes over 3,500, 3 seeds"
