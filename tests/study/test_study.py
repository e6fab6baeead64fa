"""Arms, the table, and what each part is allowed to see."""

import re
import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import cached
from PIL import Image

from rag_lib import study
from rag_lib.analysis import paper, tables, words
from rag_lib.base import UserError
from rag_lib.data.datasets import load
from rag_lib.data.images import Images
from rag_lib.figures import charts
from rag_lib.runtime.files import save_checkpoint, save_weights, sha256
from rag_lib.runtime.store import Run, finished
from rag_lib.runtime.tables import clean_runs
from rag_lib.settings.arms import ARMS, parse_arm
from rag_lib.settings.config import ClassifierConfig
from rag_lib.study import designs, engines
from rag_lib.study.arms import compose
from rag_lib.study.resolve import SEEDS_OF_A_DRAW, configs, replicate, resolve

SETTINGS = resolve(preset="smoke", arms=["generated", "original", "mixed"])


def config_of(spec: str, seed: int = 0) -> ClassifierConfig:
    name, share, times = parse_arm(spec)
    gan = SETTINGS.gan if ARMS[name].gan else None
    return ClassifierConfig(arm=name, share=share, times=times, gan=gan, seed=seed)


def group(spec: str, real: Images, synthetic: Images, seed: int = 0) -> Images:
    return compose(config_of(spec, seed), real, synthetic)


def classify(settings, splits):
    """The study of these settings on these images, which need not be those that the settings name."""
    with mock.patch.object(engines, "splits_of", return_value=splits):
        return study.run([settings])


def constant(value: int, n: int = 20, size: int = 28) -> Images:
    return Images(torch.full((n, 1, size, size), value, dtype=torch.uint8), torch.arange(n) % 10, tuple("0123456789"))


@pytest.mark.parametrize(
    ("name", "real", "synthetic"),
    [
        ("original", 20, 0),
        ("generated", 0, 20),
        ("mixed", 10, 10),
        ("mixed:0.25", 15, 5),
        ("mixed:0.55", 9, 11),  # regression: 20 * 0.55 is a little more than 11, and was rounded up to 12
        ("mixed:0", 20, 0),
        ("mixed:1", 0, 20),
        ("mixed_add", 20, 20),
        ("mixed_add:3", 60, 60),
        ("generated:3", 0, 60),
        ("original_plain", 20, 0),
        ("original_half", 10, 0),
        ("generated_shuffled", 0, 20),
    ],
)
def test_every_arm_is_composed_as_its_name_says(name, real, synthetic):
    images = group(name, constant(1), constant(2, n=20 * parse_arm(name)[2]))
    assert (images.x[:, 0, 0, 0] == 1).sum() == real
    assert (images.x[:, 0, 0, 0] == 2).sum() == synthetic


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_says_what_share_of_its_images_is_generated(name):
    generated = group(name, constant(1), constant(2)).x[:, 0, 0, 0] == 2
    assert ARMS[name].share in (None, generated.float().mean().item())


def unequal(value: int, sizes: tuple[int, ...] = (6, 1, 3)) -> Images:
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return Images(torch.full((len(y), 1, 28, 28), value, dtype=torch.uint8), y, ("common", "rare", "middle"))


@pytest.mark.parametrize(("name", "added"), [("balanced", 2), ("oversampled", 1)])
def test_rare_classes_are_topped_up_to_the_size_of_the_largest(name, added):
    in_turn = Images(torch.full((18, 1, 28, 28), 2, dtype=torch.uint8), torch.arange(18) % 3, unequal(1).classes)
    images = group(name, unequal(1), in_turn)
    assert images.y.bincount().tolist() == [6, 6, 6]
    assert torch.equal(images.x[:10], unequal(1).x)  # every real image is there, once
    assert images.x[10:].unique().tolist() == [added]
    assert group(name, constant(1), constant(2)).y.bincount().tolist() == [2] * 10  # nothing to do


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
    assert shown.loc["mean of the classes", "balanced"] == pytest.approx(shown["balanced"].iloc[:-1].mean(), abs=0.01)
    # the test digits are as many of each class
    assert shown.loc["mean of the classes", "original"] == pytest.approx(table.test_accuracy[0], abs=0.01)


