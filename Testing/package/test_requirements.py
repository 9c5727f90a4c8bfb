"""What the module installs is what the engine needs, in the versions that are tested, and from no certain server."""

from __future__ import annotations

import importlib.util
import re

import pytest
from cmake_text import MODULE, REPOSITORY

from glmae.set_up_check import PACKAGES
from GLMAESegmentationLib.setup.packages import release, requirements

SOURCE = REPOSITORY / "development" / "lock.py"
specification = importlib.util.spec_from_file_location("development_lock", SOURCE)
assert specification is not None
lock = importlib.util.module_from_spec(specification)
specification.loader.exec_module(lock)

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
    without = [(name, version) for name, version, _marker, hashes in locked("engine_lock.txt") if not hashes]
    assert [name for name, _version in without] == ["torch"]
    (torch,) = locked("torch_lock.txt")
    assert torch[:2] == without[0]
    assert torch[3] == 2 * len(lock.PYTHONS)  # Windows, and Macs with an Apple processor
    (uv,) = locked("uv_lock.txt")
    assert uv[0] == "uv"
    assert uv[3] >= len(lock.PLATFORMS)


@pytest.mark.parametrize(
    ("wheel", "fitting"),
    [
        ("a-1-py3-none-any.whl", 20),
        ("a-1-py2.py3-none-any.whl", 20),
        ("a-1-cp312-cp312-win_amd64.whl", 1),
        ("a-1-cp312-cp312-macosx_10_13_universal2.whl", 2),
        ("a-1-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 1),
        ("a-1-cp311-abi3-manylinux_2_28_aarch64.whl", 3),
        ("uv-1-py3-none-macosx_10_12_x86_64.whl", 4),
        *(
            (f"a-1-{tags}.whl", 0)
            for tags in ("cp313-cp313t-win_amd64", "cp39-cp39-win_amd64", "pp310-pypy310_pp73-any")
        ),
        *((f"a-1-cp312-cp312-{system}.whl", 0) for system in ("musllinux_1_2_x86_64", "win32", "manylinux_2_28_s390x")),
    ],
)
def test_wheels_of_the_systems_and_pythons_that_the_engine_runs_on(wheel: str, fitting: int) -> None:
    assert sum(lock.fits(wheel, *system, python) for system in lock.PLATFORMS for python in lock.PYTHONS) == fitting


def test_a_package_that_one_system_lacks_is_not_locked() -> None:
    names = ("a-1-cp312-cp312-win_amd64.whl", "a-1-py3-none-macosx_11_0_arm64.whl")
    wheels = [{"url": f"x/{name}", "hashes": {"sha256": str(number)}} for number, name in enumerate(names)]
    package = {"name": "a", "version": "1", "marker": "python_full_version >= '3.12'", "wheels": wheels}
    with pytest.raises(SystemExit, match=r"no wheel of a for win32, AMD64, Python 3\.13"):
        lock.entry(package, lock.TORCH_OF_THE_INDEX)
    package["marker"] += " and python_full_version < '3.13'"
    assert lock.entry(package, lock.TORCH_OF_THE_INDEX).count("--hash") == 2
    wheels.append({"url": "x/a-1-cp312-cp312-win32.whl", "hashes": {"sha256": "no"}})
    assert "no" not in lock.entry(package, lock.TORCH_OF_THE_INDEX)
