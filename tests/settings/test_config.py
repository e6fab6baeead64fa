"""What can be set: the paper's recipe, presets, datasets and overrides, and what is refused by name."""

from dataclasses import fields

import pytest
from helpers import refused

from rag_lib import study
from rag_lib.classifiers.networks import NETWORKS
from rag_lib.gan.attention import ATTENTION
from rag_lib.gan.losses import LOSSES
from rag_lib.settings.config import CLASSIFIERS, ClassifierConfig, DataConfig, GanConfig, Settings
from rag_lib.settings.presets import PRESETS
from rag_lib.study.resolve import resolve


def classifier(settings: Settings, name: str) -> ClassifierConfig:
    return {config.model: config for config, _ in settings.classifiers}[name]


def section(settings: Settings, name: str):
    """A part of the settings as overrides name it; `classifier` stands for one that has no deltas of its own."""
    if name in ("data", "gan", "quality"):
        return getattr(settings, name)
    return classifier(settings, "resnet18" if name == "classifier" else name)


def seeds(settings: Settings) -> dict[str, int]:
    return {config.model: n for config, n in settings.classifiers}


OF_BOTH = {"batch_size": 64, "steps": 50_000, "lr": 1e-4, "lr_gamma": 0.85, "weight_decay": 1e-4, "schedule": "step"}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("data", {"size": 28, "stored_size": 28, "channels": 1, "rotation": 10.0, "contrast": True}),
        ("gan", OF_BOTH | {"z_dim": 100, "attention": "spam", "ema": 0.0}),
        ("classifier", OF_BOTH | {"stem": "imagenet"}),
        ("cnn", OF_BOTH),
    ],
)
def test_preset_paper_is_the_papers_recipe(part, expected):
    config = section(resolve("mnist", "paper"), part)
    assert {name: getattr(config, name) for name in expected} == expected


def test_preset_paper_trains_the_papers_five_classifiers_once():
    names = ("cnn", "resnet18", "resnet34", "resnet50", "resnet101")
    assert seeds(resolve("mnist", "paper")) == dict.fromkeys(names, 1)


def test_what_the_settings_name_is_what_there_is():
    choices = {f.name: set(f.metadata.get("choices", ())) for f in fields(GanConfig)}
    assert (set(ATTENTION), set(LOSSES)) == (choices["attention"], choices["loss"])
    assert set(NETWORKS) == set(CLASSIFIERS)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"dataset": "MNIST"}, ["dataset = 'MNIST'", "choose one of", "mnist,"]),
        ({"dataset": "mnist5k\n"}, [r"dataset = 'mnist5k\n'", "choose one of"]),
        ({"dataset": "folder"}, ["dataset = 'folder'", "folder:PATH"]),
        ({"dataset": "folder:"}, ["dataset = 'folder:'", "folder:PATH"]),
        ({"dataset": None}, ["dataset = None", "must be str"]),
        ({"preset": 1}, ["preset = 1", "must be str"]),
        ({"seed": True}, ["seed = True is bool", "must be int"]),
        ({"overrides": ""}, ["overrides = '' is str", "must be a dictionary", "papermill"]),
        ({"preset": "quick", "overrides": {"resnet50.steps": 5}}, ["'resnet50.steps' is of no use", "resnet18"]),
        ({"overrides": {"gan.oversample": True, "gan.labels": "per_class"}}, ["oversample = True does", "'per_class'"]),
        ({"overrides": {"gan.r1": 0.1}}, ["gan.r1 = 0.1 wants", "set gan.d_norm to spectral or none"]),
        ({"overrides": {"classifiers": {"cnn": 0}}}, ["classifiers['cnn'] (seeds) = 0", "must be at least 1"]),
        ({"overrides": {"classifiers": {"cnn": "3"}}}, ["classifiers['cnn'] (seeds) = '3' is str", "must be int"]),
        ({"overrides": {"classifiers": {3: 1}}}, ["classifier = 3 is int", "must be str"]),
        ({"overrides": {"classifiers": {}}}, ["classifiers = {}", "dictionary of seeds", "'cnn': 3"]),
    ],
    ids=str,
)
def test_an_unknown_or_mistyped_argument_is_refused(arguments, parts):
    with refused(*parts):
        resolve(**arguments)


