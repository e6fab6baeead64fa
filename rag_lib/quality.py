"""How good the generated set is."""

from pathlib import Path

from rag_lib.config import QualityConfig
from rag_lib.generate import generate, load_generator
from rag_lib.runs import Run, cached
from rag_lib.train_classifier import confusion, load_classifier, predict

HELD_OUT_SEED = 1  # of generated images that no classifier was trained on
N_GENERATED = 10_000


def gan_test(config: QualityConfig, gan: Run, judge: Run) -> Run:
    """GAN-test accuracy (Shmelkov et al. 2018): how often the judge sees the label that was asked for.

    Metrics: `gan_test_accuracy`, in [0, 1], over 10,000 generated images, and the judge's own accuracy on
    the real test images, `judge_test_accuracy`; confusion.csv has the counts (rows requested, columns seen).
    """

    def compute(folder: Path) -> dict:
        images = generate(load_generator(gan.folder), N_GENERATED, HELD_OUT_SEED)
        seen = predict(load_classifier(judge, config.judge, len(images.classes)), images.x, config.judge)
        confusion(images, seen).to_csv(folder / "confusion.csv")
        fidelity = float((seen == images.y).double().mean())
        return {"gan_test_accuracy": fidelity, "judge_test_accuracy": judge.metrics["test_accuracy"]}

    return cached("quality", config, compute)
