"""What lies in a folder of scans, or of labels: which entries are scans or labels, and why others are passed over."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ..errors import RequestError
from ..events import Events
from ..files import has_utf8_name, may_read, shown
from .dicom import DicomSeries, file_stem, find_series, holds_dicom, is_dicom, modality_of
from .dicom_segmentation import is_dicom_segmentation
from .image import SEGMENTATION_ENDINGS, image_ending

# The channels of a scan.
Files = tuple[Path | DicomSeries, ...]
_BESIDE = "it lies beside a DICOM series, which is the scan"
_OF_RESULTS = ("report", "uncertainty")  # what `glmae segment` writes beside its results
_PACKED = re.compile(r".*\.(bz2|xz|zst|zip|7z|rar|tar|tgz|tar\.gz|lzma)")
# Volumes, pictures, surfaces and scenes of other programs, which may be small.
_FOREIGN = re.compile(
    r".*\.((hdr|img|mnc2?|mif|mih|head|brik|par|rec|v|gipl|vt[impk]|am|np[yz]|mat|h5|hdf5|pt|pkl|b2nd|tiff?|stl|obj|ply|"
    r"gii|mrb|mrml)(\.gz)?|(ima|nrrd|mha)\.gz)"
)
# Notes, tables and pictures beside the data, and the voxels of detached headers.
_HARMLESS = re.compile(
    r"\.(txt|json|[ct]sv|md|rst|pdf|docx?|odt|xlsx?|ods|log|ya?ml|toml|xml|html?|py|sh|m|r|ipynb|bval|bvec|png|jpe?g|gif|"
    r"svg|db|ini|lnk|ctbl|lut|z?raw|gz|md5|sha256|cfg)"
)
_DEEP = 3  # folders below a case in which its files are looked for, to say where they are
_NOTE_BYTES = 100_000  # a file without ending that is smaller is a note
_DICOM = {
    "SEG": "a DICOM segmentation; as a label it lies among the labels, under the name of its scan",
    "RTSTRUCT": "contours, RTSTRUCT; load them in Slicer and save them as .seg.nrrd",
}


def scans_in(folder: Path, events: Events, *, tree: bool = False) -> dict[str, Files]:
    """Name -> channels, for every scan in a folder, in the order of the names. Segmentations are passed over.

    A folder `NAME/` with a DICOM series is that series: image files beside it are passed over, which `events` are told.

    Args:
        tree: every DICOM series below the folder is a scan, whatever its files and folders are called.

    Raises:
        RequestError: there are no scans, two have one name, or the folder itself holds both a series and image files.
    """
    check_folder(folder)
    entries = _entries(folder)
    scans: dict[str, Files] = {}
    below: list[Path] = []
    for entry in entries:
        if is_scan_file(entry):
            _add(scans, case_name(entry), (entry,))
        elif not entry.is_dir():
            continue
        elif not has_utf8_name(entry) or not may_read(entry):
            _add(scans, case_name(entry), (entry,))  # whoever reads it says why it cannot be
        elif tree and (not _channels(entry) or _series_beside(entry)):
            below.append(entry)
        elif files := _case_folder(entry, events):
            _add(scans, case_name(entry), files)
        else:
            _say_what_is_below(entry, events)
    loose = [entry for entry in entries if not entry.is_dir() and not is_scan_file(entry)]
    found = find_series(folder, below, loose)
    if tree or found.series:
        for message in found.passed_over:
            events.info(f"Passed over: {message}.")
        for message in found.unreadable:
            events.warning(f"passed over: {message}.", check="passed_over")
    else:
        _say_unread(sorted({*loose} - {*found.others}), events)
    together = {file.parent for series in found.series.values() for file in series.files}
    for file in found.others:
        if is_scan_file(file):
            why = _BESIDE if file.parent in together else "it lies too deep; move it, or its folder, up"
            warn_passed_over(file, why, events)
        else:
            _say_unread([file], events)
    images = [entry.name for entry in entries if is_scan_file(entry)]
    for name, series in found.series.items():
        if images and any(file.parent == folder for file in series.files):
            raise RequestError(
                f"{shown(folder)} holds a DICOM series and image files ({shown(', '.join(images[:3]))}), one of which "
                "may be a label; move the series to a folder of its own."
            )
        # A folder that holds nothing else is named as such: messages are shorter, and it may grow.
        _add(scans, name, (series.folder if len(series.files) > 1 and _alone(series) else series,))
    if not scans:
        raise RequestError(f"{shown(folder)} holds no scans; name one with NIfTI, NRRD, MetaImage or DICOM scans.")
    return dict(sorted(scans.items()))


def labels_in(folder: Path, masks: Collection[Path], shared: bool, events: Events) -> dict[str, Path]:
    """Name -> label file: label maps, Slicer's segmentations, DICOM segmentations `NAME.dcm` or alone in `NAME/`.

    Args:
        masks: files, resolved, that are masks of `region`, and no labels.
        shared: it is the folder of the images, too, where only segmentations are labels.

    Raises:
        RequestError: there is no such folder, or two labels have one name.
    """
    check_folder(folder)
    labels: dict[str, Path] = {}
    for entry in _entries(folder):
        ending = image_ending(entry)
        if entry.is_dir():
            label = None if shared else _label_of_folder(entry, events)
        elif ending is None:
            label = entry if is_dicom_segmentation(entry) else None
            if label is None and not shared:
                _say_unread([entry], events)
        elif not entry.exists():
            label = None
            _say_unread([entry], events)
        else:
            label = None if shared and ending not in SEGMENTATION_ENDINGS else entry
        if label is None or label.resolve() in masks:
            continue
        name = case_name(entry)
        if name in labels:
            raise RequestError(f"{labels[name]} and {shown(label)} are both called {name}; keep one of them.")
        labels[name] = label
    return dict(sorted(labels.items()))


def is_scan_file(path: Path) -> bool:
    """Whether a file is an image, and no segmentation, by its name."""
    ending = image_ending(path)
    return ending is not None and ending not in SEGMENTATION_ENDINGS and path.is_file()


def scan_of_file(path: Path) -> dict[str, Files]:
    """The scan in a file, by its name: an image, or DICOM with all slices in it.

    Raises:
        RequestError: it is no scan by its name, nor by its content.
    """
    ending = image_ending(path)
    if ending in SEGMENTATION_ENDINGS:
        raise RequestError(f"{shown(path)} is a segmentation and no scan; give the scan.")
    if ending is None and is_dicom(path):
        for series in find_series(path.parent, [], [path]).series.values():
            return {case_name(path): (series,)}
    if ending is None:
        why = why_unread(path)
        raise RequestError(
            f"{shown(path)} is no scan by its name{f' ({why})' if why else ''}; give a NIfTI, NRRD or MetaImage file, "
            "a folder, or a .txt list."
        )
    return {case_name(path): (path,)}


def case_name(path: Path) -> str:
    """The name of the case that a file, or a folder, is the scan or the label of."""
    ending = image_ending(path)
    return shown(path.name[: -len(ending)] if ending else file_stem(path))


def deeper_scan(folder: Path) -> Path | None:
    """The folder below a case's folder in which its files lie, where they do not lie in the folder itself."""
    if not folder.is_dir() or _channels(folder) or holds_dicom(folder):
        return None
    here = [folder]
    for _ in range(_DEEP):
        here = [entry for place in here for entry in _entries(place) if entry.is_dir() and may_read(entry)]
        if found := next((entry for entry in here if _channels(entry) or holds_dicom(entry)), None):
            return found
    return None


