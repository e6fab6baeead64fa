"""Arms, the table, and what each part is allowed to see."""

import re
import shutil
from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest
import torch
from helpers import cached, encoded, noise, refused, write

from rag_lib import study
from rag_lib.analysis import tables
from rag_lib.base import UserError
from rag_lib.data.datasets import load
from rag_lib.data.images import Images
from rag_lib.runtime.files import save_checkpoint, save_weights, sha256
from rag_lib.runtime.store import Run, finished
from rag_lib.runtime.tables import clean_runs
from rag_lib.settings.arms import ARMS, parse_arm
from rag_lib.settings.config import ClassifierConfig
from rag_lib.study import designs, engines
from rag_lib.study.arms import compose
from rag_lib.study.plan import ids_of
from rag_lib.study.resolve import SEEDS_OF_A_DRAW, configs, replicate, resolve

SETTINGS = resolve(preset="smoke", arms=["generated", "original", "mixed"])


def group(spec: str, real: Images, synthetic: Images, seed: int = 0) -> Images:
    name, share, times = parse_arm(spec)
    gan = SETTINGS.gan if ARMS[name].gan else None
    return compose(ClassifierConfig(arm=name, share=share, times=times, gan=gan, seed=seed), real, synthetic)


def classify(settings, splits):
    """The study of these settings on these images, which need not be those that the settings name."""
    with mock.patch.object(engines, "splits_of", return_value=splits):
        return study.run([settings])


def constant(value: int, n: int = 20, size: int = 28, n_classes: int = 10) -> Images:
    """Images of a single grey, the classes in turn."""
    x = torch.full((n, 1, size, size), value, dtype=torch.uint8)
    return Images(x, torch.arange(n) % n_classes, tuple(map(str, range(n_classes))))


@pytest.mark.parametrize(
    ("spec", "real", "synthetic"),
    [
        ("original", 100, 0),
        ("generated", 0, 100),
        ("mixed", 50, 50),
        ("mixed:0.25", 75, 25),
        ("mixed:0.55", 45, 55),  # regression: 100 * 0.55 is a little more than 55, and was rounded up to 56
        ("mixed:0", 100, 0),
        ("mixed:1", 0, 100),
        ("mixed_add", 100, 100),
        ("mixed_add:3", 300, 300),
        ("mixed_add_centred:3", 300, 300),
        ("generated:3", 0, 300),
        ("original_plain", 100, 0),
        ("original_half", 50, 0),
        ("generated_shuffled", 0, 100),
    ],
)
def test_every_arm_is_composed_as_its_name_and_its_share_say(spec, real, synthetic):
    name, _, times = parse_arm(spec)
    images = group(spec, constant(1, n=100), constant(2, n=100 * times))
    assert [(images.x[:, 0, 0, 0] == value).sum() for value in (1, 2)] == [real, synthetic]
    assert spec != name or ARMS[name].share in (None, synthetic / (real + synthetic))


def test_centred_digits_lie_where_the_real_ones_do(digits):
    """`digits.val`, moved by three pixels, in the place of generated ones."""
    shifted = replace(digits.val, x=digits.val.x.roll((3, -3), (2, 3)))
    real = digits.train[:500]
    for name, expected in (("mixed_add_centred", [0, 0]), ("mixed_add", [3, -3])):
        found = group(name, real, shifted)[500:].centres().mean(0) - real.centres().mean(0)
        assert found.tolist() == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("name", "added"), [("balanced", 2), ("oversampled", 1)])
def test_rare_classes_are_topped_up_to_the_size_of_the_largest(name, added):
    real = replace(constant(1, n=10, n_classes=3), y=torch.tensor([0] * 6 + [1] + [2] * 3))
    images = group(name, real, constant(2, n=18, n_classes=3))
    assert images.y.bincount().tolist() == [6, 6, 6]
    assert torch.equal(images.x[:10], real.x)  # every real image is there, once
    assert images.x[10:].unique().tolist() == [added]
    assert group(name, constant(1), constant(2)).y.bincount().tolist() == [2] * 10  # nothing to do


def test_the_real_half_has_every_class_and_depends_on_the_seed():
    real = replace(constant(1, n=40), x=torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 28, 28))
    groups = [group("mixed", real, constant(200, n=40), seed) for seed in (0, 0, 1)]
    halves = [images.x[:20, 0, 0, 0].tolist() for images in groups]
    assert halves[0] == halves[1] != halves[2]
    for half in groups[0].y.split(20):
        assert half.bincount().tolist() == [2] * 10


def test_the_mixed_group_is_half_and_half_where_classes_are_rare_too():
    """Regression: every rare class once enlarged the real half."""
    rare = replace(constant(1, n=57, n_classes=30), y=torch.tensor([0] * 28 + list(range(1, 30))))
    images = group("mixed", rare, constant(2, n=57, n_classes=30))
    assert [(images.x[:, 0, 0, 0] == value).sum() for value in (1, 2)] == [28, 29]


