"""The command lines that make the engine's environment, and the variables they run with. Nothing is started here.

uv (https://docs.astral.sh/uv) makes the environment and installs into it. It is one program in a wheel of its own,
which Slicer's pip fetches without installing it into Slicer's Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .computer import Computer
from .environment import TORCH_LOCK, UV_LOCK, EngineEnvironment

PYTHON = "3.12"
# In a folder of wheels, the archives of Python are in a folder of this name.
ARCHIVES = "python"


@dataclass(frozen=True)
class Source:
    """Where packages come from.

    Attributes:
        wheels: a folder of wheels to install from instead of the internet; None for the internet.
        index: the package index that pip is set up with, as behind a company's proxy; "" for the usual one.
    """

    wheels: Path | None = None
    index: str = ""


def python_name(computer: Computer) -> str:
    """The whole name of a Python among those that uv knows.

    Asked for by its whole name, because uv itself, fetched by the pip of a Slicer built for Intel's processors, would
    take one for these also on an Apple processor: for it there is no PyTorch.
    """
    libc = "gnu" if computer.system == "linux" else "none"
    return f"cpython-{PYTHON}-{computer.system}-{computer.machine}-{libc}"


def fetch_uv(pip: Sequence[str], target: Path, source: Source) -> list[str]:
    """The command of pip, started by `pip`, that puts uv into a folder of its own."""
    words = [*pip, "install", "--target", str(target), "--upgrade", "--no-deps", "--only-binary", ":all:"]
    words += ["--disable-pip-version-check", "--no-input", "--require-hashes", "--requirement", str(UV_LOCK)]
    return words if source.wheels is None else [*words, "--no-index", "--find-links", str(source.wheels)]


def make_environment(
    environment: EngineEnvironment, computer: Computer, python: str = "", anew: bool = False
) -> list[str]:
    """uv's command that makes the environment, with a Python that it fetches, or with `python`.

    What is installed there stays, unless `anew`: it is of another version of Python.
    """
    # "Managed" are those that uv fetches itself: whatever Python the computer has may change or go.
    wanted = [python] if python else [python_name(computer), "--managed-python"]
    return [str(environment.uv), "venv", "--python", *wanted, "--clear" if anew else "--allow-existing",
            str(environment.folder)]  # fmt: skip


def install_packages(
    environment: EngineEnvironment,
    computer: Computer,
    source: Source,
    torch_backend: str = "auto",
    reinstall: Sequence[str] = (),
) -> list[str]:
    """uv's command that installs what the lock names, and anew the packages of which files are gone.

    The build of PyTorch is the one that computer and driver allow ("auto"), or that of the package index ("").
    """
    words = [str(environment.uv), "pip", "install", "--python", str(environment.python)]
    words += ["--only-binary", ":all:", "--requirement", str(environment.lock)]
    for name in reinstall:
        words += ["--reinstall-package", name]
    # Of PyTorch's builds the package index has the one for Macs, with Apple's GPU, and on Windows that for CPUs: their
    # hashes are known. Intel's GPUs, for which uv would find one, too, the engine does not use.
    checked = computer.system == "macos"
    if source.wheels is not None:
        words += ["--no-index", "--find-links", str(source.wheels)]
    elif computer.system == "windows" and not computer.nvidia and not source.index and torch_backend == "auto":
        checked = True
    elif not checked and not source.index and torch_backend:
        # Not where packages come from an index of one's own: PyTorch's servers are rarely within reach there, and that
        # index has its builds.
        words += ["--torch-backend", torch_backend]
    return [*words, "--requirement", str(TORCH_LOCK)] if checked else words


def forget_downloads(environment: EngineEnvironment, names: Sequence[str]) -> list[str]:
    """uv's command that drops its copies of packages: an installed file that was changed is changed in them, too."""
    return [str(environment.uv), "cache", "clean", *names]


def variables(
    environment: EngineEnvironment, source: Source, given: Mapping[str, str], proxies: Mapping[str, str]
) -> dict[str, str]:
    """The variables that pip and uv run with.

    Args:
        environment: everything is kept in its folder.
        source: where packages come from.
        given: those of the process, without what Slicer set for itself.
        proxies: the system's, by protocol, as `urllib.request.getproxies` gives them.
    """
    found = dict(given)
    for protocol, name in (("https", "HTTPS_PROXY"), ("http", "HTTP_PROXY"), ("no", "NO_PROXY")):
        if proxies.get(protocol) and name not in found and name.lower() not in found:
            found[name] = proxies[protocol]
    found.update(
        {
            # On the same disk as the environment: uv then gives the files a second name instead of copying them.
            "UV_CACHE_DIR": str(environment.root / "cache"),
            "UV_PYTHON_INSTALL_DIR": str(environment.root / "python"),
            "UV_PYTHON_INSTALL_BIN": "0",
            "UV_PYTHON_INSTALL_REGISTRY": "0",
            # Certificates of a company's proxy are in the system's store.
            "UV_SYSTEM_CERTS": "1",
            "NO_COLOR": "1",
        }
    )
    if source.wheels is not None:
        found["UV_OFFLINE"] = "1"
        found["UV_PYTHON_CACHE_DIR"] = str(source.wheels / ARCHIVES)
    if source.index and "UV_DEFAULT_INDEX" not in found:
        found["UV_DEFAULT_INDEX"] = source.index
    return found


def pip_settings(listed: str) -> dict[str, str]:
    """`index` and `cert` of pip's own settings, from what `pip config list` prints; "" where there is none."""
    found = {"index": "", "cert": ""}
    for key, value in re.findall(r"(?m)^[^=\n]*\.(index-url|cert)='(.*)'$", listed):
        found["index" if key == "index-url" else "cert"] = value
    return found