def check_folder(folder: Path) -> None:
    """Refuse what is no folder whose content can be listed.

    Raises:
        RequestError: it is not there, no folder, or may not be read.
    """
    if not folder.exists():
        raise RequestError(f"{shown(folder)} does not exist; check the path.")
    if not folder.is_dir():
        raise RequestError(f"{shown(folder)} is not a folder; name the folder that holds the files.")
    if not may_read(folder):
        raise RequestError(
            f"{shown(folder)} cannot be read: no permission; ask its owner, or copy it to a folder of your own."
        )


def why_unread(path: Path) -> str | None:
    """Why a file that is no image by its name is not read, and what to do; None for notes and the like."""
    name = path.name.lower()
    if path.is_symlink() and not path.exists():
        return "a link to a file that is not there; get the file (datalad get) or copy it here"
    if _PACKED.fullmatch(name):
        return "packed; unpack it"
    if _FOREIGN.fullmatch(name):
        return "of a kind that is not read; save it as .nii.gz"
    if _HARMLESS.fullmatch(path.suffix.lower()) or image_ending(path) is not None or not path.is_file():
        return None
    if is_dicom(path):
        if name == "dicomdir":
            return None
        return _DICOM.get(
            modality_of(path), "a DICOM file by itself; put the files of its series in a folder of their own"
        )
    if path.stat().st_size == 0:
        return "empty; copy or export it again"
    return None if path.stat().st_size < _NOTE_BYTES else "of no kind that is read; save it as .nii.gz"


