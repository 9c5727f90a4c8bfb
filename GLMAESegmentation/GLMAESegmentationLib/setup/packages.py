"""The Python packages that training and segmenting need: what is installed, what is missing, how large it is.

Reads the packages' metadata and imports none of them: torch must stay out of Slicer's own process.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from ..translation import tr as _

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# MONAI 1.6 needs it. Asked for first and by itself: together with the others pip would replace its CUDA build.
TORCH = "torch>=2.8"
# Slicer has them, and other extensions rely on its versions: never installed, only looked at.
BROUGHT_BY_SLICER = ("SimpleITK>=2.4", "numpy>=1.26")

State = Literal["installed", "missing", "too old", "incomplete"]
# Name of the folder to import, where it is not that of the package.
_IMPORTED_AS = {"simpleitk": "SimpleITK", "pillow": "PIL"}
_NATIVE = (".so", ".pyd", ".dll", ".dylib")


@dataclass(frozen=True)
class Size:
    """About how large a package is, with what it brings along, in MB."""

    download: int
    installed: int


def torch_size(platform: str = sys.platform) -> Size:
    """PyTorch's size: with CUDA on Linux and Windows, for Apple's GPU on macOS."""
    return {"darwin": Size(100, 450), "win32": Size(2700, 5000)}.get(platform, Size(3000, 7500))


SIZES: Mapping[str, Size] = {
    "monai": Size(2, 16),
    "scipy": Size(40, 145),
    "safetensors": Size(1, 2),
    "matplotlib": Size(20, 95),
    "tqdm": Size(1, 1),
    "pillow": Size(7, 20),
    "filelock": Size(1, 1),
    "psutil": Size(1, 2),
}


@dataclass(frozen=True)
class Package:
    """A package and what is there of it.

    Attributes:
        name: as pip knows it.
        needed: the lowest version that will do.
        found: the version that is installed; None where there is none, or it is not known.
        state: installed, missing, too old, or incomplete (an installation was interrupted).
    """

    name: str
    needed: str
    found: str | None
    state: State

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}>={self.needed}"

    @property
    def size(self) -> Size:
        """What installing it takes."""
        return torch_size() if self.name == "torch" else SIZES.get(self.name, Size(10, 50))


def requirements(path: Path = REQUIREMENTS) -> tuple[str, ...]:
    """What the engine needs besides torch and what Slicer brings: the lines of requirements.txt."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith(("#", "-")))


def installed_packages() -> tuple[Package, ...]:
    """The state of every package that the engine needs, torch first."""
    importlib.invalidate_caches()
    return tuple(package_state(line) for line in (TORCH, *requirements(), *BROUGHT_BY_SLICER))


def lacking(packages: Iterable[Package]) -> tuple[Package, ...]:
    """Those that have to be installed, updated or repaired."""
    return tuple(package for package in packages if package.state != "installed")


def package_state(requirement: str) -> Package:
    """What is there of one package.

    Args:
        requirement: NAME>=VERSION.
    """
    name, _separator, needed = requirement.partition(">=")
    found = list(_distributions(name))
    if not found:
        # Files without metadata: pip writes the metadata last.
        return Package(name, needed, None, "incomplete" if _has_files(name) else "missing")
    version = found[0].metadata["Version"] if len(found) == 1 else None
    if version is None or _lacks_files(found[0], name):
        return Package(name, needed, version, "incomplete")
    return Package(name, needed, version, "too old" if release(version) < release(needed) else "installed")


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version that are compared: `2.8.0+cu126` gives (2, 8)."""
    matched = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in matched[1].split(".")] if matched else []
    while numbers and numbers[-1] == 0:  # 2.8 and 2.8.0 are the same
        numbers.pop()
    return tuple(numbers)


def what_is_missing(packages: Iterable[Package]) -> str:
    """One sentence: what is needed and how large it is; "" when nothing is."""
    lacking = [package for package in packages if package.state != "installed"]
    own = [package for package in lacking if not _of_slicer(package)]
    if any(map(_of_slicer, lacking)):
        names = ", ".join(package.name for package in lacking if _of_slicer(package))
        return _("{names}, which Slicer brings, cannot be used; install Slicer again.").format(names=names)
    if not own:
        return ""
    parts = [_described(package) for package in own]
    text = _("GLMAE needs {packages} (about {download} to download, {installed} on the disk).").format(
        packages=", ".join(parts),
        download=_megabytes(sum(package.size.download for package in own)),
        installed=_megabytes(sum(package.size.installed for package in own)),
    )
    if any(package.state == "incomplete" for package in own):
        text += " " + _("An earlier installation was interrupted; Install repairs it.")
    return text


def space_needed(packages: Iterable[Package]) -> int:
    """Bytes of free disk for installing what is not there: pip keeps the download until it is unpacked."""
    return sum(
        (package.size.download + package.size.installed) * 1_000_000
        for package in packages
        if package.state != "installed"
    )


def _described(package: Package) -> str:
    name = "PyTorch" if package.name == "torch" else package.name
    if package.state == "too old":
        return _("{name} {needed} or later (there is {found})").format(
            name=name, needed=package.needed, found=package.found
        )
    return f"{name} {package.needed}" if package.name == "torch" else name


def _megabytes(count: int) -> str:
    return f"{count / 1000:.1f} GB" if count >= 1000 else f"{count} MB"


def _of_slicer(package: Package) -> bool:
    return package.requirement in BROUGHT_BY_SLICER


def _import_name(name: str) -> str:
    return _IMPORTED_AS.get(name.lower(), name)


def _distributions(name: str) -> Iterable[metadata.Distribution]:
    seen = set()
    for found in metadata.distributions(name=name):
        place = str(found.locate_file("")) + str(found.metadata["Version"])
        if place not in seen:  # a folder may be on the path twice
            seen.add(place)
            yield found


def _has_files(name: str) -> bool:
    return PathFinder.find_spec(_import_name(name)) is not None


def _lacks_files(found: metadata.Distribution, name: str) -> bool:
    """Whether the files that make up the package are gone although its metadata are there."""
    # Read as text: `found.files` takes a tenth of a second for the ten thousand files of torch.
    listed = (line.split(",")[0] for line in (found.read_text("RECORD") or "").splitlines())
    wanted = [
        file for file in listed if file.endswith(_NATIVE) or (file.endswith("/__init__.py") and file.count("/") == 1)
    ]
    return not _has_files(name) or not all(Path(str(found.locate_file(file))).exists() for file in wanted)