def test_rare_classes_cannot_be_topped_up_by_a_generator_that_draws_what_it_likes():
    with pytest.raises(UserError, match="wants a generator that can be asked for a class"):
        study.settings_for(preset="smoke", arms=["balanced"], overrides={"gan.labels": "pseudo"})


def test_the_mixed_groups_halves_have_every_class():
    images = group("mixed", constant(1), constant(2))
    for value in (1, 2):
        assert images.y[images.x[:, 0, 0, 0] == value].sort().values.tolist() == list(range(10))


def test_shuffled_labels_are_the_same_labels_on_other_images():
    y = group("generated_shuffled", constant(1), constant(2)).y
    assert y.sort().values.tolist() == sorted(constant(2).y.tolist())
    assert y.tolist() != constant(2).y.tolist()


def test_the_yardstick_takes_away_random_rotation_shift_and_mirroring_and_nothing_else():
    settings = resolve(
        preset="smoke", overrides={"data.flip": True, "data.translation": 2}, arms=["original_plain", "original"]
    )
    plain, original = configs(settings)
    assert plain.data == replace(original.data, rotation=0.0, translation=0, flip=False)
    assert replace(plain, data=original.data, arm="original") == original


@pytest.mark.parametrize(
    "spec", ["half", "mixed:2", "mixed:-0.1", "mixed:x", "mixed:nan", "original:2", "mixed_add:0", "generated:0.5", 3]
)
def test_an_arm_that_does_not_exist_is_refused_in_one_line(spec):
    with pytest.raises(UserError) as error:
        resolve(preset="smoke", arms=[spec])
    assert "\n" not in str(error.value)
    assert str(spec).partition(":")[0] in str(error.value)


def test_a_classifier_refuses_a_generator_that_saw_other_images():
    with pytest.raises(UserError, match=r"classifier.gan was trained on other real images: data.dataset differ"):
        ClassifierConfig(arm="mixed", gan=replace(SETTINGS.gan, data=replace(SETTINGS.data, dataset="mnist")))


def test_a_replicate_fixes_the_draw_and_the_gan_for_all_arms():
    settings = resolve(preset="smoke", seed=7, overrides={"gan.labels": "pseudo"}, replicates=3)
    cells = [replicate(settings, r) for r in range(3)]
    assert [(c.data.split_seed, c.gan.seed) for c in cells] == [(0, 7), (1, 8), (2, 9)]
    first = [min(c.seed for c in configs(cell)) for cell in cells]
    assert first == [0, SEEDS_OF_A_DRAW, 2 * SEEDS_OF_A_DRAW] == [c.quality.judge.seed for c in cells]
    for cell in cells:
        shared = {(c.data.split_seed, c.gan and c.gan.seed, c.gan and c.gan.labeller.data) for c in configs(cell)}
        assert shared <= {(cell.data.split_seed, None, None), (cell.data.split_seed, cell.gan.seed, cell.data)}
        assert cell.quality.gan == cell.gan
        assert cell.quality.judge.data == cell.data
        assert cell.quality.judge.seed != cell.gan.labeller.seed  # or it would be asked for its own labels


def test_no_two_replicates_share_a_seed_of_a_classifier():
    """Regression: all had the seeds 0, 1, 2, ..., whose effects the intervals over replicates left out."""
    settings = resolve(preset="smoke", overrides={"classifiers": {"cnn": 3}, "gan.labels": "pseudo"}, replicates=5)
    cells = [replicate(settings, r) for r in range(5)]
    seeds = [{c.seed for c in configs(cell)} | {cell.gan.labeller.seed} for cell in cells]
    assert len(set.union(*seeds)) == 5 * 4
    other_draw = resolve(preset="smoke", overrides={"data.split_seed": 2, "classifiers": {"cnn": 3}}, seed=2)
    assert configs(other_draw)[0].seed == configs(cells[2])[0].seed  # so that a replicate can be had alone


