"""One thing that a check found in the cases of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..events import Events
from .region import Region

# From what stops the job to what is merely good to know; "guess" waits for the user's word.
SEVERITIES = ("error", "warning", "guess", "note")


@dataclass(frozen=True)
class Finding:
    """What was found, where, and what will happen.

    Attributes:
        check: which check found it; the list is in docs/cases.md.
        severity: one of `SEVERITIES`; with an "error" the job does not begin.
        message: for people: case, class, and what will happen.
        region: for a "guess": the part of the scan that seems to have been labeled.
    """

    check: str
    severity: str
    message: str
    cases: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    region: Region | None = None

    @staticmethod
    def heard(event: Mapping[str, Any], case: str | None = None) -> Finding:
        """A warning of the reader, as a finding."""
        name = event.get("case", case)
        cases, check = () if name is None else (name,), event.get("check", "reading")
        return Finding(check, "warning", event["message"], cases, tuple(event.get("classes", ())))

    def report(self, events: Events) -> None:
        """Send it as an event: a note as `info`, anything else as `warning`."""
        fields: dict[str, Any] = {"check": self.check, "classes": list(self.classes)}
        if len(self.cases) == 1:
            fields["case"] = self.cases[0]
        else:
            fields["cases"] = list(self.cases)
        if self.region is not None:
            fields["region"] = self.region.to_json()
        (events.info if self.severity == "note" else events.warning)(self.message, **fields)
