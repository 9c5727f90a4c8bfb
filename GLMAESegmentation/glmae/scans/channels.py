"""The channels of the scans of a job by their names, and which of them a case lacks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .dicom import DicomSeries
from .image import image_ending

if TYPE_CHECKING:
    from .cases import Case


def channel_names(case: Case) -> tuple[str, ...]:
    """Names of the files without ending and name of the case; the same in all cases where people name by sequence."""
    names = []
    for file in case.images:
        path = file.folder if isinstance(file, DicomSeries) else file
        stem = path.name[: -len(image_ending(path) or "") or None]
        rest = re.sub(rf"(^|[ _.-]){re.escape(case.name)}($|[ _.-])", " ", stem)
        names.append(rest.strip(" _.-") or stem)
    return tuple(names)


def usual_channels(cases: Sequence[Case]) -> tuple[tuple[str, ...], int]:
    """The channels that most cases have, of those that have as many as most, and how many cases have exactly these."""
    counts = Counter(len(case.images) for case in cases)
    usual = max(counts, key=lambda count: (counts[count], count))
    return Counter(channel_names(case) for case in cases if len(case.images) == usual).most_common(1)[0]


def with_missing(cases: Sequence[Case]) -> list[Case]:
    """The labelled ones among the cases know which of the usual channels they lack, if all that they have is usual."""
    labelled = [case for case in cases if case.label is not None]
    if len(labelled) < 2:
        return list(cases)
    usual, _ = usual_channels(labelled)

    def told(case: Case) -> Case:
        own = channel_names(case)
        if case.label is None or len(own) >= len(usual) or own != tuple(name for name in usual if name in own):
            return case
        return replace(case, missing=tuple(number for number, name in enumerate(usual) if name not in own))

    return [told(case) for case in cases]
