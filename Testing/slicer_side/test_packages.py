"""What is there of the packages, told from folders as pip leaves them; nothing is imported."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from site_packages import GOOD, OWN, SitePackages

from GLMAESegmentationLib.setup import packages
from GLMAESegmentationLib.setup.packages import (
    TORCH,
    installed_packages,
    lacking,
    package_state,
    release,
    requirements,
    space_needed,
    torch_size,
    what_is_missing,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    site = SitePackages(tmp_path / "Slicer 5.12 漢字" / "site-packages")
    monkeypatch.setattr(sys, "path", [str(site.folder), str(site.folder)])  # a folder twice is no second installation
    return site


def test_all_is_there(site: SitePackages) -> None:
    for name, version in GOOD.items():
        site.add(name, version)
    found = installed_packages()
    assert {package.name: package.found for package in found} == GOOD
    assert {package.state for package in found} == {"installed"}
    assert [package.name for package in lacking(installed_packages())] == []
    assert what_is_missing(found) == ""
    assert space_needed(found) == 0


def test_nothing_is_there(site: SitePackages) -> None:
    for name in ("SimpleITK", "numpy"):
        site.add(name, GOOD[name])
    found = installed_packages()
    assert [package.name for package in lacking(installed_packages())] == ["torch", *OWN]
    sentence = what_is_missing(found)
    assert sentence.startswith(f"GLMAE needs PyTorch 2.8, {', '.join(OWN)} (about ")
    assert len(re.findall(r"[\d.]+ (GB|MB)", sentence)) == 2
    assert "interrupted" not in sentence
    assert space_needed(found) > torch_size().installed * 1e6


def test_an_older_torch_is_named_with_what_there_is(site: SitePackages) -> None:
    for name, version in (GOOD | {"torch": "2.5.1+cpu"}).items():
        site.add(name, version)
    assert package_state(TORCH).state == "too old"
    assert "PyTorch 2.8 or later (there is 2.5.1+cpu)" in what_is_missing(installed_packages())


@pytest.mark.parametrize("loss", ["a library", "the metadata", "the code", "an update half done"])
def test_an_interrupted_installation_is_found(site: SitePackages, loss: str) -> None:
    site.add("torch", GOOD["torch"])
    assert package_state(TORCH).state == "installed"
    info = site.folder / f"torch-{GOOD['torch']}.dist-info"
    if loss == "a library":
        (site.folder / "torch" / "core.so").unlink()
    elif loss == "the metadata":
        info.rename(site.folder / "~orch-2.8.0.dist-info")
    elif loss == "the code":
        (site.folder / "torch").rename(site.folder / "~orch")
    else:
        new = site.folder / "torch-2.9.0.dist-info"
        new.mkdir()
        (new / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n", encoding="utf-8")
    state = package_state(TORCH)
    assert state.state == "incomplete"
    assert what_is_missing([state]).endswith("An earlier installation was interrupted; Install repairs it.")


def test_what_slicer_brings_is_not_for_us_to_install(site: SitePackages) -> None:
    for name, version in (GOOD | {"numpy": "1.20.0"}).items():
        site.add(name, version)
    assert what_is_missing(installed_packages()) == "numpy, which Slicer brings, cannot be used; install Slicer again."


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.8.0+cu126", (2, 8)), ("2.10.1", (2, 10, 1)), ("2.8.0rc1", (2, 8)), ("1!3.0", (3,)), ("unknown", ())],
)
def test_versions_are_compared_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert release(version) == numbers
    assert release("2.10") > release("2.8.1") > release("2.8")


def test_the_real_packages_of_this_environment() -> None:
    """Whatever pip, or a system's package manager, really wrote."""
    assert {package.name: package.state for package in installed_packages()} == dict.fromkeys(GOOD, "installed")


def test_requirements_are_those_of_the_engine() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"(?ms)^dependencies = \[(.*?)^\]", text)
    assert block is not None
    assert {TORCH, *requirements(), *packages.BROUGHT_BY_SLICER} == set(re.findall(r'"([^"]+)"', block[1]))
    assert set(OWN) <= set(packages.SIZES)
