"""What is asked before something is removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..jobs.folder import JobFolder
from ..messages import say
from . import actions as action
from .sentences import listed


def question_before(name: str, results: Sequence[Any], job: JobFolder | None, model: str) -> tuple[str, Any]:
    """The question before UNDO, DISCARD or DELETE, and what it is about: IDs of nodes, a folder, or a name."""
    if name == action.UNDO:
        names = listed([node.GetName() for node in results])
        return say("undo", n=len(results), names=names), tuple(node.GetID() for node in results)
    if name == action.DISCARD:
        assert job is not None
        return say("discard", title=job.record.title), job.folder
    return say("delete model", name=model), model
