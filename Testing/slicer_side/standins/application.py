"""Stand-ins for what exists only inside the Slicer application and not in slicer-core. Nothing else belongs here.

Each has exactly the members that this extension uses; touching another one raises AttributeError, as a typing error in
the module would raise in Slicer.
"""

from __future__ import annotations

import importlib.util
import sys
import unittest
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
import slicer.util


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """On the real panel's .ui, in a window of its own; see `pythonqt`."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.parent = parent
        if parent is not None:
            self.layout = parent.layout()

    def setup(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        module = sys.modules[type(self).__module__].__file__
        assert module is not None
        return str(Path(module).parent / "Resources" / name)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent

    def getParameterNode(self) -> Any:
        """One a scene, made when it is missing."""
        name = type(self).__name__.removesuffix("Logic")
        node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(name)
            node.SetName(name)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", name)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self) -> None:
        raise NotImplementedError


class ModuleParent:
    """The C++ side of a module's description. An attribute that Slicer does not know raises."""

    __slots__ = ("acknowledgementText", "categories", "contributors", "dependencies", "helpText", "path", "title")


def install() -> None:
    """Put the stand-ins under the names that Slicer's application gives them."""
    base: Any = ModuleType("slicer.ScriptedLoadableModule")
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(base, kind.__name__, kind)
    translation: Any = ModuleType("slicer.i18n")
    translation.tr = lambda text: text
    translation.translate = lambda context, text: text
    sys.modules["slicer.ScriptedLoadableModule"] = base
    sys.modules["slicer.i18n"] = translation
    if not hasattr(slicer, "app"):
        slicer.app = Application(Path())


class Application:
    """`slicer.app`, in testing mode: no question opens a window."""

    __slots__ = ("applicationName", "applicationVersion", "revision", "slicerUserSettingsFilePath", "when_started")

    def __init__(self, settings: Path) -> None:
        self.when_started: list[Any] = []
        self.applicationName = "Slicer"
        self.applicationVersion = "5.12.0"
        self.revision = "34000"
        self.slicerUserSettingsFilePath = str(settings / "Slicer.ini")

    def connect(self, signature: str, receiver: Any) -> bool:
        if signature != "startupCompleted()":
            raise ValueError(f"this stand-in has no signal {signature}")
        self.when_started.append(receiver)
        return True

    def testingEnabled(self) -> bool:
        return True

    def processEvents(self) -> None:
        sys.modules["qt"].application.processEvents()

    def layoutManager(self) -> None:
        """No views."""


def install_application(settings: Path) -> list[str]:
    """Put `qt` and `slicer.app` in their places; the modules that will be asked for.

    Args:
        settings: the folder of Slicer's settings.
    """
    from .pythonqt import WrappedClass, qt_module
    from .slicer_widgets import FOREIGN

    sys.modules.setdefault("qt", qt_module(FOREIGN))
    ctk: Any = ModuleType("ctk")
    ctk.ctkComboBox = WrappedClass(FOREIGN["ctkComboBox"])
    sys.modules["ctk"] = ctk
    slicer.app = Application(settings)
    # Not the folder of the person who runs the tests.
    sys.modules["qt"].QStandardPaths = SimpleNamespace(  # type: ignore[attr-defined]
        GenericDataLocation="GenericDataLocation", writableLocation={"GenericDataLocation": str(settings / "Local")}.get
    )
    opened: list[str] = []
    slicer.util.selectModule = opened.append
    return opened


def load_module(path: Path) -> SimpleNamespace:
    """Run a scripted module's file as Slicer does and give its four classes by role."""
    install()
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    sys.modules.pop(path.stem, None)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return SimpleNamespace(
        description=getattr(module, path.stem),
        widget=getattr(module, f"{path.stem}Widget"),
        logic=getattr(module, f"{path.stem}Logic"),
        test=getattr(module, f"{path.stem}Test"),
    )
