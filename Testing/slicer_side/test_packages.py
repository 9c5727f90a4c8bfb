"""What is there of the packages, told from folders as pip leaves them; nothing is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from site_packages import GOOD, SitePackages

from GLMAESegmentationLib.engine.command import clean_environment
from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.setup.interpreter import lacks
from GLMAESegmentationLib.setup.packages import (
    Package,
    damaged_packages,
    described,
    installed_packages,
    lacking,
    release,
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    site = SitePackages(tmp_path / "Slicer 5.12 漢字" / "site-packages")
    monkeypatch.setattr(sys, "path", [str(site.folder), str(site.folder)])
    return site


def state(name: str) -> Package:
    return next(package for package in installed_packages() if package.name == name)


def test_all_is_there(site: SitePackages) -> None:
    for name, version in GOOD.items():
        site.add(name, version)
    found = installed_packages()
    assert {package.name: package.found for package in found} == GOOD
    assert lacking(found) == ()
    assert installed_packages([site.folder]) == found


def test_nothing_is_there(site: SitePackages) -> None:
    assert [package.name for package in lacking(installed_packages())] == list(GOOD)
    assert described(lacking(installed_packages())).startswith("torch missing, monai missing, ")


def test_an_older_torch_is_named_with_what_there_is(site: SitePackages) -> None:
    for name, version in (GOOD | {"torch": "2.5.1+cpu"}).items():
        site.add(name, version)
    assert state("torch").state == "too old"
    assert described(lacking(installed_packages())) == "torch 2.5.1+cpu (older than 2.8)"


@pytest.mark.parametrize("loss", ["a library", "the metadata", "the code"])
def test_an_interrupted_installation_is_found(site: SitePackages, loss: str) -> None:
    site.add("torch", GOOD["torch"])
    assert state("torch").state == "installed"
    info = site.folder / f"torch-{GOOD['torch']}.dist-info"
    if loss == "a library":
        (site.folder / "torch" / "core.so").unlink()
    elif loss == "the metadata":
        info.rename(site.folder / "~orch-2.8.0.dist-info")
    else:
        (site.folder / "torch").rename(site.folder / "~orch")
    assert state("torch").state == "incomplete"


def test_a_second_copy_behind_the_first_changes_nothing(
    site: SitePackages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder on the user's PYTHONPATH comes behind Slicer's own, and is not imported from."""
    for name, version in GOOD.items():
        site.add(name, version)
    second = SitePackages(tmp_path / "of the user")
    second.add("numpy", "1.20.0")
    monkeypatch.setattr(sys, "path", [str(site.folder), str(second.folder)])
    assert lacking(installed_packages()) == ()
    monkeypatch.setattr(sys, "path", [str(second.folder), str(site.folder)])
    assert [package.name for package in lacking(installed_packages())] == ["numpy"]


def test_packages_of_which_files_are_gone_or_changed(site: SitePackages) -> None:
    for name in ("torch", "monai", "scipy"):
        site.add(name, GOOD[name])
    assert damaged_packages(site.folder) == ((), ())
    (site.folder / "torch" / "core.so").unlink()
    (site.folder / "monai" / "core.so").write_text("cut", encoding="utf-8")
    assert damaged_packages(site.folder) == (("torch",), ("monai",))


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.8.0+cu126", (2, 8)), ("2.10.1", (2, 10, 1)), ("2.8.0rc1", (2, 8)), ("1!3.0", (3,)), ("unknown", ())],
)
def test_versions_are_compared_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert release(version) == numbers
    assert release("2.10") > release("2.8.1") > release("2.8")


def test_the_real_packages_of_this_environment() -> None:
    """Whatever pip, or a system's package manager, really wrote; asked in a process, as another interpreter is."""
    assert {package.name: package.state for package in installed_packages()} == dict.fromkeys(GOOD, "installed")
    done = subprocess.run(
        [sys.executable, "-m", "GLMAESegmentationLib.setup.packages"],
        capture_output=True,
        env=clean_environment({}),
        check=True,
    )
    assert lacks(done.stdout) == ""


def test_what_another_interpreter_lacks() -> None:
    assert lacks(b"Python 2.7") == say("python none")
    old = json.dumps({"python": [3, 9], "packages": []}).encode()
    assert lacks(old) == say("python old", found="3.9", needed="3.10")
    torch = {"name": "torch", "needed": "2.8", "found": None, "state": "missing"}
    assert lacks(json.dumps({"python": [3, 12], "packages": [torch]}).encode()) == "torch missing"
