"""The frame Set-up needed, and what the section Advanced says of the engine's Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..messages import say
from ..panel import actions as action
from ..panel.state import PanelState
from ..setup.interpreter import KINDS
from .questions import ask_interpreter, ask_wheels
from .slicer_application import SlicerApplication
from .tables import show_fraction


class SetUpView:
    """Shows them, passes clicks on."""

    def __init__(
        self, ui: Any, application: SlicerApplication, do: Callable[..., None], state: Callable[[], PanelState]
    ) -> None:
        self.ui, self._application, self._do, self._state = ui, application, do, state
        ui.installOfflineButton.connect("clicked(bool)", lambda checked=False: self._install_offline())
        ui.removeEngineButton.connect("clicked(bool)", lambda checked=False: self._remove())
        ui.copyReportButton.connect("clicked(bool)", lambda checked=False: application.copy(state().set_up))
        ui.engineSelector.connect("activated(int)", self._choose)

    def show(self, state: PanelState) -> None:
        """Show the state."""
        ui, engine = self.ui, state.engine
        ui.installOfflineButton.enabled = action.INSTALL in state.enabled
        ui.engineSelector.enabled = action.CHOOSE_ENGINE in state.enabled
        ui.installFrame.visible = bool(engine.lacking or engine.offer or engine.working)
        ui.installTitle.text = say("set-up needed" if engine.lacking else "set-up")
        ui.installLabel.text = engine.working or engine.lacking or engine.offer
        ui.installProgress.visible = ui.cancelInstallButton.visible = bool(engine.working)
        show_fraction(ui.installProgress, engine.fraction)
        ui.installButton.text = say(f"button {engine.button}") if engine.button else ""
        ui.installButton.visible = ui.installOfflineButton.visible = bool(engine.button) and not engine.working
        ui.engineSelector.blockSignals(True)
        ui.engineSelector.currentIndex = KINDS.index(engine.kind)
        ui.engineSelector.blockSignals(False)
        place = engine.python if engine.kind == "other" else engine.installed
        ui.enginePlaceLabel.text = place
        ui.enginePlaceLabel.visible = bool(place)
        ui.removeEngineButton.visible = bool(engine.installed)
        ui.setUpLabel.visible = ui.copyReportButton.visible = bool(state.set_up)
        ui.setUpLabel.text = state.set_up
        ui.checkSetUpButton.text = say("checking set-up" if state.checking else "check set-up")

    def _install_offline(self) -> None:
        folder = ask_wheels()
        if folder:
            self._do(action.INSTALL, Path(folder))

    def _remove(self) -> None:
        if self._application.confirm(say("remove engine", installed=self._state().engine.installed)):
            self._do(action.REMOVE_ENGINE)

    def _choose(self, index: int) -> None:
        kind = KINDS[index]
        python = ask_interpreter() if kind == "other" else ""
        if kind != "other" or python:
            self._do(action.CHOOSE_ENGINE, (kind, python))
        self.show(self._state())  # the list shows the choice that holds
