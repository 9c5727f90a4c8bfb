"""Make `.venv` with everything that `make demo` and `make test` need, or say in one line why it cannot be made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
READY = ENVIRONMENT / "ready"
SUPPORTED = ((3, 10), (3, 13))
# torch's builds with GPU support for Linux unpack to about 8 GB, all others stay under 3 GB; pip chooses.
GIGABYTES_NEEDED, GIGABYTES_WITH_GPU = 4, 9
SYSTEM_LIBRARIES = "libegl1 libgl1 libxkbcommon0"


def main() -> int:
    """Return 0 when the environment is ready."""
    low, high = SUPPORTED
    if not low <= sys.version_info[:2] <= high:
        return fail(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} is not supported; "
            f"use {low[0]}.{low[1]} to {high[0]}.{high[1]}, for example: make PYTHON=python3.12"
        )
    python = interpreter()
    if not python.exists() or not imports(python, "pip")[0]:
        free = gigabytes_free(ROOT)
        if free < GIGABYTES_NEEDED:
            return fail(f"{ROOT}: {free:.1f} GB free, about {GIGABYTES_NEEDED} GB are needed; free some space")
        if free < GIGABYTES_WITH_GPU and sys.platform == "linux":
            print(f"{free:.1f} GB free: torch's builds for GPUs need about {GIGABYTES_WITH_GPU} GB, for the CPU less.")
        print(f"Making {ENVIRONMENT} (several minutes the first time) ...", flush=True)
        try:
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return fail(f"{ENVIRONMENT} could not be made: {error}; on Debian or Ubuntu: apt-get install python3-venv")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[test,benchmarks]"]
    installed = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace")
    if installed.returncode:
        if "No space left on device" in installed.stderr:  # pip unpacks in the folder for temporary files first
            folder = min(ROOT, Path(tempfile.gettempdir()), key=gigabytes_free)
            return fail(
                f"the packages do not fit: {folder} has {gigabytes_free(folder):.1f} GB free, torch's builds for GPUs "
                f"need about {GIGABYTES_WITH_GPU} GB; free some space and run make setup again"
            )
        return fail(f"the packages could not be installed: {cause(installed.stderr)}; run make setup again to go on")
    for package in ("torch", "SimpleITK", "slicer"):
        works, message = imports(python, package)
        if not works:
            return fail(f"{package} does not start: {message}; {remedy(message)}")
    READY.touch()
    return 0


def interpreter() -> Path:
    """Python of the environment."""
    return ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def gigabytes_free(folder: Path) -> float:
    """Free space of the folder's file system."""
    return shutil.disk_usage(folder).free / 1e9


def imports(python: Path, package: str) -> tuple[bool, str]:
    """Whether the package can be imported, and the last line of what it said if not."""
    tried = subprocess.run(
        [str(python), "-c", f"import {package}"], capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    return tried.returncode == 0, cause(tried.stderr)


def cause(text: str) -> str:
    """The line that names the cause: pip's first "ERROR", else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors[0] if errors else lines[-1] if lines else "no message").rstrip(".")


def remedy(message: str) -> str:
    """What to do about a package that is installed but does not start."""
    if "cannot open shared object" in message:
        return f"a system library is missing, on Debian or Ubuntu: apt-get install {SYSTEM_LIBRARIES}"
    return f"remove {ENVIRONMENT} and run make setup again"


def fail(sentence: str) -> int:
    """Print one line."""
    print(f"setup: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
