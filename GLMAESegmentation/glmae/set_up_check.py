"""Whether this computer can train: `python -m glmae.set_up_check`. Prints a report that may be pasted into a forum.

Each device is tried in a process of its own, with a 3D convolution forward and backward: a driver that is too old ends
the process that meets it, and the report still appears. The report names no person, computer, folder or scan.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from . import __version__

PACKAGES = ("torch", "monai", "numpy", "scipy", "SimpleITK", "pydicom", "safetensors", "tqdm", "psutil")
TRIED = ("cpu", "mps") if sys.platform == "darwin" else ("cpu", "cuda")
ANSWER_SECONDS = 180  # loading PyTorch the first time takes long on a slow disk or under a virus scanner
NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows no console flashes up
_GIGABYTE = 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; 0 when at least one device computes."""
    parser = argparse.ArgumentParser(prog="python -m glmae.set_up_check", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help=argparse.SUPPRESS)  # in the process of its own
    options = parser.parse_args(arguments)
    if options.device:
        print(json.dumps(tried_here(options.device)))
        return 0
    found = report()
    print(json.dumps(found) if options.json else as_text(found))
    return 0 if any(device["works"] for device in found["devices"].values()) else 1


def report() -> dict[str, Any]:
    """Versions, memory, disk, and for each device whether it computes, as JSON values."""
    return {
        "glmae": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory": memory(),
        "free_disk_gb": round(shutil.disk_usage(tempfile.gettempdir()).free / _GIGABYTE, 1),
        "nvidia_driver": nvidia_driver(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "devices": {name: tried(name) for name in TRIED},
    }


def as_text(found: dict[str, Any]) -> str:
    """The report as lines to read."""
    lines = [
        f"GLMAE {found['glmae']}, Python {found['python']}, {found['system']}",
        f"{found['cores']} cores, memory {found['memory']}, {found['free_disk_gb']} GB free for temporary files",
        f"NVIDIA driver: {found['nvidia_driver'] or 'none found'}",
        "Packages: " + ", ".join(f"{name} {version or 'MISSING'}" for name, version in found["packages"].items()),
    ]
    for name, device in found["devices"].items():
        lines.append(f"Device {name}: {'works, ' if device['works'] else 'does not work: '}{device['message']}")
    if found["nvidia_driver"] and not found["devices"].get("cuda", {"works": True})["works"]:
        lines.append(
            "There is an NVIDIA GPU that PyTorch does not use: update the driver, "
            "then remove the engine's environment and install it again."
        )
    return "\n".join(lines)


def tried(device: str) -> dict[str, Any]:
    """Try `device` in a process of its own: `works`, and `message` with what it is or why it does not work."""
    environment = {**os.environ, "PYTHONPATH": _python_path(), "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "glmae.set_up_check", "--device", device],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=ANSWER_SECONDS,
            check=False,
            creationflags=NO_WINDOW,
        )
    except subprocess.TimeoutExpired:
        return {"works": False, "message": f"no answer within {ANSWER_SECONDS} s"}
    except OSError as error:
        return {"works": False, "message": f"Python did not start ({error.strerror})"}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-1:]
    return {
        "works": False,
        "message": f"PyTorch ended the process with status {done.returncode} {' '.join(last)}".strip(),
    }


def tried_here(device: str) -> dict[str, Any]:
    """Compute on `device` in this process."""
    try:
        import torch

        from .devices import choose_device, precision
        from .errors import RequestError
    except (ImportError, OSError) as error:
        return {"works": False, "message": f"PyTorch does not load ({_without_folders(str(error))})"}
    try:
        chosen, _reason = choose_device(device)
    except RequestError as error:
        return {"works": False, "message": _without_folders(str(error).split(";")[0])}
    name = platform.machine()
    details = ""
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        details = f", {free / _GIGABYTE:.1f} of {total / _GIGABYTE:.1f} GB free, CUDA {torch.version.cuda}"
    elif chosen.type == "cpu":
        details = f", {torch.get_num_threads()} threads"
    kind = str(precision(chosen)).removeprefix("torch.")
    return {"works": True, "message": f"{name}{details}, {kind}"}


def installed_version(name: str) -> str | None:
    """Version of a package, without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def memory() -> str:
    """The computer's memory in words; psutil knows it on all systems."""
    try:
        found = importlib.import_module("psutil").virtual_memory()
    except ImportError:  # the report is for set-ups in which something is missing
        return "unknown (psutil is missing)"
    return f"{found.available / _GIGABYTE:.1f} of {found.total / _GIGABYTE:.1f} GB free"


def nvidia_driver() -> str | None:
    """GPU and driver as NVIDIA's own tool names them; None where there is no such tool or no GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            creationflags=NO_WINDOW,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "; ".join(done.stdout.split("\n")).strip("; ") or None if done.returncode == 0 else None


def _python_path() -> str:
    own = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])


def _without_folders(text: str) -> str:
    """Home folders hold names of people."""
    return text.replace(str(Path.home()), "~")


if __name__ == "__main__":
    sys.exit(main())
