"""Stand-ins for what installs packages in the Slicer application; they "install" into a folder given by the test.

The signatures are those of Slicer 5.12's `slicer.packaging`, of 5.10's `slicer.util.pip_install` and of the PyTorch
extension's `PyTorchUtilsLogic`: an argument that they do not know raises TypeError, as there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType
from typing import Any

import pytest
from site_packages import GOOD, SitePackages


class Installers:
    """What was asked of the installers, and how they shall fail.

    Attributes:
        asked: every call, in order.
        answer: what the user says to the question.
        failure: what pip prints before it fails; None to succeed. An exception is raised as it is.
        torch: the version that the PyTorch extension installs; None when the user refuses there.
        constraints: the text of each constraints file.
    """

    def __init__(self, site: SitePackages) -> None:
        self.site = site
        self.asked: list[str] = []
        self.questions: list[str] = []
        self.answer = True
        self.failure: str | BaseException | None = None
        self.torch: str | None = GOOD["torch"]
        self.replaces_torch: str | None = None
        self.constraints: list[str] = []

    def pip(self, requirements: Any, constraints: Any) -> None:
        words = requirements.split() if isinstance(requirements, str) else [str(word) for word in requirements]
        self.asked.append("pip " + " ".join(words))
        if constraints is not None:
            self.constraints.append(Path(constraints).read_text(encoding="utf-8"))
        self._fail()
        for word in words:
            if ">=" in word:
                name = word.split(">=")[0]
                self.site.add(name, GOOD[name])
        if self.replaces_torch:
            self.site.add("torch", self.replaces_torch)

    def install_torch(self, requirement: str) -> Any:
        self.asked.append("PyTorchUtils torch" + requirement)
        self._fail()
        if self.torch is None:
            return None
        self.site.add("torch", self.torch)
        return object()

    def _fail(self) -> None:
        if isinstance(self.failure, BaseException):
            raise self.failure
        if self.failure is not None:
            print(self.failure)  # as Slicer does with pip's words
            raise CalledProcessError(1, "pip install")


def slicer_5_12(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    packaging: Any = ModuleType("slicer.packaging")

    def pip_install(
        requirements: str | list[str],
        constraints: str | Path | None = None,
        no_deps_requirements: str | list[str] | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        logCallback: Callable[[str], None] | None = None,
        completedCallback: Callable[[int], None] | None = None,
    ) -> None:
        assert blocking
        installers.pip(requirements, constraints)

    def pip_ensure(
        requirements: Any,
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        assert not prompt_install, "the user would be asked twice"
        assert not any(str(word).startswith("-") for word in requirements), "pip_ensure takes requirements only"
        installers.pip(requirements, constraints)

    packaging.pip_install, packaging.pip_ensure = pip_install, pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)


def slicer_5_10(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip_install(requirements: str | list[str]) -> None:
        words = requirements.split() if isinstance(requirements, str) else list(requirements)
        constraints = None
        if "--constraint" in words:
            at = words.index("--constraint")
            constraints = words[at + 1]
            del words[at : at + 2]
        installers.pip(words, constraints)

    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr("slicer.util.pip_install", pip_install)


def pytorch_extension(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    class PyTorchUtilsLogic:
        def installTorch(
            self,
            askConfirmation: bool = False,
            forceComputationBackend: str | None = None,
            torchVersionRequirement: str | None = None,
            torchvisionVersionRequirement: str | None = None,
        ) -> Any:
            assert not askConfirmation, "the user would be asked twice"
            return installers.install_torch(torchVersionRequirement or "")

        def uninstallTorch(self, askConfirmation: bool = False, forceComputationBackend: str | None = None) -> None:
            installers.asked.append("PyTorchUtils remove")
            installers.site.remove("torch")

    module: Any = ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
