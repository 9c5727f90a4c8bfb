"""The structures that a model knows: their label values, names, colors and terminology."""

from __future__ import annotations

import colorsys
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError
from ..files import has_utf8_name

# The value of voxels of which nothing is known.
IGNORE = 255
# 0 is background.
MOST_CLASSES = 254
LARGEST_VALUE = 65535
_GENERIC_TYPES = {"85756007", "t-d0050", ""}  # "Tissue" in SNOMED CT and SRT: Slicer's default for every new segment


@dataclass(frozen=True)
class SegmentClass:
    """One structure.

    Attributes:
        value: its value in label maps, 1-65535.
        name: what people call it.
        color: red, green, blue, 0-1.
        terminology: Slicer's terminology entry, `context~category~type~modifier~context~region~modifier`, where
            the middle parts read `scheme^code^meaning`.
    """

    value: int
    name: str
    color: tuple[float, float, float] | None = None
    terminology: str | None = None

    def matches(self, other: SegmentClass) -> bool:
        """Whether both mean the same structure: same name, else same specific terminology and no left/right clash."""
        if plain_name(self.name) == plain_name(other.name):
            return True
        return self.same_terminology(other) and _sides(self.name) == _sides(other.name)

    def same_terminology(self, other: SegmentClass) -> bool:
        """Whether both have the same specific codes. Slicer's default entry "Tissue" is not specific."""
        mine = _codes(self.terminology)
        return mine is not None and mine == _codes(other.terminology)

    def to_json(self) -> dict[str, Any]:
        """As in `classes.json`; what is not known is left out."""
        content: dict[str, Any] = {"value": self.value, "name": self.name}
        if self.color is not None:
            content["color"] = list(self.color)
        if self.terminology is not None:
            content["terminology"] = self.terminology
        return content

    @staticmethod
    def from_json(content: Any) -> SegmentClass:
        """The inverse of `to_json`.

        Raises:
            ValueError: with the reason, in words.
        """
        if not isinstance(content, dict):
            raise ValueError("each class must be an object with `value` and `name`")
        value, name = content.get("value"), content.get("name")
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_VALUE:
            raise ValueError(f"the class value {value!r} is not a whole number from 1 to {LARGEST_VALUE}")
        if not isinstance(name, str) or not tidy(name):
            raise ValueError(f"the class with value {value} has no `name`")
        terminology = content.get("terminology")
        if terminology is not None and not isinstance(terminology, str):
            raise ValueError(f"the `terminology` of {name!r} is not text")
        if not has_utf8_name(name + (terminology or "")):
            raise ValueError(f"the class with value {value} has a name that is not UTF-8")
        return SegmentClass(value, tidy(name), _color(content.get("color"), name), terminology or None)


