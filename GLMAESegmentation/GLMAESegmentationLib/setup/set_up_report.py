"""The text behind "Check my set-up": Slicer, the packages and each device, to be pasted into a forum post."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .packages import Package, installed_packages, what_is_missing

MODULE_FOLDER = Path(__file__).resolve().parents[2]
SECONDS = 600


def check_command() -> tuple[str, ...]:
    """The words after the interpreter's name that run the check; its output is `set_up_report`'s `check`.

    For front ends that start processes in their own way; PYTHONPATH must lead to the engine.
    """
    return ("-m", "glmae.set_up_check")


def run_check(interpreter: str | None = None) -> str:
    """Run the check and wait for it, which takes some seconds for each device.

    Args:
        interpreter: None for PythonSlicer beside Slicer, else for the interpreter that runs this.

    Returns:
        What it printed, or a sentence on why it did not run.
    """
    program = interpreter or shutil.which("PythonSlicer") or sys.executable
    paths = [str(MODULE_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            [program, *check_command()],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=SECONDS,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # on Windows no console flashes up
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"The check did not run: {error}"
    return done.stdout.strip() or f"The check ended with status {done.returncode}: {done.stderr.strip()[-500:]}"


def set_up_report(check: str, packages: Sequence[Package] | None = None) -> str:
    """The whole report. It names no person, folder, scan or patient.

    Args:
        check: what the check printed.
        packages: the packages' states; None: as they are now.
    """
    states = installed_packages() if packages is None else tuple(packages)
    unusual = [f"{p.name} {p.found or ''} {p.state}".replace("  ", " ") for p in states if p.state != "installed"]
    lines = [
        slicer_version(),
        check.strip(),
        f"Packages for Slicer: {', '.join(unusual) or 'all installed'}",
        what_is_missing(states),
    ]
    return "\n".join(line.replace(str(Path.home()), "~") for line in lines if line)


def slicer_version() -> str:
    """Slicer's version and revision, where this runs in the application."""
    try:
        from slicer import app
    except ImportError:  # slicer-core has no application
        return "Not in the Slicer application"
    return f"3D Slicer {app.applicationVersion} (revision {app.revision})"
