"""Write the exact versions and hashes that the extension installs: GLMAESegmentation/Resources/*_lock.txt.

    python development/lock.py

The versions are those of constraints.txt, with which everything is tested. Needs uv (pip install uv), the internet and
Python 3.11 or later.

There are hashes of the wheels for the systems and versions of Python that the engine runs on, and of no others. PyTorch
has another file, and so another hash, for each kind of graphics card, and brings the libraries for it in exact versions
of its own: its hashes, in torch_lock.txt, are those of the package index, which are asked for where it is taken from
there (`GLMAESegmentationLib.setup.uv.install_packages`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
RESOURCES = ROOT / "GLMAESegmentation" / "Resources"
HEAD = "# Written by development/lock.py.\n"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# System and processor, as markers have them, and the wheels for them.
PLATFORMS = {
    ("win32", "AMD64"): r"win_amd64",
    ("darwin", "arm64"): r"macosx_\d+_\d+_(arm64|universal2)",
    ("darwin", "x86_64"): r"macosx_\d+_\d+_(x86_64|universal2)",
    ("linux", "x86_64"): r"manylinux\w+_x86_64",
    ("linux", "aarch64"): r"manylinux\w+_aarch64",
}
# Slicer for macOS, whose pip fetches uv, is a program for Intel's processors; for these there is no PyTorch.
ENGINE = [system for system in PLATFORMS if system != ("darwin", "x86_64")]
# Where PyTorch comes from the package index.
TORCH_OF_THE_INDEX = [("win32", "AMD64"), ("darwin", "arm64")]
# What PyTorch for NVIDIA's cards brings along.
BROUGHT_BY_TORCH = re.compile(r"(nvidia|cuda|triton)\b")


def main() -> int:
    """Write all files."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        print("lock: uv is missing; pip install uv", file=sys.stderr)
        return 1
    packages = compiled(uv, ROOT / "pyproject.toml", "--constraints", str(ROOT / "constraints.txt"))
    torch = next(package for package in packages if package["name"] == "torch")
    engine = [package for package in packages if not BROUGHT_BY_TORCH.match(package["name"])]
    bare = f"torch=={torch['version']}\n"
    write("engine_lock.txt", [bare if package is torch else entry(package, ENGINE) for package in engine])
    write("torch_lock.txt", [entry(torch, TORCH_OF_THE_INDEX)])
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "uv.txt"
        version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        wanted.write_text(f"uv=={version}\n", encoding="utf-8")
        write("uv_lock.txt", [entry(package, list(PLATFORMS)) for package in compiled(uv, wanted)])
    return 0


def write(name: str, entries: Sequence[str]) -> None:
    """Write a lock."""
    (RESOURCES / name).write_text(HEAD + "".join(entries), encoding="utf-8", newline="\n")


def compiled(uv: str, requirements: Path, *more: str) -> list[dict[str, Any]]:
    """All that `requirements` need, for all systems and versions of Python (PEP 751)."""
    words = [uv, "pip", "compile", str(requirements), *more, "--universal", "--python-version", PYTHONS[0]]
    words += ["--no-python-downloads", "--format", "pylock.toml", "--quiet", "--no-config"]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    import tomllib  # here, because the tests of this file run with Python 3.10, too

    packages: list[dict[str, Any]] = tomllib.loads(done.stdout)["packages"]
    return packages


def entry(package: dict[str, Any], systems: Sequence[tuple[str, str]]) -> str:
    """A package as pip takes it, with the hashes of the wheels for some systems.

    Raises:
        SystemExit: there is none for one of them.
    """
    marker, hashes = package.get("marker", ""), set()
    for system, machine in systems:
        for python in PYTHONS:
            here = {"sys_platform": system, "platform_machine": machine, "python_full_version": f"{python}.0"}
            here["python_version"] = python
            if marker and not Marker(marker).evaluate(here):
                continue
            found = {
                wheel["hashes"]["sha256"]
                for wheel in package.get("wheels", ())
                if fits(wheel.get("name") or wheel["url"].rsplit("/", 1)[1], system, machine, python)
            }
            if not found:
                raise SystemExit(f"lock: no wheel of {package['name']} for {system}, {machine}, Python {python}")
            hashes |= found
    first = f"{package['name']}=={package['version']}" + (f" ; {marker}" if marker else "")
    return " \\\n    ".join([first, *(f"--hash=sha256:{text}" for text in sorted(hashes))]) + "\n"


def fits(wheel: str, system: str, machine: str, python: str) -> bool:
    """Whether a wheel can be installed, by its name."""
    own, platform = python.replace(".", ""), PLATFORMS[system, machine]
    for tag in parse_wheel_filename(wheel)[3]:
        stable = re.fullmatch(r"cp3(\d+)", tag.interpreter) if tag.abi == "abi3" else None
        if not (
            (tag.interpreter == f"cp{own}" and tag.abi in (f"cp{own}", "none"))
            or (stable and int(stable[1]) <= int(own[1:]))
            or (tag.interpreter in ("py3", f"py{own}") and tag.abi == "none")
        ):
            continue
        if tag.platform == "any" or re.fullmatch(platform, tag.platform):
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
