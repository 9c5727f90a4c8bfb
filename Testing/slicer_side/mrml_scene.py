"""A real MRML scene with Slicer's own logics, from slicer-core, under the names that code in Slicer uses.

Slicer itself sets these up in its application object; PyPI's `slicer-core` holds the same C++ classes without it.
(This folder must not be called `slicer`: slicer-core takes every folder of that name on the path for a part of itself.)
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
import slicer.util
import vtk

MODULE_LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


def new_scene() -> Any:
    """Make an empty scene the current one: `slicer.mrmlScene`, with `slicer.modules.<name>.logic()`."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    modules: Any = ModuleType("slicer.modules")
    for name, class_name in MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        setattr(modules, name.lower(), SimpleNamespace(name=name, logic=_giving(logic)))
    modules.application_logic = application  # the scene holds only weak references to it
    slicer.mrmlScene = scene
    slicer.modules = modules
    sys.modules["slicer.modules"] = modules
    return scene


def _giving(logic: Any) -> Any:
    return lambda: logic