@dataclass(frozen=True)
class ClassTable:
    """The structures of a model; class number c = 1..n of the network is `classes[c - 1]`."""

    classes: tuple[SegmentClass, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[SegmentClass]:
        return iter(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes 1..n."""
        return tuple(entry.name for entry in self.classes)

    @property
    def values(self) -> tuple[int, ...]:
        """Values of the classes 1..n in label maps."""
        return tuple(entry.value for entry in self.classes)

    def find(self, wanted: SegmentClass | str) -> int | None:
        """The network number 1..n of a structure, by name, else by terminology where exactly one class has it."""
        name = plain_name(wanted if isinstance(wanted, str) else wanted.name)
        for number, entry in enumerate(self.classes, start=1):
            if plain_name(entry.name) == name:
                return number
        if isinstance(wanted, str):
            return None
        # Two classes of one terminology (two lesions, say) are told apart by name only.
        same = [number for number, entry in enumerate(self.classes, start=1) if entry.same_terminology(wanted)]
        return same[0] if len(same) == 1 and self.classes[same[0] - 1].matches(wanted) else None

    def by_value(self, value: int) -> int | None:
        """The network number 1..n of a label value."""
        return self.values.index(value) + 1 if value in self.values else None

    def only(self, numbers: Iterable[int]) -> ClassTable:
        """The classes with these network numbers, in the order of the table."""
        kept = set(numbers)
        return ClassTable(tuple(entry for number, entry in enumerate(self.classes, start=1) if number in kept))

    def with_colors(self) -> ClassTable:
        """The same classes, with a distinct color wherever none is given."""
        free = iter(default_colors(len(self.classes), [entry.color for entry in self.classes if entry.color]))
        return ClassTable(
            tuple(entry if entry.color else dataclasses.replace(entry, color=next(free)) for entry in self.classes)
        )

    def to_json(self) -> list[dict[str, Any]]:
        """As the list `classes` of `classes.json`."""
        return [entry.to_json() for entry in self.classes]

    @staticmethod
    def from_json(content: Any) -> ClassTable:
        """The inverse of `to_json`.

        Raises:
            ValueError: with the reason, in words.
        """
        if not isinstance(content, list) or not content:
            raise ValueError("`classes` is not a list with at least one class")
        table = ClassTable(tuple(SegmentClass.from_json(entry) for entry in content))
        for kind, seen in (("value", [*map(str, table.values)]), ("name", [*map(plain_name, table.names)])):
            twice = [entry for entry in seen if seen.count(entry) > 1]
            if twice:
                raise ValueError(f"two classes have the {kind} {twice[0]}")
        return table

    @staticmethod
    def from_labels(values: Iterable[int]) -> ClassTable:
        """Classes for bare label values, called `label N`."""
        return ClassTable(tuple(SegmentClass(int(value), f"label {int(value)}") for value in sorted(set(values))))


def merge(tables: Sequence[ClassTable]) -> ClassTable:
    """All classes of several cases, each once: the same structure has the same name, or terminology, in all of them.

    Values are kept where each belongs to one structure only; where two structures claim one value, the later one gets
    the lowest free value. The result is in the order of the values.

    Raises:
        RequestError: there are more classes than a model can hold.
    """
    merged: list[SegmentClass] = []
    for table in tables:
        before = ClassTable(tuple(merged))
        taken: set[int] = set()
        # Names first: a class may not be matched by terminology to one that has its namesake in the same table.
        found = {entry: before.find(entry.name) for entry in table}
        taken.update(number for number in found.values() if number)
        for entry in table:
            number = found[entry] or before.find(entry)
            if found[entry] is None and number in taken:
                number = None
            if number is None:
                merged.append(entry)
                continue
            taken.add(number)
            known = merged[number - 1]
            merged[number - 1] = dataclasses.replace(
                known, color=known.color or entry.color, terminology=known.terminology or entry.terminology
            )
    if len(merged) > MOST_CLASSES:
        raise RequestError(
            f"the labels hold {len(merged)} classes and a model can hold {MOST_CLASSES}; "
            "check that the label folder holds no images, or name fewer classes in classes.json."
        )
    claimed: set[int] = set()
    wanted = {entry.value for entry in merged}
    free = (value for value in range(1, LARGEST_VALUE + 1) if value not in wanted)
    result = []
    for entry in merged:
        value = entry.value if entry.value not in claimed else next(free)
        claimed.add(value)
        result.append(dataclasses.replace(entry, value=value))
    return ClassTable(tuple(sorted(result, key=lambda entry: entry.value)))


def default_colors(count: int, taken: Sequence[tuple[float, float, float]] = ()) -> list[tuple[float, float, float]]:
    """`count` colors (red, green, blue, 0-1) that differ from each other and from those `taken`."""
    used, colors = list(taken), list[tuple[float, float, float]]()
    for number in itertools.count():
        if len(colors) == count:
            break
        # Golden-ratio steps around the hue circle keep every prefix of the list well spread.
        hue, ring = (0.08 + number * 0.6180339887498949) % 1.0, number // 12 % 3
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.65, 0.85, 0.45)[ring], (0.9, 0.7, 1.0)[ring])
        color = (round(red, 3), round(green, 3), round(blue, 3))
        if all(sum(abs(a - b) for a, b in zip(color, old, strict=True)) > 0.01 for old in used):
            used.append(color)
            colors.append(color)
    return colors


def tidy(name: str) -> str:
    """A name in one line: control characters and runs of white space as one space."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", name).split())


def plain_name(name: str) -> str:
    """A name as it is compared: case folded, runs of white space as one space."""
    return " ".join(name.split()).casefold()


def _sides(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"left|right", name.casefold()))


def _codes(terminology: str | None) -> tuple[str, ...] | None:
    """Scheme and code of category, type, modifier, region and its modifier; None if the type says nothing specific."""
    parts = (terminology or "").split("~")
    if len(parts) < 3:
        return None
    coded = ["^".join(part.split("^")[:2]).casefold() for part in parts]
    type_code = parts[2].split("^")[1].casefold() if "^" in parts[2] else ""
    if type_code in _GENERIC_TYPES:
        return None
    # parts[0] and parts[4] name the lists that the codes were picked from; they do not change the meaning.
    return tuple(coded[1:4] + coded[5:7])


def _color(content: Any, name: str) -> tuple[float, float, float] | None:
    if content is None:
        return None
    if isinstance(content, list) and len(content) == 3:
        parts = [x for x in content if isinstance(x, (int, float)) and not isinstance(x, bool) and 0 <= x <= 1]
        if len(parts) == 3:
            return float(parts[0]), float(parts[1]), float(parts[2])
    raise ValueError(f"the `color` of {name!r} is not three numbers from 0 to 1")
