"""The Python packages that the engine needs, and what is there of them in some Python.

Reads the packages' metadata and imports none of them: torch must stay out of Slicer's own process. Run as a program in
another interpreter, it prints what that one has, as JSON.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
REQUIREMENTS = RESOURCES / "requirements.txt"

State = Literal["installed", "missing", "too old", "incomplete"]
# Name of the folder to import, where it is not that of the package.
_IMPORTED_AS = {"simpleitk": "SimpleITK"}
_NATIVE = (".so", ".pyd", ".dll", ".dylib")


@dataclass(frozen=True)
class Package:
    """A package and what is there of it.

    Attributes:
        name: as pip knows it.
        needed: the lowest version that will do.
        found: the version that is installed; None where there is none, or it is not known.
        state: installed, missing, too old, or incomplete (files are gone, or an installation was interrupted).
    """

    name: str
    needed: str
    found: str | None
    state: State


def requirements(path: Path = REQUIREMENTS) -> tuple[str, ...]:
    """What the engine needs, with the lowest versions: the lines of requirements.txt."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def installed_packages(path: Sequence[Path] | None = None) -> tuple[Package, ...]:
    """The state of every package that the engine needs.

    Args:
        path: the folders to look into; None: where this interpreter imports from.
    """
    importlib.invalidate_caches()
    folders = sys.path if path is None else [str(folder) for folder in path]
    return tuple(_package(line, folders) for line in requirements())


def lacking(packages: Iterable[Package]) -> tuple[Package, ...]:
    """Those that have to be installed, updated or repaired."""
    return tuple(package for package in packages if package.state != "installed")


def described(packages: Iterable[Package]) -> str:
    """What is wrong with each, after its name."""
    return ", ".join(
        f"{package.name} {package.found} (older than {package.needed})"
        if package.state == "too old"
        else f"{package.name} {package.state}"
        for package in packages
    )


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version that are compared: `2.8.0+cu126` gives (2, 8)."""
    matched = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in matched[1].split(".")] if matched else []
    while numbers and numbers[-1] == 0:  # 2.8 and 2.8.0 are the same
        numbers.pop()
    return tuple(numbers)


def damaged_packages(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the packages in a folder of packages of which files are gone, and of those of which files were changed.

    Compares sizes, not contents: reading 7 GB takes minutes.
    """
    gone, changed = set(), set()
    for found in metadata.distributions(path=[str(folder)]):
        name = found.metadata["Name"] or ""
        listed = found.read_text("RECORD")
        if not name or listed is None:  # its metadata are gone: uv installs it anew by itself
            continue
        for line in listed.splitlines():
            file, _hash, size = line.rsplit(",", 2)
            if not size or file.startswith(('"', "..")):
                continue
            try:
                if (folder / file).stat().st_size != int(size):
                    changed.add(name)
            except OSError:
                gone.add(name)
    return tuple(sorted(gone)), tuple(sorted(changed))


def _package(requirement: str, folders: Sequence[str]) -> Package:
    name, _separator, needed = requirement.partition(">=")
    # Of several copies the first one is imported, and so the first one counts.
    found = next(iter(metadata.distributions(name=name, path=list(folders))), None)
    if found is None:
        # Files without metadata: pip writes the metadata last.
        return Package(name, needed, None, "incomplete" if _has_files(name, folders) else "missing")
    version = found.metadata["Version"]
    if version is None or _lacks_files(found, name, folders):
        return Package(name, needed, version, "incomplete")
    return Package(name, needed, version, "too old" if release(version) < release(needed) else "installed")


def _has_files(name: str, folders: Sequence[str]) -> bool:
    return PathFinder.find_spec(_IMPORTED_AS.get(name.lower(), name), list(folders)) is not None


def _lacks_files(found: metadata.Distribution, name: str, folders: Sequence[str]) -> bool:
    """Whether the files that make up the package are gone although its metadata are there."""
    # Read as text: `found.files` takes a tenth of a second for the ten thousand files of torch.
    listed = (line.split(",")[0] for line in (found.read_text("RECORD") or "").splitlines())
    wanted = [
        file for file in listed if file.endswith(_NATIVE) or (file.endswith("/__init__.py") and file.count("/") == 1)
    ]
    return not _has_files(name, folders) or not all(Path(str(found.locate_file(file))).exists() for file in wanted)


if __name__ == "__main__":
    print(json.dumps({"python": sys.version_info[:2], "packages": [asdict(each) for each in installed_packages()]}))
