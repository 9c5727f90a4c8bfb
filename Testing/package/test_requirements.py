"""What the module installs into Slicer is what the engine needs, less what Slicer or another extension brings."""

from __future__ import annotations

import re

from cmake_text import MODULE, REPOSITORY

from glmae.set_up_check import PACKAGES

# torch: through the PyTorch extension, else pip replaces its CUDA build; the others come with Slicer.
BROUGHT_BY_SLICER = {"torch", "SimpleITK", "numpy"}


def pyproject_dependencies() -> list[str]:
    # Read as text: tomllib is not in Python 3.10.
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"(?ms)^dependencies = \[(.*?)^\]", text)
    assert block is not None
    return re.findall(r'"([^"]+)"', block[1])


def requirements() -> list[str]:
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_the_engines_dependencies() -> None:
    needed = pyproject_dependencies()
    assert len(needed) > len(BROUGHT_BY_SLICER)
    assert requirements() == [line for line in needed if re.split(r"[<>=!~ ]", line)[0] not in BROUGHT_BY_SLICER]


def test_the_set_up_report_has_the_version_of_each() -> None:
    assert sorted(PACKAGES) == sorted(re.split(r"[<>=!~ ]", line)[0] for line in pyproject_dependencies())


def test_lower_bounds_only() -> None:
    """An upper bound or a pin would take packages away from other extensions in the same Slicer."""
    assert requirements()
    for line in requirements():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+>=[0-9.]+", line), line
