"""What the module installs is what the engine needs, in the versions that are tested, and from no certain server."""

from __future__ import annotations

import re

from cmake_text import MODULE, REPOSITORY

from glmae.set_up_check import PACKAGES
from GLMAESegmentationLib.setup.packages import release, requirements

ENTRY = re.compile(
    r"(?m)^([A-Za-z0-9_.-]+)==(\S+)( ; [^\\\n]+)?( \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+|\n)"
)
RESOURCES = MODULE / "Resources"


def pyproject_dependencies() -> list[str]:
    # Read as text: tomllib is not in Python 3.10.
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"(?ms)^dependencies = \[(.*?)^\]", text)
    assert block is not None
    return re.findall(r'"([^"]+)"', block[1])


def locked(name: str) -> list[tuple[str, str, str, int]]:
    """Name, version, marker and number of hashes of each entry; everything in the file is an entry."""
    head, _newline, text = (RESOURCES / name).read_text(encoding="utf-8").partition("\n")
    assert head == "# Written by development/lock.py."
    assert ENTRY.sub("", text) == ""
    return [(found[1], found[2], (found[3] or "")[3:], found[4].count("--hash")) for found in ENTRY.finditer(text)]


def constraints() -> set[tuple[str, str]]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(";")[0].strip().partition("==") for line in lines if line and not line.startswith("#")]
    return {(normal(name), version) for name, _equals, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_requirements_are_the_engines_dependencies() -> None:
    assert list(requirements()) == pyproject_dependencies()
    assert len(requirements()) > 8


def test_the_set_up_report_has_the_version_of_each() -> None:
    assert sorted(PACKAGES) == sorted(re.split(r"[<>=!~ ]", line)[0] for line in pyproject_dependencies())


def test_lower_bounds_only() -> None:
    """An upper bound would refuse a Python of the user's own for no reason that is known."""
    for line in requirements():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+>=[0-9.]+", line), line


def test_the_lock_names_every_requirement_in_a_version_that_fits() -> None:
    versions = {normal(name): version for name, version, _marker, _hashes in locked("engine_lock.txt")}
    for line in requirements():
        name, _least, least = line.partition(">=")
        assert release(versions[normal(name)]) >= release(least), line


def test_the_locks_versions_are_those_that_everything_is_tested_with() -> None:
    pairs = {(name, version) for name, version, _marker, _hashes in locked("engine_lock.txt")}
    # These are pip's own, or for Windows only: no test needs them.
    assert {name for name, _version in pairs - constraints()} <= {"setuptools", "colorama"}


def test_every_file_has_its_hash_but_for_the_builds_of_pytorch() -> None:
    without = [(name, marker) for name, _version, marker, hashes in locked("engine_lock.txt") if not hashes]
    assert without == [("torch", "sys_platform != 'darwin'")]
    torch = [version for name, version, _marker, _hashes in locked("engine_lock.txt") if name == "torch"]
    assert len(torch) == 2
    assert len(set(torch)) == 1
    (uv,) = locked("uv_lock.txt")
    assert uv[0] == "uv"
    assert uv[3] > 10  # one for each kind of computer
