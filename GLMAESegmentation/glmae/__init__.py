"""GLMAE engine: self-supervised pre-training and few-label segmentation of 3D medical scans.

`pretrain`, `finetune`, `segment`, `evaluate`, `load_model` and the module `GLMAE` are the way in (docs/python.md).
Nothing here imports Slicer, VTK or Qt, and torch is imported only when one of these is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import GLMAE, evaluate, finetune, load_model, pretrain, segment

__version__ = "0.1.0"
__all__ = ["GLMAE", "__version__", "evaluate", "finetune", "load_model", "pretrain", "segment"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'glmae' has no attribute '{name}'")
    return getattr(import_module("glmae.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
