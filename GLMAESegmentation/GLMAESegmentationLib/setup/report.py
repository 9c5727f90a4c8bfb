"""The text behind "Check my set-up": Slicer, the engine's Python and each device, to be pasted into a forum post."""

from __future__ import annotations

from pathlib import Path


def set_up_report(check: str, engine: str) -> str:
    """The whole report. It names no person, folder, scan or patient.

    Args:
        check: what the check printed.
        engine: which Python the engine runs in, and what it lacks.
    """
    lines = [slicer_version(), f"Engine's Python: {engine}", check.strip()]
    return "\n".join(line.replace(str(Path.home()), "~") for line in lines if line)


def slicer_version() -> str:
    """Slicer's version and revision, where this runs in the application."""
    try:
        from slicer import app
    except ImportError:  # slicer-core has no application
        return "Not in the Slicer application"
    return f"3D Slicer {app.applicationVersion} (revision {app.revision})"
