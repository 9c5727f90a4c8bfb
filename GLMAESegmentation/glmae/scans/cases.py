"""The cases of a job: which image files, which label, and what was annotated. By name; see the contract in docs."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import RequestError, ScanError
from ..events import Events, silent
from ..files import shown
from .case import Case
from .channels import with_missing
from .class_file import CLASS_FILE, ClassFile, read_class_file
from .classes import ClassTable, merge
from .dicom import DicomSeries
from .labels import classes_in
from .scan_folder import Files, check_folder, deeper_scan, labels_in, scan_of_file, scans_in
from .segmentation_file import is_segmentation

# What people add to the name of a case for its label.
_OF_LABELS = r"[ _.-]?(seg(mentation)?s?|labels?|mask|gt|manual|annotation)[ _.-]?"


def find_cases(
    images: Path,
    labels: Path | None,
    names: Sequence[str] | None = None,
    classes: Path | None = None,
    events: Events | None = None,
) -> tuple[list[Case], ClassTable]:
    """The cases in a folder of scans and a folder of labels, matched by name, in the order of their names.

    Args:
        images: `NAME.EXT`, or folders `NAME/` with one file a channel or one DICOM series.
        labels: `NAME.EXT` with the same names; the same folder as `images` if the labels are `.seg.nrrd`.
        names: only these, each with image and label; None: every image, with or without label.
        classes: a class file; None: `classes.json` in `labels`, if there.

    Returns:
        The cases, and the classes that some case holds or was searched for: a class that is in none cannot be learned.

    Raises:
        RequestError: a folder is missing or empty, a name or file has no counterpart, two files have one name.
        ScanError: a label cannot be read.
    """
    events = events or silent()
    scans = scans_in(Path(images), events)
    file = _class_file(labels, classes)
    found: dict[str, Path] = {}
    if labels is not None:
        shared = Path(labels).exists() and Path(labels).resolve() == Path(images).resolve()
        found = labels_in(Path(labels), file.masks, shared, events)
    _warn_of_strangers(file, scans, f"scan in {images}", events)
    if names is not None:
        _check_names(names, scans, found, Path(images), labels)
        scans = {name: scans[name] for name in sorted(set(names))}
        found = {name: found[name] for name in scans if name in found}
    for name, label in found.items():
        if name not in scans:
            remedy = _near_scan(name, scans, Path(images), label) or "add it or remove this."
            raise RequestError(f"{shown(label)} has no image: no scan in {images} is called {name}; {remedy}")
    if labels is not None and not found:
        raise RequestError(
            f"{labels}: no label belongs to a scan in {images}; a scan and its label have the same name."
        )
    cases = [Case(name, files, found.get(name)) for name, files in scans.items()]
    return _with_classes(with_missing(cases), file)


def find_labels(
    labels: Path, classes: Path | None = None, events: Events | None = None
) -> tuple[list[Case], ClassTable]:
    """The labels in a folder, as cases without images, and their classes; otherwise as `find_cases`.

    `events` are told which entries of the class file belong to no label.

    A label that cannot be read is in the list all the same: `read_label` tells what is wrong with it.

    Raises:
        RequestError: the folder is missing or empty, or two files have one name.
    """
    check_folder(Path(labels))
    events = events or silent()
    file = _class_file(labels, classes)
    found = labels_in(Path(labels), file.masks, False, events)
    if not found:
        raise RequestError(f"{labels} holds no labels; name the folder with NAME.nii.gz or NAME.seg.nrrd files.")
    _warn_of_strangers(file, found, f"label in {labels}", events)
    cases = [Case(name, (), label) for name, label in found.items()]
    return _with_classes(cases, file, skip_damaged=True)


def find_images(paths: Sequence[Path], *, unique: bool = True, events: Events | None = None) -> list[Case]:
    """Scans without labels.

    Args:
        paths: image files, folders of scans, DICOM trees (every series in them is a scan, see `find_series`), or text
            files (`.txt`) with one path a line, taken from the folder of the text file, else from the current one.
        unique: two scans of one name are an error, because their results would be called the same; otherwise the later
            ones get a number.

    Raises:
        RequestError: something is missing or empty, or is no scan, or two scans have one name.
    """
    cases: dict[str, Case] = {}
    for path in _listed(paths):
        here = scans_in(path, events or silent(), tree=True) if path.is_dir() else scan_of_file(path)
        for name, files in here.items():
            other = cases.get(name)
            if other is not None and list(map(_place, other.images)) == list(map(_place, files)):
                continue
            if other is not None and unique:
                raise RequestError(f"{other.images[0]} and {files[0]} are both called {name}; rename one of them.")
            first, number = name, 2
            while name in cases:
                name, number = f"{first} ({number})", number + 1
            cases[name] = Case(name, files)
    if not cases:
        raise RequestError(f"{', '.join(map(str, paths)) or 'nothing'} names no scans; give files or folders of them.")
    return list(cases.values())


def _class_file(labels: Path | None, classes: Path | None) -> ClassFile:
    """The class file that is given, or lies among the labels; an empty one without either."""
    if classes is None and labels is not None and (Path(labels) / CLASS_FILE).is_file():
        classes = Path(labels) / CLASS_FILE
    return ClassFile() if classes is None else read_class_file(Path(classes))


def _warn_of_strangers(file: ClassFile, known: Collection[str], what: str, events: Events) -> None:
    for key, entries in (("annotated", file.annotated), ("region", file.region)):
        for name in sorted(set(entries) - set(known)):
            hint = _hint(name, known, "correct the name or remove the entry.")
            events.warning(
                f"`{key}` in the class file names {name}, but no {what} is called so: it changes nothing; {hint}",
                case=name,
                check="class_file",
            )


def _with_classes(cases: list[Case], file: ClassFile, *, skip_damaged: bool = False) -> tuple[list[Case], ClassTable]:
    """Add to each case what the class file says of it, and gather the classes of all."""
    tables, complete = [], []
    named = file.classes
    for case in cases:
        annotated = None
        if named is not None and case.name in file.annotated:
            annotated = frozenset(entry.name for entry in named if entry.value in file.annotated[case.name])
        region = file.region.get(case.name)
        case = replace(case, annotated=annotated, region=region, classes=named, unknown=file.unknown)
        if case.label is not None:
            try:
                own = classes_in(case)
            except ScanError:
                if not skip_damaged:
                    raise
                own = ClassTable(())
            tables.append(own)
            if named is None and not is_segmentation(case.label):
                # In the table of the whole job a value may have to give way to that of a segment elsewhere.
                case = replace(case, classes=own)
            if case.annotated is not None and case.classes is not None:
                tables.append(ClassTable(tuple(entry for entry in case.classes if entry.name in case.annotated)))
        complete.append(case)
    held = merge(tables)
    if named is None:
        return complete, _storable(held)
    # The class file comes first, for its names, values and colors; of it only what some case holds.
    listed = named.only(number for entry in held if (number := named.find(entry)))
    return complete, _storable(merge([listed, held]))


def _storable(classes: ClassTable) -> ClassTable:
    """The same, after making sure before any work that a model's file can hold them and is read again."""
    try:
        return ClassTable.from_json(classes.to_json()) if len(classes) else classes
    except ValueError as error:
        raise RequestError(
            f"the labels' classes cannot be kept in a model: {error}; change it in the labels."
        ) from error


