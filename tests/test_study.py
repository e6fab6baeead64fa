"""Arms, the table, and what each part is allowed to see."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from rag_lib import paper, study
from rag_lib.images import Images
from rag_lib.presets import resolve

SETTINGS = resolve(preset="smoke")


def constant(value: int, n: int = 20, size: int = 28) -> Images:
    return Images(torch.full((n, 1, size, size), value, dtype=torch.uint8), torch.arange(n) % 10, tuple("0123456789"))


@pytest.mark.parametrize(("name", "real", "synthetic"), [("original", 20, 0), ("generated", 0, 20), ("mixed", 10, 10)])
def test_the_three_groups_are_equally_large_and_composed_as_the_paper_says(name, real, synthetic):
    group = study.arm(name, constant(1), constant(2), seed=0)
    assert (group.x[:, 0, 0, 0] == 1).sum() == real
    assert (group.x[:, 0, 0, 0] == 2).sum() == synthetic


def test_the_mixed_groups_halves_have_every_class():
    group = study.arm("mixed", constant(1), constant(2), seed=0)
    for value in (1, 2):
        assert group.y[group.x[:, 0, 0, 0] == value].sort().values.tolist() == list(range(10))


def test_generated_crops_are_continued_to_the_stored_size():
    group = study.arm("mixed", constant(1, size=32), constant(2, size=28), seed=0)
    assert group.x.shape == (20, 1, 32, 32)


def test_the_table_has_a_row_a_run_and_a_second_study_reuses_all_of_them(digits, results):
    table = study.classify(SETTINGS, digits)
    assert list(table["arm"]) == ["generated", "original", "mixed"]
    assert table["test_accuracy"].between(0, 100).all()
    files = {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    again = study.classify(SETTINGS, digits)
    pd.testing.assert_frame_equal(table, again)
    assert files == {path: path.stat().st_mtime_ns for path in (results / "runs").rglob("*") if path.is_file()}
    saved = pd.read_csv(results / "tables" / "classify.csv").set_index("run_id").loc[table["run_id"]]
    assert saved["test_accuracy"].tolist() == table["test_accuracy"].tolist()


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
        study.classify(SETTINGS, splits)
        return {p.parent.name: p.read_bytes() for p in (results / name / "runs").rglob("*.safetensors")}

    true = weights(digits, "true")
    assert len(true) == 4
    assert weights(replace(digits, val=noise(digits.val), test=noise(digits.test)), "blind") == true
    changed = weights(replace(digits, train=noise(digits.train)), "changed")
    assert all(changed[name] != true[name] for name in true)


def test_the_original_group_does_not_depend_on_the_generator(digits):
    tables = []
    for seed in (0, 1):
        settings = resolve(preset="smoke", seed=seed)
        tables.append(study.run_classifiers(settings, digits, study.run_gan(settings, digits))[0].set_index("arm"))
    assert tables[0].run_id["original"] == tables[1].run_id["original"]
    assert tables[0].run_id["mixed"] != tables[1].run_id["mixed"]


def test_the_gan_is_judged_on_labels_it_was_asked_for(digits):
    gan = study.run_gan(SETTINGS, digits)
    run = study.run_gan_test(SETTINGS, digits, gan)
    counts = run.confusion()
    assert counts.to_numpy().sum() == 10_000
    assert counts.sum(axis=1).tolist() == [1_000] * 10
    assert run.metrics["gan_test_accuracy"] == pytest.approx(counts.to_numpy().trace() / 10_000)
    assert f"{100 * run.metrics['gan_test_accuracy']:.2f}%" in study.gallery_conclusion(run)


def test_summary_and_conclusion_say_what_the_table_says():
    table = pd.DataFrame(
        {
            "classifier": ["cnn"] * 6,
            "arm": ["generated", "original", "mixed"] * 2,
            "test_accuracy": [90.0, 98.0, 97.0, 92.0, 99.0, 97.5],
        }
    )
    assert study.summary(table).loc["cnn"].to_dict() == {"generated": 91.0, "original": 98.5, "mixed": 97.25}
    text = study.conclusion(table)
    assert "98.50% from the original images, 97.25% (-1.25 points)" in text
    assert "91.00% (-7.50) from generated images alone" in text


def test_ours_stand_beside_the_papers_numbers():
    ours = pd.DataFrame({"generated": [1.0, 2.0], "original": [3.0, 4.0], "mixed": [5.0, 6.0]}, index=["cnn", "timm:x"])
    both = paper.beside_paper(ours)
    assert both.loc["cnn", "mixed"].to_dict() == {"ours": 5.0, "paper": 98.36}
    assert both.loc["timm:x", "mixed"].isna().to_dict() == {"ours": False, "paper": True}
