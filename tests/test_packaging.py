"""pyproject.toml, constraints.txt and environment.yml say the same; layers keep their order; a clone is small."""

import subprocess
import tomllib
from itertools import chain

import pytest
import yaml
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rag_lib import __version__
from rag_lib.base import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
EXACT = {canonicalize_name(r.name): r for r in map(Requirement, LINES)}
REQUIRED = [Requirement(r) for r in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())]


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    named = [citation[key] for key in ("version", "license", "title")]
    assert named == [__version__, PROJECT["license"], PROJECT["description"]]
    (paper,) = citation["references"]
    assert [author["alias"] for author in paper["authors"]] == ["张目飞", "李廷", "苏鹏"]
    assert (paper["issn"], paper["year"], paper["start"]) == ("2095-2163", 2023, "187")


@pytest.mark.parametrize("requirement", REQUIRED, ids=lambda r: r.name)
def test_each_dependency_has_a_lower_bound_that_its_exact_version_meets(requirement):
    assert [s.operator for s in requirement.specifier] == [">="]
    (exact,) = EXACT[canonicalize_name(requirement.name)].specifier
    assert exact.operator == "=="
    assert Version(exact.version) in requirement.specifier


def test_every_constraint_is_one_exact_version():
    assert len(EXACT) == len(LINES) > len(REQUIRED)
    assert {s.operator for r in EXACT.values() for s in r.specifier} == {"=="}


def test_the_conda_environment_installs_the_same_project_and_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    python, pip, with_pip = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert with_pip["pip"] == ["--constraint constraints.txt", "--editable .[timm,dev]"]
    makefile = (ROOT / "Makefile").read_text()
    assert "'.[timm,dev]'" in makefile
    assert "'.[timm,dev,browser,ray]'" in makefile  # test-full alone wants a browser and Ray


def test_each_layer_imports_those_below_it_alone():
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_nothing_large_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone to know what is committed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).exists()}
    assert not {name: size for name, size in sizes.items() if size > 3_000_000}
