"""How an installation ended, in words: a name, a cause, a remedy. Pip's own words tell the causes apart."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, replace
from typing import Literal

from ..translation import tr as _

EndingName = Literal[
    "installed",
    "refused",
    "interrupted",
    "offline",
    "proxy",
    "no space",
    "wrong torch",
    "no PyTorch extension",
    "wheel missing",
    "Slicer damaged",
    "failed",
]


@dataclass(frozen=True)
class Ending:
    """How an installation ended.

    Attributes:
        name: "installed", or what went wrong.
        cause: a sentence.
        remedy: a sentence; "" when there is nothing to do.
        restart: whether Slicer should be restarted: PyTorch was loaded by the installation.
        log: what pip said.
    """

    name: EndingName
    cause: str
    remedy: str = ""
    restart: bool = False
    log: str = ""

    @property
    def sentence(self) -> str:
        """Cause and remedy in one line."""
        return " ".join(part for part in (self.cause, self.remedy) if part)


def failure_of(log: str, torch: str, bytes_needed: int, bytes_free: int) -> Ending:
    """The cause of a failure, from what pip said: its exit status is always the same.

    Args:
        log: pip's words.
        torch: the requirement that PyTorch was asked for with.
        bytes_needed: of disk space.
        bytes_free: of disk space.
    """
    text = log.lower()
    if re.search(r"no space left|errno 28|not enough space|disk is full", text):
        return replace(no_space(bytes_needed, bytes_free), log=log)
    if re.search(r"proxyerror|cannot connect to proxy|407 proxy|proxy authentication|tunnel connection failed", text):
        return _proxy(log)
    unreachable = re.search(
        r"newconnectionerror|name or service not known|getaddrinfo failed|nodename nor servname|network is unreachable|"
        r"failed to establish a new connection|connecttimeout|connection timed out|temporary failure in name|"
        r"max retries exceeded|read timed out|certificate verify failed|sslerror|connection refused",
        text,
    )
    if unreachable:
        # A certificate that nobody knows is that of a proxy which looks into the traffic.
        if urllib.request.getproxies() or "certificate verify failed" in text:
            return _proxy(log)
        return Ending(
            "offline",
            _("The package servers could not be reached."),
            _("Connect to the internet and press Install again, or install from a folder of wheels."),
            log=log,
        )
    if "no matching distribution" in text and "torch" in text:
        return Ending(
            "wrong torch",
            _("There is no {torch} for this computer.").format(torch=torch),
            _("Update Slicer and the graphics driver, then press Install again."),
            log=log,
        )
    if re.search(r"winerror (5|32)|access is denied|permission denied|being used by another process", text):
        return Ending(
            "failed",
            _("Files of a package are in use or protected."),
            _("Restart Slicer and press Install before anything else; Slicer must be installed where you may write."),
            restart=True,
            log=log,
        )
    return Ending(
        "failed",
        _("The installation failed: {line}").format(line=_last_error(log)),
        _("Press Install again; if it fails again, copy the log and report it."),
        log=log,
    )


def no_space(needed: int, free: int) -> Ending:
    """The disk is too small, known beforehand or from pip; both in bytes."""
    return Ending(
        "no space",
        _("The disk with Slicer has {free:.1f} GB free; the packages need about {needed:.1f} GB.").format(
            free=free / 1e9, needed=needed / 1e9
        ),
        _("Free some space, then press Install again."),
    )


def _proxy(log: str) -> Ending:
    return Ending(
        "proxy",
        _("The package servers could not be reached through the proxy of this network."),
        _(
            "Ask for its address and certificate, set HTTPS_PROXY (and PIP_CERT) before Slicer starts, "
            "or install from a folder of wheels."
        ),
        log=log,
    )


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["?"])[-1].rstrip(".") + "."
