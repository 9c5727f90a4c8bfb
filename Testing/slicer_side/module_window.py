"""The module as Slicer opens it: the real module file and .ui in a window that is not on any screen."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import Property
from PySide6.QtWidgets import QWidget
from standins.application import install_application, load_module
from standins.pythonqt import Wrapped, unwrap

MODULE = Path(__file__).parents[2] / "GLMAESegmentation" / "GLMAESegmentation.py"


def few_colors(path: Path, grays: int = 20, colors: int = 8) -> None:
    """Give a picture so many grays, and so many colors for all that is colored: its file is small then."""
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3)
    colored = pixels[np.ptp(pixels.astype(int), axis=1) > 24]
    if not len(colored):
        colored = pixels[:1]
    some = Image.fromarray(colored[np.newaxis]).quantize(colors).getpalette() or []
    levels = [level for gray in np.linspace(0, 255, grays) for level in [round(gray)] * 3]
    palette = Image.new("P", (1, 1))
    palette.putpalette((levels + some)[: 3 * (grays + colors)])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


class ModuleFrame(QWidget):
    """The C++ side of a module's widget (qSlicerAbstractModuleWidget)."""

    entered = False
    isEntered = Property(bool, lambda self: self.entered)


class ModuleWindow:
    """One opened panel, the clicks on it, and its pictures."""

    def __init__(self, settings: Path, width: int = 480) -> None:
        settings.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.opened = install_application(settings)  # other modules that the panel led to
        self.asked: list[str] = []  # every question
        self.answer = True  # to all of them
        slicer.util.confirmYesNoDisplay = self._answer
        import qt

        self.qt = qt
        self.frame = Wrapped(ModuleFrame())
        qt.QVBoxLayout(self.frame)
        slicer.util.mainWindow = lambda: self.frame
        self.status: list[str] = []  # what the status bar said
        slicer.util.showStatusMessage = lambda message, duration=0: self.status.append(message)
        self.module = load_module(MODULE)
        self.widget = self.module.widget(self.frame)
        self.widget.setup()
        self.enter()
        self.frame.resize(width, 900)
        self.frame.show()
        self.settle()

    def _answer(self, text: str, windowTitle: str | None = None, parent: Any = None) -> bool:
        self.asked.append(text)
        return self.answer

    def enter(self) -> None:
        """The user comes to the module, as Slicer does it."""
        unwrap(self.frame).entered = True
        self.widget.enter()

    def exit(self) -> None:
        unwrap(self.frame).entered = False
        self.widget.exit()

    def reload(self) -> None:
        """As *Reload* in Slicer: the old widgets are hidden and forgotten, and no enter() comes."""
        self.widget.cleanup()
        self.module = load_module(MODULE)
        self.widget = self.module.widget(self.frame)
        self.widget.setup()
        self.qt.application.sendPostedEvents(None, self.qt.QEvent.Type.DeferredDelete)

    @property
    def data(self) -> Path:
        """Where models and jobs are."""
        return self.settings / "Local" / "slicer.org" / "GLMAE"

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def editor(self) -> Any:
        """The stand-in of Slicer's segment editor in the panel."""
        return unwrap(self.ui.editor)

    @property
    def panel(self) -> Any:
        return self.widget.panel

    def settle(self, ticks: int = 8) -> None:
        """Let the panel look at the scene, as it does by its timer."""
        for _ in range(ticks):
            self.widget.onTick()
            self.qt.application.processEvents()

    def click(self, name: str) -> None:
        if name in self.widget.view.menu:
            assert self.widget.view.menu[name].enabled, f"{name} cannot be chosen"
            self.widget.view.menu[name].trigger()
            return
        button = getattr(self.ui, name)
        assert button.visible, f"{name} is not shown"
        assert button.enabled, f"{name} cannot be pressed"
        button.click()

    def run(self, seconds: float = 300, until: Any = None) -> float:
        """Turn the event loop until the job is over; its longest stall in seconds."""
        longest, end = 0.0, time.monotonic() + seconds
        while self.panel.busy and not (until is not None and until()):
            began = time.monotonic()
            assert began < end, self.panel.log
            self.qt.application.processEvents()
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        return longest

    def wait(self, until: Any, seconds: float = 120, ticked: bool = True) -> None:
        """Turn the event loop, beside a job; unless `ticked`, the panel's timer is left to itself."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end
            self.settle(1) if ticked else self.qt.application.processEvents()
            time.sleep(0.05)

    def texts(self, table: str, column: int) -> list[str]:
        widget = getattr(self.ui, table)
        return [widget.item(row, column).text() for row in range(widget.rowCount)]

    def picture(self, path: Path, height: int | None = None) -> None:
        """The panel as it looks, on one page."""
        for _ in range(2):  # texts that were wrapped anew change the height
            self.qt.application.processEvents()  # what has just been shown is given its place
            self.frame.layout().activate()
            needed = max(self.frame.sizeHint.height(), self.frame.layout().totalHeightForWidth(self.frame.width))
            self.frame.resize(self.frame.width, height or needed)
        self.qt.application.processEvents()
        opaque = self.frame.grab().toImage().convertToFormat(self.qt.QImage.Format_RGB888)
        assert opaque.save(str(path), "PNG", 0)
        with suppress(ImportError):  # in a Python with nothing but Slicer's packages
            few_colors(path)

    def close(self) -> None:
        self.widget.cleanup()
        self.qt.application.sendPostedEvents(None, self.qt.QEvent.Type.DeferredDelete)
        self.frame.close()
