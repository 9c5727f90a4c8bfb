"""What is asked before something is removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..jobs.folder import JobFolder
from ..translation import tr as _
from . import actions as action
from .sentences import listed


def question_before(name: str, results: Sequence[Any], job: JobFolder | None, model: str) -> tuple[str, Any]:
    """The question before UNDO, DISCARD or DELETE, and what it is about: IDs of nodes, a folder, or a name.

    Args:
        name: of the action.
        results: the nodes that would be removed.
        job: the newest of the interrupted ones.
        model: the chosen one.
    """
    if name == action.UNDO:
        text = _("Remove {n} results of the last run: {names}?\nWhat you corrected or accepted stays.")
        names = listed([node.GetName() for node in results])
        return text.format(n=len(results), names=names), tuple(node.GetID() for node in results)
    if name == action.DISCARD:
        assert job is not None
        text = _('Remove the unfinished job "{title}" and all that it has done? This cannot be undone.')
        return text.format(title=job.record.title), job.folder
    return _('Delete the model "{name}" from this computer? This cannot be undone.').format(name=model), model
