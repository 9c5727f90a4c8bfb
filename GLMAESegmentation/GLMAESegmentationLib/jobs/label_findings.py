"""What the engine finds odd about the labels, as it warns at the start of a training, for the scans of the scene."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.failures import sentence
from ..messages import say
from .case_folder import ExportedCase


@dataclass(frozen=True)
class Finding:
    """Something suspicious about a label.

    Attributes:
        volume_id: of the scan in question.
        sentence: what it is.
        part: whether it asks if only a part of the scan was labeled.
    """

    volume_id: str
    sentence: str
    part: bool = False


def findings_of(event: Mapping[str, Any], cases: Iterable[ExportedCase]) -> list[Finding]:
    """The findings in a `warning`: one for each scan that it names; none when it speaks of no label.

    Args:
        event: with `message` in words (`case_folder.in_words`), and `case` or `cases`.
        cases: what the engine's names of cases stand for.
    """
    named = [event.get("case"), *(event["cases"] if isinstance(event.get("cases"), list) else [])]
    meant = [case for case in cases if case.name in named]
    text = str(event.get("message") or "")
    part = event.get("check") == "region"
    if part and ", unless classes.json" in text:  # the panel writes the class file
        text = text.split(", unless classes.json")[0] + say("unless button")
    return [Finding(case.volumes[0], sentence(text), part) for case in meant]
