"""What the documents promise: links resolve, commands parse, code runs, generated blocks are up to date."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import UserList
from pathlib import Path

import pandas as pd
import pytest
import torch
import torchvision
from committed import parameters_of

from rag_lib import data, study
from rag_lib.analysis import words
from rag_lib.base import ROOT
from rag_lib.cli import NOTEBOOKS, main, parser
from rag_lib.options import parameters
from rag_lib.runtime.store import Run, run_id
from rag_lib.settings.presets import DEFAULT_PRESET
from rag_lib.study.resolve import resolve

NAMES = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "docs/*.md", "notebooks/README.md", "results/README.md")
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path for name in NAMES for path in sorted(ROOT.glob(name))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in DOCUMENTS.items()}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
OWN_IMAGES = TEXTS["docs/own-images.md"]


def blocks(*languages: str) -> list[str]:
    """The blocks of code in these languages, in order, each once."""
    found = [match.groups() for text in TEXTS.values() for match in BLOCK.finditer(text)]
    return list(dict.fromkeys(code for language, code in found if language in languages))


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The names that a link may give after #, as GitHub makes them: of headings, or of a source's lines."""
    if path.suffix != ".md":
        return {f"L{n}" for n, _ in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)}
    headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.M)
    texts = [re.sub(r"\]\([^)]*\)", "", heading) for heading in headings]  # a link counts by its text
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_to_files_and_their_anchors(name):
    path = DOCUMENTS[name]
    links = re.finditer(r'\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)|(?:src|href)="([^"]+)"', prose(path), flags=re.M)
    for target in (link[link.lastindex] for link in links):
        if not re.match(r"https?:|mailto:", target):
            file, _, anchor = target.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


LINES = dict.fromkeys(line for code in blocks("", "sh") for line in code.replace("\\\n", " ").splitlines())


def understand(line: str) -> None:
    """Raises `UserError` for a command, an option, a preset, an arm or a setting that does not exist."""
    options = parser().parse_args(shlex.split(line.partition("-m rag_lib ")[2], comments=True))
    if "overrides" in options:
        given = parameters(options)
        known = {"dataset", "preset", "seed", "overrides", "arms", "replicates"} & given.keys()
        resolve(**{key: given[key] for key in known})


@pytest.mark.parametrize("line", [line for line in LINES if "-m rag_lib " in line])
def test_commands_are_understood(line):
    understand(line)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_make_knows_the_targets_and_gives_them_options_that_exist(line):
    command = ["make", "--dry-run", *shlex.split(line, comments=True)[1:]]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    for step in re.findall(r"^\S*python -m rag_lib .*$", planned.stdout, flags=re.M):
        understand(step)


def test_generators_that_are_named_are_published():
    named = set(re.findall(r"\bgan-[0-9a-f]{12}\b", "".join(TEXTS.values())))
    assert named <= set(pd.read_csv(ROOT / "results" / "tables" / "quality.csv")["gan_run"])


def test_the_page_of_results_names_every_column():
    page = TEXTS["results/README.md"]
    for path in sorted((ROOT / "results" / "tables").glob("*.csv")):
        columns = [c for c in pd.read_csv(path, nrows=0) if not c.startswith(("data.", "classifier.", "gan.", "val_"))]
        assert [c for c in columns if f"`{c}`" not in page and not c.endswith("_per_s")] == [], path.name


def test_generated_blocks_are_what_the_committed_tables_give(committed):
    check = [sys.executable, "-m", "cogapp", "--check", "-P", "-I", "tools", "-p", "import docs, results", *DOCUMENTS]
    variables = os.environ | {"RAG_RESULTS": str(committed)}
    checked = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, env=variables)
    assert checked.returncode == 0, f"run `make docs`\n{checked.stdout}{checked.stderr}"


def test_the_chinese_readme_says_nothing_that_the_english_documents_do_not():
    """The same numbers, commands and links: a translation, not another study."""
    chinese, english = TEXTS["README.zh-CN.md"], "".join(t for name, t in TEXTS.items() if name != "README.zh-CN.md")
    for pattern in (r"[-+]?\d[\d,.]*\d|\d", r"(?s)```sh\n(.*?)```", r"\]\((?:docs/)?([^)#]+)"):
        of_english = {*re.findall(pattern, english), "README.md", "CITATION.cff"}
        assert set(re.findall(pattern, chinese)) - of_english == set()


def block(word: str, generator: Run | None = None) -> str:
    """The Python code with this word in it, with a run of the test's own in place of the document's."""
    (code,) = [code for code in blocks("python") if word in code]
    return re.sub(r'load_generator\("[^"]+"\)', f"load_generator({str(generator and generator.folder)!r})", code)


def test_the_lines_for_ones_own_training_code_run(digits):
    run = study.run_gan(resolve(preset="smoke"), digits)
    real = UserList([(torch.rand(1, 28, 28), 3)] * 100)  # as torchvision's datasets are: labels are ints
    real.class_to_idx = {str(digit): 9 - digit for digit in range(10)}
    names = {"your_dataset": real, "your_transform": torchvision.transforms.ToTensor()}
    exec(block("DataLoader", run), names)
    x, y = next(iter(names["loader"]))
    assert len(names["loader"].dataset) == 10_100
    assert names["synthetic"].targets == [9 - i % 10 for i in range(10_000)]  # joined by the classes' names
    assert x.shape == (64, 1, 28, 28)
    assert 0 <= x.min() < x.max() <= 1
    assert y.dtype == torch.int64
    exec(block("sample(", run), names)
    assert names["images"].shape == (3, 1, 28, 28)


def test_the_example_of_own_images_runs_from_its_code_to_its_export(tmp_path, results, monkeypatch, capsys):
    """With its own commands, at preset smoke."""
    monkeypatch.chdir(tmp_path)
    exec(block("numerals"))
    commands = re.search(r"numerals\.py\nmake study (.*?)\n\S+ -m rag_lib (export .*?)\n", OWN_IMAGES, flags=re.S)
    dataset, _, arguments = re.search(r'DATASET=(\S+) PRESET=(\S+) .*?ARGS="(.*?)"', commands[1], flags=re.S).groups()
    given = ["--dataset", dataset, *arguments.split()]
    assert main(["train", *given[:6], "--preset", "smoke"]) == 0
    settings = study.settings_for(dataset.replace("data", f"{tmp_path}/data"), "smoke", overrides={"data.channels": 1})
    assert words.class_sizes(data.load(settings.data).train) == "from 18 of eight to 360 of four"
    assert main(["classify", *given, "--preset", "smoke"]) == 0
    printed = re.findall(r"^(balanced|original|oversampled)  ", capsys.readouterr().out, flags=re.M)
    assert printed == ["original", "balanced", "oversampled"]
    (gan,) = (results / "runs").glob("gan-*")
    export = re.sub(r"gan-\w+", gan.name, commands[2])
    assert main([*export.split(), "--images", "200"]) == 0
    assert len(list((tmp_path / "data" / "more_numerals").rglob("*.png"))) == 200


def test_the_default_preset_is_the_same_wherever_it_stands():
    assert f"PRESET  ?= {DEFAULT_PRESET}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in NOTEBOOKS:
        assert parameters_of(ROOT / "notebooks" / f"{name}.ipynb")["preset"] == DEFAULT_PRESET
    assert OWN_IMAGES.count(run_id("gan", resolve().gan)) == 2  # what make study trains