@pytest.mark.parametrize("key", ["steps", "GAN.steps", "gan", "gan.", "vgg.steps", "cnn.step", "", 1])
def test_an_unknown_override_is_refused_with_the_allowed_names(key):
    with refused(f"override {key!r}", "allowed: classifiers", "gan.steps"):
        resolve(overrides={key: 1})


@pytest.mark.parametrize("field", ["dataset", "content", "data", "gan", "arm", "model", "seed"])
@pytest.mark.parametrize("part", ["data", "gan", "classifier", "resnet18"])
def test_what_the_study_sets_itself_cannot_be_overridden(part, field):
    key = f"{part}.{field}"
    with refused(f"override '{key}'", "allowed: ") as refusal:
        resolve(overrides={key: 0})
    assert key not in str(refusal.value).partition("allowed: ")[2].split(", ")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("gan.steps", True, "is bool; it must be int"),
        ("gan.lr", "1e-4", "is str; it must be float"),  # what YAML makes of 1e-4
        ("gan.lr", True, "is bool; it must be float"),
        ("gan.z_dim", 0, "must be at least 1"),
        ("gan.lr", float("nan"), "must be a finite number"),
        ("data.rotation", 180.5, "must be at least 0 and at most 180"),
        ("data.split_seed", 2**64, "at most"),  # more than PyTorch's generators take
        ("data.channels", 2, "choose one of 1, 3"),
        ("data.size", 32, "larger than data.stored_size = 28"),
        ("gan.attention", "self", "choose one of spam, spam_per_channel, none"),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused(key, value, hint):
    with refused(f"{key.partition('.')[2]} = {value!r}", hint):
        resolve(overrides={key: value})


@pytest.mark.parametrize("value", [{"cnn": 2}, {"timm:resnet10t": 1, "resnet50": 4}], ids=str)
def test_classifiers_replace_the_presets_in_the_callers_order(value):
    assert list(seeds(resolve(preset="quick", overrides={"classifiers": value})).items()) == list(value.items())


def test_overrides_win_over_the_preset_and_the_dataset_for_one_caller():
    before = resolve("cifar10", "quick")
    overrides = {"gan.steps": 7, "data.stored_size": 28, "classifier.stem": "imagenet"}
    settings = resolve("cifar10", "quick", overrides=overrides)
    assert (settings.gan.steps, settings.data.stored_size) == (7, 28)
    assert {config.stem for config, _ in settings.classifiers} == {"imagenet"}
    assert settings.data.channels == 3  # what is not overridden stays the dataset's
    assert settings.gan.lr == PRESETS["quick"]["gan.lr"]  # and the preset's
    assert overrides == {"gan.steps": 7, "data.stored_size": 28, "classifier.stem": "imagenet"}
    assert resolve("cifar10", "quick") == before


@pytest.mark.parametrize(
    ("overrides", "cnn", "resnet18"),
    [
        ({"classifier.steps": 7}, 7, 7),
        ({"cnn.steps": 9, "resnet18.steps": 8}, 9, 8),
        ({"cnn.steps": 9, "classifier.steps": 7}, 9, 7),
        ({"classifier.steps": 7, "cnn.steps": 9}, 9, 7),
    ],
    ids=str,
)
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_an_override_holds_for_all_classifiers_but_one_with_its_own(preset, overrides, cnn, resnet18):
    settings = resolve(preset=preset, overrides=overrides)
    assert (classifier(settings, "cnn").steps, classifier(settings, "resnet18").steps) == (cnn, resnet18)