def test_a_run_names_the_weights_it_has_seen_images_of_and_refuses_those_of_another_training(results):
    settings = resolve(preset="smoke", arms=["original", "mixed"])
    table, quality = study.run([settings])
    (gan,) = (results / "runs").glob("gan-*")
    weights = sha256(gan / "generator.safetensors")[:12]
    (real, mixed), (judged,) = ([finished(id).environment() for id in t["run_id"]] for t in (table, quality))
    assert "generator" not in real
    assert mixed["generator"] == judged["generator"] == weights
    published = pd.read_csv(results / "tables" / "quality_provenance.csv", dtype=str).set_index("run_id")
    assert published["generator"].to_dict()[judged_id := quality["run_id"].item()] == weights
    assert set(published.index) == {judged_id, gan.name}  # the generator's own surroundings, too
    save_weights(gan / "generator.safetensors", {"other": torch.zeros(1)}, {})
    with pytest.raises(UserError, match=rf"another training of its generator \(weights {weights}, now .*runs --clean"):
        study.run([settings])
    assert set(clean_runs()) == {judged_id, table["run_id"][1]}


def test_a_run_that_was_interrupted_does_not_go_on_with_images_of_another_training(tmp_path, results):
    """Regression: it was refused only after the rest of it had been computed."""
    gan = Run("gan-x", tmp_path, {}, reused=True)
    config = resolve(preset="smoke").quality.judge

    def stop(folder):
        save_checkpoint(folder / "checkpoint-00000001.pt", {})
        raise KeyboardInterrupt

    save_weights(tmp_path / "generator.safetensors", {"one": torch.zeros(1)}, {})
    with pytest.raises(KeyboardInterrupt):
        cached("classifier", config, stop, gan)
    with pytest.raises(KeyboardInterrupt):  # the same weights: it goes on
        cached("classifier", config, stop, gan)
    save_weights(tmp_path / "generator.safetensors", {"other": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="another training of its generator"):
        cached("classifier", config, lambda folder: pytest.fail("went on"), gan)


def test_replicates_and_tables_of_the_whole_run(results):
    settings = resolve(preset="smoke", arms=["original", "mixed_add"], replicates=2)
    table, quality = study.run([settings])
    assert list(table["replicate"]) == [0, 0, 1, 1]
    assert list(quality["replicate"]) == [0, 1]
    assert len(pd.read_csv(results / "tables" / "classify.csv")) == 4
    again, _ = study.run([settings])
    pd.testing.assert_frame_equal(table, again)


def test_arms_of_real_images_need_no_generator(results):
    _, quality = study.run([resolve(preset="smoke", arms=["original", "original_plain", "original_half"])])
    assert quality.empty
    assert not list((results / "runs").glob("gan-*"))


def test_generated_crops_are_continued_to_the_stored_size():
    images = group("mixed", constant(1, size=32), constant(2, size=28))
    assert images.x.shape == (20, 1, 32, 32)


def test_the_table_has_a_row_a_run_and_a_second_study_reuses_all_of_them(digits, results):
    table, quality = classify(SETTINGS, digits)
    assert list(table["arm"]) == ["generated", "original", "mixed"]
    assert table["test_accuracy"].between(0, 100).all()
    files = {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    again, quality_again = classify(SETTINGS, digits)
    pd.testing.assert_frame_equal(table, again)
    pd.testing.assert_frame_equal(quality, quality_again)
    assert files == {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    saved = pd.read_csv(results / "tables" / "classify.csv").set_index("run_id").loc[table["run_id"]]
    assert saved["test_accuracy"].tolist() == table["test_accuracy"].tolist()
    fidelity = pd.read_csv(results / "tables" / "quality.csv")
    metrics = finished(quality["run_id"].item()).metrics
    assert fidelity["gan_test_accuracy"].tolist() == [round(100 * metrics["gan_test_accuracy"], 4)]
    assert {"data.rotation", "classifier.lr", "classifier.precision", "gan.attention", "gan.steps"} <= set(saved)


def test_own_test_accuracy_weighs_real_and_generated_images_by_the_groups_composition(digits):
    table, _ = classify(SETTINGS, digits)
    for row in table.itertuples():
        run = finished(row.run_id)
        real, generated = 100 * run.metrics["test_accuracy"], 100 * run.metrics.get("generated_accuracy", 0)
        expected = {"original": real, "mixed": (real + generated) / 2, "generated": generated}[row.arm]
        assert row.own_test_accuracy == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("labels", ["conditional", "pseudo", "per_class"])
def test_nothing_but_the_train_split_reaches_any_weights(labels, digits, results, monkeypatch):
    """Val and test images are replaced by noise: every weight stays the same. Noise in train changes them.

    GAN, labeller, judge (whose features measure quality) and classifiers alike.
    """
    settings = resolve(preset="smoke", overrides={"gan.labels": labels}, arms=["generated", "original", "mixed_add"])

    def noise(images: Images) -> Images:
        return replace(images, x=torch.randint(0, 256, images.x.shape, dtype=torch.uint8))

    def weights(splits, name: str) -> dict[str, bytes]:
        monkeypatch.setenv("RAG_RESULTS", str(results / name))
        classify(settings, splits)
        files = [p for p in (results / name / "runs").rglob("*.safetensors") if p.stem in ("generator", "classifier")]
        return {p.parent.name: p.read_bytes() for p in files}

    true = weights(digits, "true")
    assert len(true) == {"conditional": 4, "pseudo": 5, "per_class": 14}[labels]
    assert weights(replace(digits, val=noise(digits.val), test=noise(digits.test)), "blind") == true
    changed = weights(replace(digits, train=noise(digits.train)), "changed")
    assert all(changed[name] != true[name] for name in true)


def test_the_original_group_does_not_depend_on_the_generator(digits):
    tables = []
    for seed in (0, 1):
        settings = replace(resolve(preset="smoke", seed=seed), arms=SETTINGS.arms)
        tables.append(classify(settings, digits)[0].set_index("arm"))
    assert tables[0].run_id["original"] == tables[1].run_id["original"]
    assert tables[0].run_id["mixed"] != tables[1].run_id["mixed"]


def test_the_gan_is_judged_on_labels_it_was_asked_for(digits):
    run = study.run_quality(SETTINGS, digits)
    counts = run.confusion()
    assert counts.to_numpy().sum() == 200
    assert counts.sum(axis=1).tolist() == [20] * 10
    assert run.metrics["gan_test_accuracy"] == pytest.approx(counts.to_numpy().trace() / 200)
    assert f"{100 * run.metrics['gan_test_accuracy']:.2f}%" in words.gallery_conclusion(run)


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
    table, qualities = study.run([settings])
    quality = finished(qualities["run_id"].item())
    assert list(table["dataset"].unique()) == ["folder:own"]
    assert str(own_images) not in (results / "tables" / "classify.csv").read_text()
    assert list(quality.confusion().index) == list(quality.confusion().columns) == ["007", "Größe", "NA"]
    assert "007" in words.gallery_conclusion(quality) or "NA" in words.gallery_conclusion(quality)
    charts.use_style()
    charts.save(charts.confusion(quality.confusion(), "own"), f"gan_test-{settings.name}")
    assert re.fullmatch("folder_own-smoke-[0-9a-f]{6}", settings.name)
    assert (results / "figures" / f"gan_test-{settings.name}.png").exists()


def test_a_plan_reads_an_own_folder_once(own_images, results, capsys):
    """Regression: once a level, with its notices each time."""
    (own_images / "notes.txt").write_text("no image")
    given = {"dataset": f"folder:{own_images}", "preset": "smoke"}
    low_data = designs.low_data([20, 30], **given)
    assert capsys.readouterr().err.count("1 files that are no images") == 1
    ablation = designs.ablation(["EMA"], **given)
    assert capsys.readouterr().err.count("1 files that are no images") == 1
    assert {bool(s.data.content) for s in (*low_data, *ablation.values())} == {True}


def test_a_moved_copy_of_own_images_reuses_the_runs_and_other_images_have_another_name(own_images, tmp_path):
    moved = tmp_path / "elsewhere" / "own"
    shutil.copytree(own_images, moved)
    both = [study.settings_for(f"folder:{path}", "smoke") for path in (own_images, moved)]
    ids = [study.run_gan(settings, load(settings.data)).id for settings in both]
    assert ids[0] == ids[1]
    assert both[0].name == both[1].name
    next(moved.rglob("*.png")).unlink()  # regression: the figures of one folder took the place of another's
    assert study.settings_for(f"folder:{moved}", "smoke").name != both[0].name
