"""The engine's Python on this computer: chosen, installed, checked, removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..engine.command import EngineCommand, slicers_python
from ..engine.failures import Failure, not_started
from ..engine.process import EngineProcess
from ..messages import say
from .answer import CHECK, INSPECTION, Answer
from .computer import Computer, this_computer
from .environment import EngineEnvironment
from .installation import GOOD, Installation
from .interpreter import Choice, Kind, lacks
from .packages import described, installed_packages, lacking
from .report import set_up_report
from .shipped_backbone import shipped_backbone


@dataclass(frozen=True)
class EngineStatus:
    """What is to be shown of the engine's Python.

    Attributes:
        kind: which Python it is, and `python` the path of another interpreter.
        lacking: what must be done before the engine can run, in a sentence; "" for nothing.
        offer: what Install would do though the engine runs already; "" for nothing.
        button: the word on the button for that: install, repair or update; "" where it can do nothing.
        working: what is being done to it, in a sentence; "" for nothing.
        fraction: how much of that is over, 0-1; None when unknown.
        installed: size and place of its own environment; "" where there is none.
    """

    kind: Kind = "own"
    python: str = ""
    lacking: str = ""
    offer: str = ""
    button: str = ""
    working: str = ""
    fraction: float | None = None
    installed: str = ""


class SetUp:
    """The engine's Python and the shipped backbone, as of the last `look`.

    Args:
        start: starts a process. Raises OSError if it cannot.
        root: folder of the engine's own environment.
        choice: the file with the user's choice.
        computer: None for this one.

    Attributes:
        status: what is to be shown.
        backbone: name of the pre-trained backbone that is installed; "" for none.
        report: of the last check; "" for none.
        note: how the last installation ended, if well; "" else.
        failure: why it did not; None for nothing.
        log: what pip and uv said then.
    """

    def __init__(
        self,
        start: Callable[[EngineCommand], EngineProcess],
        root: Path,
        choice: Path,
        computer: Computer | None = None,
    ) -> None:
        self._start_process, self._file = start, choice
        self._environment = EngineEnvironment(root)
        self._computer = computer or this_computer()
        self._choice = Choice.read(choice)
        self._installation: Installation | None = None
        self._check: Answer | None = None
        self._inspection: Answer | None = None
        self.report, self.note, self.log = "", "", ""
        self.failure: Failure | None = None
        self.look()

    def start(self, command: EngineCommand) -> EngineProcess:
        """Start a process in the engine's Python, unless it names another.

        Raises:
            OSError: it cannot be started.
        """
        return self._start_process(command if command.program else replace(command, program=self.python))

    @property
    def python(self) -> str:
        """The interpreter that the engine runs in.

        Raises:
            OSError: Slicer's is not there.
        """
        if self.status.kind == "slicers":
            return slicers_python()
        return self._choice.python if self.status.kind == "other" else str(self._environment.python)

    @property
    def installing(self) -> bool:
        """Whether the environment is being installed or removed."""
        return self._installation is not None

    @property
    def checking(self) -> bool:
        """Whether a check is under way."""
        return self._check is not None

    def look(self) -> None:
        """Look again what there is."""
        self._record = self._environment.record()
        kind = self._choice.kind
        own = self._environment.state
        slicers = lacking(installed_packages()) if kind in (None, "slicers") else ()
        if kind is None:  # where everything is there already, nothing need be installed
            kind = "slicers" if not slicers and own not in ("ready", "outdated") else "own"
        status = EngineStatus(kind, self._choice.python, installed=self._installed())
        if kind == "slicers" and slicers:
            status = replace(status, lacking=_elsewhere(say("slicer's python"), described(slicers)))
        elif kind == "other" and (not self._choice.python or self._choice.lacks):
            status = replace(status, lacking=_elsewhere(self._choice.python, self._choice.lacks))
        elif kind == "own":
            status = self._own(status, own)
        self.status = status
        self._show_work()
        self.backbone = shipped_backbone()

    def choose(self, value: tuple[Kind, str]) -> None:
        """Take another Python: its kind, and the path of another interpreter ("" for the one chosen before)."""
        kind, python = value[0], value[1] or self._choice.python
        self._choice = Choice(kind, python)
        if kind == "other" and python:
            try:
                self._inspection = Answer(self._start_process, INSPECTION, python)
            except OSError as error:
                self._choice = Choice(kind, python, say("python not started", reason=error))
        self._choice.write(self._file)
        self.look()

    def install(self, wheels: Path | None = None) -> None:
        """Begin to install, repair or update the engine's own environment."""
        self._change("install", wheels)

    def remove(self, value: object = None) -> None:
        """Begin to remove the engine's own environment."""
        self._change("remove")

    def cancel(self, value: object = None) -> None:
        """Stop installing; what was downloaded stays."""
        if self._installation is not None:
            self._installation.cancel()

    def check(self, value: object = None) -> None:
        """Begin to try each device. Before anything is installed, Slicer's Python says what it can."""
        try:
            absent = self.status.kind == "own" and not self._environment.python.exists()
            self._check = Answer(self.start, CHECK, slicers_python() if absent else "")
        except OSError as error:
            self.failure = not_started(say("engine's python"), str(error))

    def clear(self) -> None:
        """Something new begins: what was said of the last is over."""
        self.note, self.failure, self.log = "", None, ""

    def tick(self) -> None:
        """Take in what is over."""
        if self._installation is not None:
            ending = self._installation.poll()
            if ending is not None:
                log, self._installation = self._installation.log, None
                self.look()
                self._end(ending, log)
        if self._inspection is not None and self._inspection.poll():
            self._choice = Choice("other", self._inspection.python, lacks(self._inspection.text))
            self._choice.write(self._file)
            self._inspection = None
            self.look()
        if self._check is not None and self._check.poll():
            check, self._check = self._check, None
            works = check.status == 0 and " MISSING" not in check.text
            if not works and self.status.kind == "own" and not self.status.lacking:
                self._environment.set_unfinished()  # Install repairs it
            self.look()
            text = check.text or f"The check ended with status {check.status}: {check.log[-500:]}"
            self.report = set_up_report(text, f"{self.status.kind} {self.status.lacking}".strip())
        if self._installation is None and self._environment.record() != self._record:
            self.look()  # another Slicer has installed or removed it
        self._show_work()

    def leave(self) -> None:
        """Slicer quits or the module is reloaded."""
        for work in (self._check, self._inspection, self._installation):
            if work is not None:
                work.leave()
        self._check = self._inspection = self._installation = None

    def _change(self, action: Literal["install", "remove"], wheels: Path | None = None) -> None:
        if self._installation is None:  # not at a second click
            try:
                self._installation = Installation(self._start_process, action, self._environment.root, wheels)
            except OSError as error:
                self.failure = not_started("PythonSlicer", str(error))
            self._show_work()

    def _end(self, ending: Failure, log: str) -> None:
        button = say(f"button {self.status.button or 'install'}")
        ending = replace(ending, remedy=ending.remedy.replace("{button}", button))
        if ending.key in GOOD:
            self.note = ending.reason
        else:
            self.failure, self.log = ending, log

    def _own(self, status: EngineStatus, state: str) -> EngineStatus:
        if state == "ready":
            return status
        if not self._computer.has_torch:
            return replace(status, lacking=say("engine mac"))
        if state == "outdated":
            return replace(status, offer=say("engine update"), button="update")
        if state == "absent":
            sizes = {"download": _size(self._computer.download_bytes), "disk": _size(self._computer.disk_bytes)}
            text = say("engine install", folder=self._environment.root, **sizes)
            return replace(status, lacking=text, button="install")
        return replace(status, lacking=say("engine repair"), button="repair")

    def _installed(self) -> str:
        record = self._environment.record()
        if record is None:
            return str(self._environment.root) if self._environment.root.exists() else ""
        return f"{_size(record['bytes'])}, {self._environment.root}"

    def _show_work(self) -> None:
        work, fraction = "", None
        if self._installation is not None:
            work, fraction = self._installation.sentence, self._installation.fraction
        elif self._inspection is not None:
            work = say("engine inspected")
        self.status = replace(self.status, working=work, fraction=fraction)


def _elsewhere(python: str, lacks: str) -> str:
    return say("engine lacks", python=python, lacks=lacks) if python else say("engine choose")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
