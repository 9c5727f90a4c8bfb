"""The channels of the scans of a job, by the names of their files: the usual ones, and those that a case lacks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from .case import Case
from .dicom import DicomSeries
from .finding import Finding
from .image import image_ending


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
    """The labeled ones among the cases know which of the usual channels they lack, if all that they have is usual."""
    labeled = [case for case in cases if case.label is not None]
    if len(labeled) < 2:
        return list(cases)
    usual, _ = usual_channels(labeled)

    def told(case: Case) -> Case:
        own = channel_names(case)
        if case.label is None or len(own) >= len(usual) or own != tuple(name for name in usual if name in own):
            return case
        return replace(case, missing=tuple(number for number, name in enumerate(usual) if name not in own))

    return [told(case) for case in cases]


def compare_channels(cases: Sequence[Case]) -> Iterator[Finding]:
    """Cases that have another number of channels than most, or channels of other names in the same places."""
    if len(cases) < 2:
        return
    common, times = usual_channels(cases)
    usual, alone = len(common), sum(len(case.images) == len(common) for case in cases) == 1
    for case in cases:
        own = channel_names(case)
        if case.missing:
            lacking = " and ".join(common[number] for number in case.missing)
            message = (
                f"case {case.name} has no {lacking}, which the others have; it is trained on all the same with nothing "
                "in its place. Add it if there is one; scans to be segmented need all channels."
            )
            yield Finding("channels", "warning", message, (case.name,))
        elif len(own) != usual:
            missing = [name for name in common if name not in own] if times > 1 or alone else []
            lack = f"; {' and '.join(missing)} is missing" if len(own) < usual and missing else ""
            message = (
                f"case {case.name} has {len(own)} channel{'s' * (len(own) > 1)} ({', '.join(own)}) and the others "
                f"have {usual}{lack}: give the same channels for all, or leave this case out."
            )
            yield Finding("channels", "error", message, (case.name,))
        elif usual > 1 and own != common and 2 * times > len(cases):
            message = (
                f"case {case.name} has the channels {', '.join(own)} and the others {', '.join(common)}; they are "
                "taken in this order, so rename the files if one scan is in the other's place."
            )
            yield Finding("channels", "warning", message, (case.name,))
