"""Why an installation failed, by name, from what pip and uv said: their exit status is always the same."""

from __future__ import annotations

import re

# What uv and pip say, in lower case, tells the causes apart.
_SIGNS: tuple[tuple[str, str], ...] = (
    ("no space", r"no space left|os error 28\b|errno 28\b|os error 112\b|not enough space|disk is full|quota exceeded"),
    ("wrong hash", r"hash mismatch|do not match the hashes"),
    (
        "proxy",
        r"proxyerror|cannot connect to proxy|407 proxy|proxy authentication|tunnel error|unsuccessful tunnel|"
        r"invalid peer certificate|unknownissuer|certificate verify failed|sslerror|self.signed certificate",
    ),
    (
        "offline",
        r"dns error|failed to lookup address|name or service not known|getaddrinfo failed|nodename nor servname|"
        r"network is unreachable|failed to establish a new connection|newconnectionerror|connect ?timeout|"
        r"connection timed out|operation timed out|temporary failure in name|max retries exceeded|read timed out|"
        r"connection refused|connection reset|client error \(connect\)|error sending request|unreachable host|"
        r"no matching distribution found for uv\b",  # there is one for each kind of computer
    ),
    ("in use", r"os error (5|13|32)\b|winerror (5|32)\b|access is denied|permission denied|used by another process"),
)


def name_of_failure(log: str, offline: bool, proxied: bool) -> tuple[str, str]:
    """What went wrong, and a detail, from what pip or uv said last.

    Args:
        log: their words.
        offline: whether they were to install from a folder of wheels.
        proxied: whether a proxy stands between the computer and the internet.
    """
    text = log.lower()
    if offline:
        absent = re.search(
            r"because ([\w.-]+)(?:[<>=!~][^ ]*)? was not found|because there (?:is|are) no versions? of ([\w.-]+)|"
            r"no matching distribution found for ([\w.-]+)|because ([\w.-]+)(?:==\S+)? has no (?:usable )?wheels|"
            r"([\w.-]+) was not found in the provided|an? offline (python) installation",
            text,
        )
        if absent:
            return "wheel missing", next(filter(None, absent.groups()))
    for name, sign in _SIGNS:
        if re.search(sign, text):
            return "proxy" if name == "offline" and proxied else name, _last_error(log)
    if re.search(r"no solution found|no matching distribution|no wheels with a matching", text) and "torch" in text:
        return "no PyTorch", _last_error(log)
    return "failed", _last_error(log)


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [re.sub(r"(?i)^error: *", "", line) for line in lines if line.lower().startswith("error:")]
    causes = [line.removeprefix("cause:").strip() for line in lines if line.startswith("cause:")]
    return ": ".join([*(errors or lines or ["?"])[-1:], *causes[-1:]]).rstrip(".") + "."