def test_shuffled_labels_are_the_same_labels_on_other_images():
    shuffled, y = (images.y.tolist() for images in (group("generated_shuffled", constant(1), constant(2)), constant(2)))
    assert sorted(shuffled) == sorted(y)
    assert shuffled != y


def test_the_yardstick_takes_away_random_rotation_shift_and_mirroring():
    overrides = {"data.flip": True, "data.translation": 2}
    plain, original = configs(resolve(preset="smoke", overrides=overrides, arms=["original_plain", "original"]))
    assert plain.data == replace(original.data, rotation=0.0, translation=0, flip=False)
    assert replace(plain, data=original.data, arm="original") == original


def test_a_replicate_has_a_draw_a_gan_and_classifier_seeds_of_its_own():
    """Regression: all classifiers had the seeds 0, 1, 2, ..., whose effects the intervals over replicates left out."""
    overrides = {"classifiers": {"cnn": 3}, "gan.labels": "pseudo"}
    settings = resolve(preset="smoke", seed=7, overrides=overrides, replicates=3)
    cells = [replicate(settings, r) for r in range(3)]
    assert [(c.data.split_seed, c.gan.seed) for c in cells] == [(0, 7), (1, 8), (2, 9)]
    for r, cell in enumerate(cells):
        seeds = range(SEEDS_OF_A_DRAW * r, SEEDS_OF_A_DRAW * (r + 1))
        assert {config.data.split_seed for config in configs(cell)} == {r}
        assert {config.gan for config in configs(cell)} == {None, cell.gan}
        assert {config.seed for config in configs(cell)} == set(seeds[:3])
        assert cell.gan.labeller.data == cell.quality.judge.data == cell.data
        assert cell.quality.gan == cell.gan
        assert cell.quality.judge.seed == seeds[0]
        assert cell.gan.labeller.seed in seeds[3:]  # or the judge would be asked for its own labels
    alone = resolve(preset="smoke", seed=9, overrides=overrides | {"data.split_seed": 2})
    assert configs(alone) == configs(cells[2])


def test_a_run_names_its_generators_weights_and_refuses_those_of_another(results):
    settings = resolve(preset="smoke", arms=["original", "mixed"])
    table, quality = study.run([settings])
    (gan,) = (results / "runs").glob("gan-*")
    weights = sha256(gan / "generator.safetensors")[:12]
    ids = [*table["run_id"], judged := quality["run_id"].item()]
    assert [finished(id).environment().get("generator") for id in ids] == [None, weights, weights]
    published = pd.read_csv(results / "tables" / "quality_provenance.csv", dtype=str).set_index("run_id")
    assert published["generator"][judged] == weights
    assert set(published.index) == {judged, gan.name}  # the generator's own surroundings, too
    save_weights(gan / "generator.safetensors", {"other": torch.zeros(1)}, {})
    with refused("2 of 4 runs failed", f"another training of its generator (weights {weights}, now ", "runs --clean"):
        study.run([settings])
    assert set(clean_runs()) == set(ids[1:])