def _near_scan(name: str, scans: Collection[str], images: Path, label: Path) -> str | None:
    """What to do about a label whose scan has another name, or lies deeper; None if there is none like it."""
    if below := deeper_scan(images / name):
        return f"{shown(below)} holds its files, too deep: move them up into {images / name}."
    channels = [scan for scan in scans if re.fullmatch(rf"{re.escape(name)}_\d{{4}}", scan)]
    if len(channels) > 1:
        return f"did you mean {' and '.join(channels[:2])}? Put them as its channels into a folder {images / name}."
    plain = re.sub(_OF_LABELS + "$|^" + _OF_LABELS, "", name, flags=re.IGNORECASE)
    if plain in scans:
        return f"did you mean {plain}? Rename the label to {label.name.replace(name, plain, 1)}."
    near = channels or [scan for scan in scans if scan.startswith(name) or name.startswith(scan)]
    near = near or difflib.get_close_matches(name, scans, n=1)
    return f"did you mean {near[0]}? Rename that scan to {name}, or the label." if near else None


def _hint(name: str, known: Collection[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def _check_names(
    names: Sequence[str], scans: dict[str, Files], found: dict[str, Path], images: Path, labels: Path | None
) -> None:
    for name in names:
        if name not in scans:
            raise RequestError(f"case {name} has no image in {images}; {_hint(name, scans, 'check the spelling.')}")
        if labels is not None and name not in found:
            raise RequestError(f"case {name} has no label in {labels}; label it or leave it out of --cases.")


def _listed(paths: Sequence[Path]) -> list[Path]:
    found = []
    for given in map(Path, paths):
        if not given.exists():
            raise RequestError(f"{given} does not exist; check the path.")
        if given.is_dir() or given.suffix.lower() != ".txt":
            found.append(given)
            continue
        try:
            lines = given.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{given} cannot be read as a list of paths; save it as UTF-8 text.") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            path = given.parent / line.strip()
            path = path if os.path.exists(path) else Path(line.strip())
            if not os.path.exists(path):
                raise RequestError(f"{given}, line {number}: {line.strip()[:200]} does not exist; correct the list.")
            found.append(path)
    return found


def _place(file: Path | DicomSeries) -> Path | DicomSeries:
    return file if isinstance(file, DicomSeries) else file.resolve()