def test_an_override_for_one_classifier_leaves_the_others():
    settings = resolve(overrides={"timm:v1.5_net.lr": 0.25, "classifiers": {"timm:v1.5_net": 1, "timm:v2": 1}})
    assert classifier(settings, "timm:v1.5_net").lr == 0.25 != classifier(settings, "timm:v2").lr


@pytest.mark.parametrize("classifiers", [{"cnn": 1}, {"resnet50": 1}], ids=str)
def test_the_judge_is_the_cnn_with_its_own_settings_and_real_images(classifiers):
    settings = resolve("mnist", "quick", overrides={"classifiers": classifiers, "cnn.steps": 9})
    judge = settings.quality.judge
    assert (judge.model, judge.steps, judge.arm, judge.gan, judge.data) == ("cnn", 9, "original", None, settings.data)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_delta_of_a_preset_arrives_and_the_data_stay(preset):
    settings = resolve("mnist", preset, overrides={"classifiers": {"cnn": 1, "resnet18": 1}})
    deltas = {key: value for key, value in PRESETS[preset].items() if key != "classifiers"}
    assert {key: getattr(section(settings, key.split(".")[0]), key.split(".")[1]) for key in deltas} == deltas
    assert (settings.preset, settings.data, settings.gan.z_dim) == (preset, DataConfig(dataset="mnist"), 100)
    if preset != "paper":
        assert seeds(resolve("mnist", preset)) == PRESETS[preset]["classifiers"]


@pytest.mark.parametrize(
    ("value", "preset", "steps"), [("1", "smoke", 8), ("", "paper", 50_000), ("0", "paper", 50_000)]
)
def test_rag_smoke_of_1_replaces_the_preset_and_keeps_overrides(value, preset, steps, monkeypatch):
    monkeypatch.setenv("RAG_SMOKE", value)
    settings = study.settings_for("mnist", "paper", overrides={"gan.z_dim": 5})
    assert (settings.preset, settings.gan.steps, settings.gan.z_dim) == (preset, steps, 5)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        *((name, (1, 28, 28, "imagenet")) for name in ("mnist5k", "mnist", "fashion_mnist")),
        ("cifar10", (3, 32, 28, "cifar")),
        ("cifar10_jpeg", (3, 32, 28, "cifar")),
        ("folder:/photos", (3, 32, 28, "imagenet")),
    ],
)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_dataset_brings_its_channels_sizes_and_stem(dataset, expected, preset):
    settings = resolve(dataset, preset)
    if preset == "best" and dataset.startswith("cifar10"):
        expected = (3, 32, 32, "cifar")  # without the crop
    data, stems = settings.data, {config.stem for config, _ in settings.classifiers}
    assert (data.channels, data.stored_size, data.size, *stems) == expected


@pytest.mark.parametrize(
    ("dataset", "preset", "expected"),
    [
        ("mnist", "quick", "mnist-quick"),
        ("cifar10_jpeg", "paper", "cifar10_jpeg-paper"),
        ("folder:/a/b c/", "smoke", "folder_b_c-smoke"),
        ("folder:pictures", "quick", "folder_pictures-quick"),
        ("folder:~/x/flowers.tar.xz", "quick", "folder_flowers.tar.xz-quick"),
        ("folder:/", "quick", "folder_-quick"),
    ],
)
def test_the_settings_name_is_one_part_of_a_path_without_spaces(dataset, preset, expected):
    assert resolve(dataset, preset).name == expected


def test_other_datasets_seeds_and_overrides_have_names_of_their_own():
    variants = [{}, {"seed": 1}, {"overrides": {"gan.steps": 5}}, {"overrides": {"gan.steps": 6}}]
    names = {resolve("mnist", "quick", **variant).name for variant in variants}
    names |= {resolve(dataset, "quick").name for dataset in ("fashion_mnist", "folder:/x/mnist", "folder:/photos")}
    assert len(names) == 7
