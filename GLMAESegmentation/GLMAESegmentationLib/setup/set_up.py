"""What is installed on this computer, and the check of it."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.command import EngineCommand, interpreter
from ..engine.failures import Failure, not_started
from ..engine.process import EngineProcess
from .packages import installed_packages, lacking, what_is_missing
from .running_check import RunningCheck
from .shipped_backbone import shipped_backbone


class SetUp:
    """Packages and backbone, as of the last `look`.

    Args:
        start: starts a process. Raises OSError if it cannot.

    Attributes:
        missing: names of the packages to install.
        sentence: what they are, and how large.
        backbone: name of the pre-trained backbone that is installed; "" for none.
        report: of the last check; "" for none.
    """

    def __init__(self, start: Callable[[EngineCommand], EngineProcess]) -> None:
        self._start = start
        self._check: RunningCheck | None = None
        self.report = ""
        self.look()

    def look(self) -> None:
        """Look again what is installed."""
        packages = installed_packages()
        self.missing = [package.name for package in lacking(packages)]
        self.sentence = what_is_missing(packages)
        self.backbone = shipped_backbone()

    @property
    def checking(self) -> bool:
        """Whether a check is under way."""
        return self._check is not None

    def check(self) -> Failure | None:
        """Begin to try each device; why it did not begin."""
        try:
            self._check = RunningCheck(self._start)
        except OSError as error:
            return not_started(interpreter(), str(error))
        return None

    def tick(self) -> None:
        """Take in the report when the check is over."""
        report = None if self._check is None else self._check.poll()
        if report is not None:
            self._check, self.report = None, report

    def leave(self) -> None:
        """Nobody waits for the check any more."""
        if self._check is not None:
            self._check.leave()
