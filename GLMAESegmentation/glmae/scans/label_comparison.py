"""The labels of a job beside each other: names, volumes, scans given twice."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .case import Case
from .classes import ClassTable, plain_name
from .common_axes import CommonAxes
from .finding import Finding
from .geometry import Geometry
from .region import Region

_SIMILAR = 0.85
# Fewer volumes do not tell what is usual.
_FEWEST_VOLUMES = 4
_OUTLIER_FACTOR = 3.0
_OUTLIER_SPREAD = 4.0
# Training turns crops by up to 35 degrees.
_ASKEW = 40.0
# Words that tell structures of otherwise similar names apart.
_TELLING = re.compile(
    r"\d+|\w|left|right|upper|lower|superior|inferior|anterior|posterior|medial|lateral|internal|external|inner|outer|"
    r"major|minor|proximal|distal|ascending|descending|dorsal|ventral|arter\w+|veins?"
)


@dataclass(frozen=True)
class CheckedLabel:
    """What comparing needs to know of one labeled case.

    Attributes:
        digest: of its images, `cases.content_hash`.
        names: of its segments, as the file has them; empty for a label map.
        volumes: of the classes that it holds, by number, mm3.
        guess: the part of it that seems to have been labeled; None where it looks complete, and where its region is
            said.
    """

    case: Case
    grid: Geometry
    digest: str
    names: tuple[str, ...]
    volumes: Mapping[int, float]
    guess: Region | None

    @property
    def partial(self) -> bool:
        """Whether only a part of it was labeled, or seems to be."""
        return self.case.region is not None or self.guess is not None


def compare_labels(checked: Sequence[CheckedLabel], classes: ClassTable) -> list[Finding]:
    """Duplicates, names of one meaning, classes that some or all cases lack, unusual volumes, scans that lie askew."""
    return [
        *_duplicates(checked),
        *_similar_names(checked, classes),
        *_same_names(checked, classes),
        *_missing_classes(checked, classes),
        *_unusual_volumes(checked, classes),
        *_unlike_axes(checked),
    ]


def _duplicates(checked: Sequence[CheckedLabel]) -> Iterator[Finding]:
    by_content: dict[str, list[CheckedLabel]] = {}
    for entry in checked:
        by_content.setdefault(entry.digest, []).append(entry)
    for same in by_content.values():
        if len(same) < 2:
            continue
        differ = " with different labels" if any(entry.volumes != same[0].volumes for entry in same) else ""
        names = tuple(entry.case.name for entry in same)
        message = (
            f"cases {_list(names)} are the same scan{differ}; it counts {len(same)} times in training, and a score on "
            "one of them after training on the other is too good: leave out all but one."
        )
        yield Finding("duplicate", "warning", message, names)


def _similar_names(checked: Sequence[CheckedLabel], classes: ClassTable) -> Iterator[Finding]:
    """Classes of nearly one name that no case holds both of: whoever draws both means two things."""
    holders = {number: [e.case.name for e in checked if number in e.volumes] for number in range(1, len(classes) + 1)}
    for (one, first), (two, second) in itertools.combinations(enumerate(classes.names, start=1), 2):
        if not holders[one] or not holders[two] or set(holders[one]) & set(holders[two]) or not similar(first, second):
            continue
        message = (
            f"{first!r} (in {_list(holders[one])}) and {second!r} (in {_list(holders[two])}) are learned as two "
            "classes; if they are one, give it one name in all cases."
        )
        cases = (*holders[one], *holders[two])
        yield Finding("names", "warning", message, cases, (first, second))


def _same_names(checked: Sequence[CheckedLabel], classes: ClassTable) -> Iterator[Finding]:
    """Names that differ by case or white space, which are taken for one."""
    spellings: dict[str, dict[str, list[str]]] = {}
    for entry in checked:
        for name in entry.names:
            spellings.setdefault(plain_name(name), {}).setdefault(name, []).append(entry.case.name)
    for ways in spellings.values():
        if len(ways) > 1:
            where = _list([f"{name!r} (in {_list(cases)})" for name, cases in ways.items()])
            number = classes.find(next(iter(ways)))
            meant = classes.names[number - 1] if number else next(iter(ways))
            cases = tuple(case for named in ways.values() for case in named)
            yield Finding("names", "note", f"{where} are taken for one class, {meant!r}.", cases, (meant,))


def _missing_classes(checked: Sequence[CheckedLabel], classes: ClassTable) -> Iterator[Finding]:
    listed = {plain_name(entry.name): entry.name for e in checked if e.case.classes for entry in e.case.classes}
    known = {plain_name(name) for name in classes.names}
    for name in (name for plain, name in listed.items() if plain not in known and classes.find(name) is None):
        message = f"{name!r} is listed in the class file, but no case holds it; the model will not know it."
        yield Finding("absent", "warning", message, (), (name,))
    for number, name in enumerate(classes.names, start=1):
        lacking = [entry for entry in checked if number not in entry.volumes]
        if len(lacking) == len(checked):
            message = f"{name!r} has no voxel in any case; the model will never find it, so label it in a case."
            yield Finding("absent", "warning", message, (), (name,))
            continue
        unsaid = tuple(
            entry.case.name
            for entry in lacking
            if entry.case.annotated is None or plain_name(name) not in map(plain_name, entry.case.annotated)
        )
        if unsaid:
            message = (
                f"{name!r} is not labeled in {_list(unsaid)}; there it counts as not drawn, and nothing is learned or "
                "scored about it; where it is truly absent, list it under `annotated` in classes.json."
            )
            yield Finding("absent", "note", message, unsaid, (name,))


def _unusual_volumes(checked: Sequence[CheckedLabel], classes: ClassTable) -> Iterator[Finding]:
    for number, name in enumerate(classes.names, start=1):
        whole = [entry for entry in checked if number in entry.volumes and not entry.partial]
        if len(whole) < _FEWEST_VOLUMES:
            continue
        logs = np.log([entry.volumes[number] for entry in whole])
        for index, entry in enumerate(whole):
            others = np.delete(logs, index)
            middle = float(np.median(others))
            spread = 1.4826 * float(np.median(np.abs(others - middle)))
            if abs(logs[index] - middle) <= max(np.log(_OUTLIER_FACTOR), _OUTLIER_SPREAD * spread):
                continue
            message = (
                f"case {entry.case.name}: {name!r} has {entry.volumes[number] / 1000:.3g} ml, in the other cases "
                f"{np.exp(middle) / 1000:.3g} ml in the middle; it is trained on as it is, so look whether it is "
                "complete and of the right class."
            )
            yield Finding("volume", "warning", message, (entry.case.name,), (name,))


def _unlike_axes(checked: Sequence[CheckedLabel]) -> Iterator[Finding]:
    """Scans that swapping and reversing their axes does not bring to where the others lie."""
    if len(checked) < 2:
        return
    axes = CommonAxes.of([entry.grid for entry in checked])
    for entry in checked:
        name, turned = entry.case.name, axes.turned(entry.grid)
        if axes.across(entry.grid):
            message = (
                f"case {name} has thick slices along another direction of the body than the other cases; it is trained "
                "on as it is, but scans of both kinds are learned worse together than each by a model of its own."
            )
        elif turned > _ASKEW:
            message = (
                f"case {name} lies turned by {turned:.0f} degrees beside the mean of the cases; it is trained on as it "
                "is, but the model will know few scans that lie like it: label more of them, or leave it out."
            )
        else:
            continue
        yield Finding("axes", "warning", message, (name,))


def similar(first: str, second: str) -> bool:
    """Whether two names look like two spellings of one: not where numbers, single letters or sides tell them apart."""
    one, two = (re.findall(r"[^\W\d_]+|\d+", name.casefold()) for name in (first, second))
    telling = [{word for word in words if _TELLING.fullmatch(word)} for words in (one, two)]
    if telling[0] != telling[1]:
        return False
    return difflib.SequenceMatcher(None, "".join(one), "".join(two), autojunk=False).ratio() >= _SIMILAR


def _list(names: Sequence[str]) -> str:
    """`a, b and c`; of many only the first."""
    shown = [*names[:5], f"{len(names) - 5} more"] if len(names) > 6 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
