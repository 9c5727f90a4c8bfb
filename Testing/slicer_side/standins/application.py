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


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """Without widgets: the panel itself is not run here, only defined."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent


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


def load_module(path: Path) -> SimpleNamespace:
    """Run a scripted module's file as Slicer does and give its four classes by role."""
    install()
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return SimpleNamespace(
        description=getattr(module, path.stem),
        widget=getattr(module, f"{path.stem}Widget"),
        logic=getattr(module, f"{path.stem}Logic"),
        test=getattr(module, f"{path.stem}Test"),
    )