def warn_passed_over(path: Path, why: str, events: Events) -> None:
    """Say that a file, or a folder, is passed over."""
    events.warning(f"passed over: {shown(path)} ({why}).", file=shown(path), check="passed_over")


def _case_folder(folder: Path, events: Events) -> Files | None:
    """The channels in the folder of a case, or the folder itself where it holds DICOM; None if it holds neither."""
    channels = _channels(folder)
    tree = find_series(folder, [], [file for file in _entries(folder) if file.is_file() and file not in channels])
    for message in tree.unreadable:
        events.warning(f"passed over: {message}.", check="passed_over")
    _say_unread(tree.labels, events)
    if tree.series:
        for file in channels:
            warn_passed_over(file, _BESIDE, events)
        first, *others = tree.series.values()
        # Several: whoever reads the folder says so.
        return (folder if others or _alone(first) else first,)
    if channels:
        _say_unread([file for file in _entries(folder) if file not in channels and file not in tree.labels], events)
        return channels
    return (folder,) if holds_dicom(folder) else None


def _channels(folder: Path) -> tuple[Path, ...]:
    return tuple(file for file in _entries(folder) if is_scan_file(file))


def _series_beside(folder: Path) -> bool:
    """Whether there is a DICOM series, and one that is a scan, directly in a folder."""
    files = [file for file in _entries(folder) if file.is_file() and not is_scan_file(file)]
    return bool(find_series(folder, [], files).series)


def _label_of_folder(folder: Path, events: Events) -> Path | None:
    if not may_read(folder) or folder.name in _OF_RESULTS:
        return None
    files = [file for file in _entries(folder) if file.is_file()]
    found = [file for file in files if is_dicom_segmentation(file)]
    if len(found) == 1:
        return found[0]
    if found or any(image_ending(file) for file in files) or deeper_scan(folder) is not None:
        many = f"a folder with {len(found)} DICOM segmentations" if found else "a folder"
        warn_passed_over(folder, f"{many}; put the one label of the case here as {case_name(folder)}.nii.gz", events)
    else:
        _say_unread(files, events)
    return None


def _say_what_is_below(folder: Path, events: Events) -> None:
    if below := deeper_scan(folder):
        why = f"its files lie deeper, in {shown(below.relative_to(folder))}; move them up into {shown(folder.name)}"
        warn_passed_over(folder, why, events)
    else:
        _say_unread(_entries(folder), events)


def _say_unread(files: Sequence[Path], events: Events) -> None:
    for file in files:
        if why := why_unread(file):
            warn_passed_over(file, why, events)


def _add(scans: dict[str, Files], name: str, files: Files) -> None:
    if name in scans:
        raise RequestError(f"{scans[name][0]} and {files[0]} are both called {name}; rename one of them.")
    scans[name] = files


def _alone(series: DicomSeries) -> bool:
    here = {entry for entry in series.folder.iterdir() if entry.is_file() and is_dicom(entry)}
    return here == set(series.files)


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