def test_an_interrupted_run_does_not_go_on_with_images_of_another_training(tmp_path):
    """Regression: it was refused only after the rest of it had been computed."""
    gan = Run("gan-x", tmp_path, {}, reused=True)

    def stop(folder):
        save_checkpoint(folder / "checkpoint-00000001.pt", {})
        raise KeyboardInterrupt

    save_weights(tmp_path / "generator.safetensors", {"one": torch.zeros(1)}, {})
    for _ in range(2):  # the same weights: it goes on
        with pytest.raises(KeyboardInterrupt):
            cached("classifier", SETTINGS.quality.judge, stop, gan)
    save_weights(tmp_path / "generator.safetensors", {"other": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="another training of its generator"):
        cached("classifier", SETTINGS.quality.judge, lambda folder: pytest.fail("went on"), gan)


def test_the_tables_have_a_row_a_run_and_a_second_study_reuses_all_of_them(digits, results):
    settings = replace(SETTINGS, replicates=2)
    table, quality = classify(settings, digits)
    assert table[["replicate", "arm"]].to_numpy().tolist() == [[r, arm] for r in (0, 1) for arm in SETTINGS.arms]
    assert list(quality["replicate"]) == [0, 1]
    files = {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    for first, again in zip((table, quality), classify(settings, digits), strict=True):
        pd.testing.assert_frame_equal(first, again)
    assert files == {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    saved = pd.read_csv(results / "tables" / "classify.csv").set_index("run_id").loc[table["run_id"]]
    assert saved["test_accuracy"].tolist() == table["test_accuracy"].tolist()
    assert {"data.rotation", "classifier.lr", "classifier.precision", "gan.attention", "gan.steps"} <= set(saved)
    for row in table.itertuples():  # the test images weigh as the group is composed
        metrics = finished(row.run_id).metrics
        real, generated = 100 * metrics["test_accuracy"], 100 * metrics.get("generated_accuracy", 0)
        own = {"original": real, "mixed": (real + generated) / 2, "generated": generated}[row.arm]
        assert (row.test_accuracy, row.own_test_accuracy) == pytest.approx((real, own), abs=1e-3)
    of_quality = pd.read_csv(results / "tables" / "quality.csv").set_index("run_id")["gan_test_accuracy"]
    for id in quality["run_id"]:
        counts = finished(id).confusion()
        assert counts.sum(axis=1).tolist() == [20] * 10  # of each class that was asked for
        assert of_quality[id] == pytest.approx(100 * counts.to_numpy().trace() / 200)


def test_an_arm_that_needs_more_generated_images_than_real_ones_gets_them(digits):
    """The whole way: nine images of one class for each of another."""
    kept = torch.cat([(digits.train.y == c).nonzero().flatten()[: 36 if c else 4] for c in range(10)])
    splits = replace(digits, train=digits.train[kept])
    settings = resolve(preset="smoke", arms=["original", "oversampled", "balanced", "mixed", "mixed_add:3"])
    table, _ = classify(settings, splits)
    assert table["arm"].tolist() == list(settings.arms)
    assert table["own_test_accuracy"].isna().tolist() == [False, True, True, False, False]
    shown = tables.by_class(table, splits.train)
    assert shown["real images"].tolist() == ["4", *["36"] * 9, "328 in all"]
    mean = shown.loc["mean of the classes"]
    assert mean["balanced"] == pytest.approx(shown["balanced"].iloc[:-1].mean(), abs=0.01)
    assert mean["original"] == pytest.approx(table.test_accuracy[0], abs=0.01)  # the test digits are as many of each


@pytest.mark.parametrize(("labels", "trained"), [("conditional", 3), ("pseudo", 4), ("per_class", 13)])
def test_nothing_but_the_train_split_reaches_any_weights(labels, trained, digits, results, monkeypatch):
    """Val and test images are replaced by noise: every weight stays the same. Noise in train changes them.

    GAN, labeller, judge (whose features measure quality) and classifiers alike.
    """
    settings = resolve(preset="smoke", overrides={"gan.labels": labels}, arms=["original", "mixed_add"])

    def scrambled(images: Images) -> Images:
        return replace(images, x=torch.randint(0, 256, images.x.shape, dtype=torch.uint8))

    def weights(name: str, **changed: Images) -> dict[str, bytes]:
        monkeypatch.setenv("RAG_RESULTS", str(results / name))
        classify(settings, replace(digits, **changed))
        files = [p for p in (results / name / "runs").rglob("*.safetensors") if p.stem in ("generator", "classifier")]
        return {p.parent.name: p.read_bytes() for p in files}

    true = weights("true")
    assert len(true) == trained
    assert weights("blind", val=scrambled(digits.val), test=scrambled(digits.test)) == true
    changed = weights("changed", train=scrambled(digits.train))
    assert all(changed[name] != true[name] for name in true)


@pytest.fixture
def own_images(tmp_path):
    """Three classes of unequal size, with names that a table could take for numbers and gaps."""
    sizes = {"007": 30, "NA": 12, "Größe": 5}
    files = {f"{name}/{i}.png": encoded(noise(100 * n + i, 40, 36)) for name, n in sizes.items() for i in range(n)}
    return write(tmp_path / "own", files)


def test_own_images_go_through_the_whole_study(own_images, results):
    settings = study.settings_for(f"folder:{own_images}", "smoke")
    assert re.fullmatch("folder_own-smoke-[0-9a-f]{6}", settings.name)
    assert [len(images) for images in vars(load(settings.data)).values()] == [33, 5, 9]
    table, qualities = study.run([settings])
    assert list(table["dataset"].unique()) == ["folder:own"]
    assert str(own_images) not in (results / "tables" / "classify.csv").read_text()
    quality = finished(qualities["run_id"].item())
    assert list(quality.confusion().index) == list(quality.confusion().columns) == ["007", "Größe", "NA"]


def test_a_plan_reads_an_own_folder_once(own_images, capsys):
    """Regression: once a level, with its notices each time."""
    (own_images / "notes.txt").write_text("no image")
    given = {"dataset": f"folder:{own_images}", "preset": "smoke"}
    for plan in (lambda: designs.low_data([20, 30], **given), lambda: designs.ablation(["output"], **given).values()):
        assert all(settings.data.content for settings in plan())
        assert capsys.readouterr().err.count("1 files that are no images") == 1


def test_a_moved_copy_of_own_images_reuses_the_runs_and_others_do_not(own_images, tmp_path):
    moved = tmp_path / "elsewhere" / "own"
    shutil.copytree(own_images, moved)
    here, there = (study.settings_for(f"folder:{path}", "smoke") for path in (own_images, f"{moved}/"))
    assert ids_of([here]) == ids_of([there])
    assert here.name == there.name
    next(moved.rglob("*.png")).unlink()  # regression: the figures of one folder took the place of another's
    other = study.settings_for(f"folder:{moved}", "smoke")
    assert other.name != here.name
    assert set(ids_of([other])["classifier"]).isdisjoint(ids_of([here])["classifier"])
