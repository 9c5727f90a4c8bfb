"""Installs the engine's environment, or removes it, in a process of its own: Slicer never stands still.

    PythonSlicer -m GLMAESegmentationLib.setup.installer install FOLDER [--wheels FOLDER]
    PythonSlicer -m GLMAESegmentationLib.setup.installer remove FOLDER

Prints one JSON object a line: `{"event": "step", "step": ...}`, `{"event": "download", "package", "done", "total"}` in
bytes, and at the end `{"event": "ended", "name": ..., "detail": ...}` with a name of `messages.ENDINGS`.
Its parent holds the other end of standard input: a line, or the end of the stream, means that it shall stop. What was
downloaded stays, and the next installation goes on with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..engine.command import clean_environment
from . import uv
from .computer import Computer, this_computer
from .download import Download
from .environment import UV_LOCK, Busy, EngineEnvironment, size_of
from .failure_name import name_of_failure
from .packages import damaged_packages

# How often a download's progress is told.
_SECONDS = 1.0
_LOG_LINES = 60
NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows no console flashes up


class Ended(Exception):
    """The installation ends here: `args` are the ending's name and a detail."""


class Installer:
    """Installs into one environment.

    Args:
        environment: where.
        computer: for which.
        given: the variables to start programs with.
        wheels: a folder to install from instead of the internet.
        pip: how pip is started.
    """

    def __init__(
        self,
        environment: EngineEnvironment,
        computer: Computer,
        given: Mapping[str, str],
        wheels: Path | None = None,
        pip: Sequence[str] = (sys.executable, "-m", "pip"),
    ) -> None:
        self.environment, self.computer, self._pip = environment, computer, tuple(pip)
        self._given, self._wheels = dict(given), wheels
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def install(self) -> None:
        """Install, or go on with an installation, or repair one.

        Raises:
            Ended: always.
            Busy: another process is at it.
        """
        environment = self.environment
        if not self.computer.has_torch:
            raise Ended("no PyTorch")
        if self._wheels is not None and not next(self._wheels.glob("*.whl"), None):
            raise Ended("wheel missing", "uv")
        self._check_space()
        environment.root.mkdir(parents=True, exist_ok=True)
        environment.set_unfinished()
        settings = uv.pip_settings(self._asked([*self._pip, "config", "list"]))
        source = uv.Source(self._wheels, self._given.get("UV_DEFAULT_INDEX", "") or settings["index"])
        if settings["cert"]:
            self._given.setdefault("SSL_CERT_FILE", settings["cert"])
        variables = uv.variables(environment, source, self._given, urllib.request.getproxies())
        self._get_uv(source, variables)
        tell("step", step="python")
        python = self._given.get("UV_PYTHON", "")
        self._run(uv.make_environment(environment, self.computer, python, self._of_another_python(python)), variables)
        self._install_packages(source, variables)
        self._check(variables)
        environment.set_ready()
        raise Ended("installed")

    def stop(self) -> None:
        """End what is running and install no more. Called from another thread."""
        self._stopped = True
        running = self._running
        if running is not None:
            with suppress(OSError):
                running.kill()

    def _check_space(self) -> None:
        """Nothing is begun where the disk is too small; what is there already is not needed again."""
        root = self.environment.root
        needed = self.computer.disk_bytes - (size_of(root) if root.exists() else 0)
        free = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free
        if free < needed:
            raise Ended("no space", f"{free} {needed}")

    def _get_uv(self, source: uv.Source, variables: Mapping[str, str]) -> None:
        tell("step", step="uv")
        wanted = UV_LOCK.read_text(encoding="utf-8").split("uv==")[1].split()[0]
        if f"uv {wanted} " not in self._asked([str(self.environment.uv), "--version"]) + " ":
            self._run(uv.fetch_uv(self._pip, self.environment.uv.parents[1], source), variables)

    def _of_another_python(self, python: str) -> bool:
        """Whether the environment is there, but of another version than it would be made of now."""
        there = self._asked([str(self.environment.python), "-c", "import sys; print(*sys.version_info[:2], sep='.')"])
        wanted = (
            self._asked([python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]) if python else uv.PYTHON
        )
        return bool(there) and there != wanted

    def _install_packages(self, source: uv.Source, variables: Mapping[str, str]) -> None:
        tell("step", step="packages")
        environment = self.environment
        gone, changed = damaged_packages(environment.site_packages)
        if changed:
            self._run(uv.forget_downloads(environment, changed), variables)
        backend = self._given.get("UV_TORCH_BACKEND", "auto")
        variables = {name: value for name, value in variables.items() if name != "UV_TORCH_BACKEND"}
        reinstalled = sorted({*gone, *changed})
        words = uv.install_packages(environment, self.computer, source, backend, reinstalled)
        self._run(words, variables, Download(environment.root / "cache"))

    def _check(self, variables: Mapping[str, str]) -> None:
        """All packages load, and one step is computed on at least one device."""
        tell("step", step="check")
        python = str(self.environment.python)
        answer = self._asked([python, "-m", "glmae.set_up_check", "--json"], clean_environment(variables))
        with suppress(ValueError, KeyError, IndexError):
            found = json.loads(answer.splitlines()[-1])
            missing = [name for name, version in found["packages"].items() if version is None]
            if not missing and any(device["works"] for device in found["devices"].values()):
                return
            reasons = [device["message"] for device in found["devices"].values() if not device["works"]]
            raise Ended("does not work", ", ".join(missing) or reasons[0])
        self._end_if_stopped()
        raise Ended("does not work", answer[-300:])

    def _asked(self, words: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
        """What a program prints; "" when it fails."""
        self._end_if_stopped()
        try:
            with self._started(words, variables or self._given, subprocess.DEVNULL) as process:
                output, _none = process.communicate()
        except OSError:
            return ""
        return output.decode("utf-8", errors="replace").strip()

    def _run(self, words: Sequence[str], variables: Mapping[str, str], download: Download | None = None) -> None:
        """Run a program to its end; its words go to standard error."""
        self._end_if_stopped()
        lines: list[str] = []
        try:
            process = self._started(words, variables, subprocess.STDOUT)
        except OSError as error:
            raise Ended("failed", f"{words[0]}: {error.strerror}") from error
        reader = threading.Thread(target=_collect, args=(process, lines, download), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(_SECONDS)
            if download is not None and (news := download.progress()) is not None:
                tell("download", **news)
        status = process.wait()
        self._end_if_stopped()
        if status:
            text = "\n".join(lines[-_LOG_LINES:])
            free = shutil.disk_usage(self.environment.root).free
            proxied = any(variables.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
            name, detail = name_of_failure(text, self._wheels is not None, proxied)
            raise Ended(name, f"{free} {self.computer.disk_bytes}" if name == "no space" else detail)

    def _started(self, words: Sequence[str], variables: Mapping[str, str], errors: int) -> subprocess.Popen[bytes]:
        # In the environment's folder, so that no file of the current one is taken for a setting.
        self._running = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(variables),
            cwd=self.environment.root,
            creationflags=NO_WINDOW,
        )
        if self._stopped:  # asked for just before it started
            self.stop()
        return self._running

    def _end_if_stopped(self) -> None:
        if self._stopped:
            raise Ended("canceled")


def remove(environment: EngineEnvironment) -> None:
    """Remove the environment and all downloads.

    Raises:
        Ended: always.
        Busy: another process is at it.
    """
    tell("step", step="remove")
    environment.set_unfinished()
    shutil.rmtree(environment.root, ignore_errors=True)
    if environment.root.exists():
        raise Ended("in use", str(environment.root))
    raise Ended("removed")


def tell(event: str, **values: Any) -> None:
    """Print one event."""
    with suppress(OSError):  # nobody reads any more
        print(json.dumps({"event": event, **values}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the words say; 0 when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("install", "remove"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheels", type=Path)
    options = parser.parse_args(arguments)
    environment = EngineEnvironment(options.folder)
    installer = Installer(environment, this_computer(), clean_environment(os.environ), options.wheels)
    threading.Thread(target=_listen, args=(installer,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: installer.stop())
    name, detail = "failed", ""
    try:
        with environment.changing():
            remove(environment) if options.action == "remove" else installer.install()
    except Busy:
        name = "busy"
    except Ended as ended:
        name, detail = ended.args[0], "".join(ended.args[1:])
    except OSError as error:
        name, detail = name_of_failure(str(error), options.wheels is not None, proxied=False)
        if name == "no space":
            detail = f"{shutil.disk_usage(environment.root.parent).free} {installer.computer.disk_bytes}"
    tell("ended", name=name, detail=detail)
    return 0 if name in ("installed", "removed") else 1


def _collect(process: subprocess.Popen[bytes], lines: list[str], download: Download | None) -> None:
    assert process.stdout is not None
    for data in process.stdout:
        line = data.decode("utf-8", errors="replace").rstrip()
        lines.append(line)
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)
        if download is not None:
            download.read(line)


def _listen(installer: Installer) -> None:
    """Wait for a line or the end of the stream."""
    with suppress(OSError):
        os.read(sys.stdin.fileno(), 64)
    installer.stop()
    time.sleep(5)  # what is left to do then takes a moment at most
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
