"""Presets as short lists of deltas from the paper's defaults: what each changes, and why."""

from typing import Any

_QUICK = {
    "gan.steps": 2_500,
    "gan.lr": 1e-3,  # 50,000 steps at 1e-4 become 2,500 at ten times that; 4e-4 left more wrong labels
    "gan.schedule": "cosine",  # a short run gains most from ending at a small step
    "gan.ema": 0.995,  # averages out the last few hundred steps' oscillation
    "classifier.steps": 300,  # a minute each for a ResNet18
    # the rates below are the best of three or four for the original images, on MNIST's val images
    "classifier.lr": 2e-3,
    "classifier.schedule": "cosine",
    "cnn.steps": 1_000,  # the small net is cheap enough to be trained longer
    "cnn.lr": 5e-3,  # the small net takes a higher rate
    "classifiers": {"cnn": 3, "resnet18": 1},
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},  # the defaults are the paper's
    "first": _QUICK  # what make study runs: minutes on a laptop's CPU
    | {
        "gan.width": 32,  # a generator of half the width takes 0.4 of the time
        "gan.lr": 2e-3,  # and takes a higher rate
        "gan.steps": 2_000,
        "cnn.steps": 500,
        "classifiers": {"cnn": 2},
    },
    "quick": _QUICK,  # four times as long
    # where many generators are trained (notebooks 04 and 05)
    "short": _QUICK | {"gan.steps": 1_250, "classifiers": {"cnn": 2}},
    # our strongest recipe that keeps the paper's four DConvs and three SPAMs. Of the GANs that were compared on
    # CIFAR-10's val images (a cnn trained on generated images) this one gave 43.8% after 8,000 iterations, its classes
    # as diverse as real ones. With batch norm in the discriminator 49.6% after 5,000, but in 30,000 it won and classes
    # collapsed (one at a rate of 5e-4, two at 2e-4); with DiffAugment in addition 37.0% after 5,000; with spectral
    # norm, hinge loss, DiffAugment and DCGAN's rate, as the literature has it, 31.2%.
    "best": {
        "gan.steps": 30_000,
        "gan.lr": 5e-4,
        "gan.d_norm": "spectral",
        "gan.schedule": "cosine",  # ends at a small step
        "gan.g_norm": "conditional",  # each class gets its own scale of every feature
        "gan.weight_decay": 0.0,  # none in the GANs that were compared
        "gan.ema": 0.999,  # averages out the oscillation of a thousand iterations
        "classifier.steps": 3_000,
        "classifier.lr": 2e-3,
        "classifier.schedule": "cosine",
        "classifier.label_smoothing": 0.1,  # wrong labels of generated images weigh less
        "cnn.lr": 5e-3,
        "classifiers": {"cnn": 3, "resnet18": 1},
    },
    "smoke": {  # seconds: every line of code runs, no number means anything
        "gan.steps": 8,
        "gan.width": 8,
        "gan.batch_size": 8,
        "gan.ema": 0.9,  # so that the average is run, too
        "classifier.steps": 8,
        "classifier.batch_size": 8,
        "classifiers": {"cnn": 1},
        "quality.generated": 200,
        "quality.compared": 100,
    },
}

DEFAULT_PRESET = "first"

_BEST_OF_CIFAR = {
    "gan.z_dim": 64,  # so that the generator's file, in half precision, stays below 2 MB; 100 would be above
    "data.size": 32,  # without a crop, so that nothing of a small image is lost
    "data.rotation": 0.0,  # things in photographs stand upright
    "data.flip": True,  # mirrored at random instead
    "data.translation": 2,  # and shifted at random
    "fast_cnn.optimizer": "sgd",  # the schedule of airbench
    "fast_cnn.schedule": "triangle",
    "fast_cnn.beta1": 0.85,
    "fast_cnn.batch_size": 256,  # by the images seen, larger batches cost less time
    "fast_cnn.lr": 0.2,
    "fast_cnn.steps": 1_000,  # 600 gave 82.6% on the val images
    "fast_cnn.weight_decay": 5e-4,
    "classifiers": {"fast_cnn": 2},
}
# what a preset changes for some data sets only
PRESETS_OF = {("best", "cifar10"): _BEST_OF_CIFAR, ("best", "cifar10_jpeg"): _BEST_OF_CIFAR}
