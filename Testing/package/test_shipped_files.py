"""What the module's CMakeLists.txt ships is what is on disk: a file that is not listed would be missing for users."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cmake_text import MODULE, REPOSITORY, called, variables

LISTS = variables(MODULE / "CMakeLists.txt")
# Not shipped: what tools leave in the source tree.
LEFTOVERS = {"__pycache__", "Thumbs.db"}


def on_disk(folder: Path, pattern: str) -> set[str]:
    files = (path.relative_to(MODULE) for path in folder.rglob(pattern) if path.is_file())
    return {
        file.as_posix()
        for file in files
        if not LEFTOVERS & set(file.parts) and not any(part.startswith(".") for part in file.parts)
    }


def test_every_script_is_listed() -> None:
    listed = LISTS["MODULE_PYTHON_SCRIPTS"]
    assert len(listed) == len(set(listed))
    assert {f for f in listed if "/" in f} == on_disk(MODULE / "glmae", "*.py") | on_disk(
        MODULE / "GLMAESegmentationLib", "*.py"
    )
    assert [f for f in listed if "/" not in f] == ["GLMAESegmentation.py"]


def test_every_resource_is_listed() -> None:
    listed = LISTS["MODULE_PYTHON_RESOURCES"]
    assert len(listed) == len(set(listed))
    assert set(listed) == on_disk(MODULE / "Resources", "*")


def test_nothing_else_lies_in_the_engine() -> None:
    """Data files beside the code would be forgotten: they belong into Resources."""
    others = {name for name in on_disk(MODULE / "glmae", "*") if not name.endswith((".py", "py.typed"))}
    assert others == set()


def test_no_listed_file_is_ignored_by_git() -> None:
    """An ignored file is on this disk only and would be missing in the build."""
    listed = LISTS["MODULE_PYTHON_SCRIPTS"] + LISTS["MODULE_PYTHON_RESOURCES"]
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        input="\n".join(f"GLMAESegmentation/{name}" for name in listed),
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=REPOSITORY,
        check=False,
    )
    assert ignored.stdout.split() == []


def test_module_is_built_from_the_lists() -> None:
    (build,) = called(MODULE / "CMakeLists.txt", "slicerMacroBuildScriptedModule")
    assert build == (
        "NAME ${MODULE_NAME} SCRIPTS ${MODULE_PYTHON_SCRIPTS} RESOURCES ${MODULE_PYTHON_RESOURCES} WITH_GENERIC_TESTS"
    )
    assert LISTS["MODULE_NAME"] == ["GLMAESegmentation"]
    assert called(MODULE / "CMakeLists.txt", "slicer_add_python_unittest") == ["SCRIPT ${MODULE_NAME}.py"]
