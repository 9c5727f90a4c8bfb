"""How an installation ended: as a failure with its cause and remedy, also where it ended well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.failures import Failure
from ..translation import tr as _
from .failure_name import EndingName

GOOD = ("installed", "removed", "canceled")


def ending_of(event: Mapping[str, Any] | None) -> Failure:
    """The ending in words.

    Args:
        event: the installer's last one; None when it ended without.
    """
    name: EndingName = "interrupted" if event is None else event["name"]
    detail = "" if event is None else str(event.get("detail", ""))
    if name == "no space":
        free, needed = (float(number) / 1e9 for number in detail.split())
        detail = _("{needed:.1f} GB are needed and {free:.1f} GB are free").format(needed=needed, free=free)
    again = _("Press Install again; it goes on where it was.")
    words: dict[EndingName, tuple[str, str]] = {
        "installed": (_("Everything that GLMAE needs is installed."), ""),
        "removed": (_("The engine's environment was removed."), ""),
        "canceled": (_("The installation was canceled."), again),
        "interrupted": (_("The installation was interrupted."), again),
        "busy": (
            _("Another Slicer is installing or removing the engine's environment."),
            _("Wait until it is done; this panel then finds it."),
        ),
        "offline": (
            _("The package servers could not be reached."),
            _("Connect to the internet and press Install again, or install from a folder of wheels."),
        ),
        "proxy": (
            _("The package servers could not be reached through the proxy of this network."),
            _(
                "Ask for its address and certificate, set HTTPS_PROXY and SSL_CERT_FILE before Slicer starts, "
                "or install from a folder of wheels."
            ),
        ),
        "no space": (
            _("The disk is too small: {detail}.").format(detail=detail),
            _("Free some space, then press Install again."),
        ),
        "wrong hash": (
            _("A downloaded package is not the one that GLMAE was tested with: {detail}").format(detail=detail),
            _("Press Install again; if it fails again, the network or the folder of wheels changes packages."),
        ),
        "wheel missing": (
            _("The folder of wheels has no {detail} for this computer.").format(detail=detail),
            _("Fill the folder again with the command in the documentation, for this system."),
        ),
        "no PyTorch": (
            _("There is no PyTorch that is new enough for this computer."),
            _("On a Mac it needs an Apple processor and macOS 14 or later: update macOS, or use another computer."),
        ),
        "in use": (
            _("Files of the engine's environment are in use or protected: {detail}").format(detail=detail),
            _("Close other Slicers, look at what the virus scanner reports, and press Install again."),
        ),
        "does not work": (
            _("All is installed, but it does not compute: {detail}").format(detail=detail),
            _("Press Install again to repair it; then Check my set-up, and report it with its text."),
        ),
        "failed": (
            _("The installation failed: {detail}").format(detail=detail),
            _("Press Install again; if it fails again, copy the log and report it."),
        ),
    }
    cause, remedy = words[name]
    title = _("Installing ({ending})").format(ending=name)
    return Failure(name, title, cause if cause.endswith(".") else cause + ".", remedy)
