"""The folders in which public data sets come, read as they are: nothing has to be renamed or copied."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmae.errors import RequestError
from glmae.scans.case import Case
from glmae.scans.class_file import decathlon_classes
from glmae.scans.classes import ClassTable, SegmentClass

DATASET_FILE = "dataset.json"
# Name of a case -> its scan and its label.
Pairs = dict[str, tuple[Path, Path]]

_NIFTI = r"\.nii(?:\.gz)?"


@dataclass(frozen=True)
class NamedFiles:
    """Files anywhere below a folder, told apart by their names; the group `case` belongs to the files of one case.

    Attributes:
        images: one regular expression for each channel.
        label: regular expression of the label's name.
        classes: what the values in the labels mean.
        prefix: put before the group to name the case.
    """

    images: tuple[str, ...]
    label: str
    classes: tuple[tuple[int, str], ...]
    prefix: str = ""


@dataclass(frozen=True)
class DecathlonFolder:
    """A folder with a dataset.json.

    Attributes:
        names: regular expression of the cases that belong to the set.
        parts: the lists of the file that hold labeled scans of the set.
    """

    names: str = ".*"
    parts: tuple[str, ...] = ("training",)


LAYOUTS: dict[str, NamedFiles | DecathlonFolder] = {
    "btcv": NamedFiles(
        images=(r"img(?P<case>\d+)",),
        label=r"label(?P<case>\d+)",
        prefix="img",
        classes=(
            (1, "spleen"),
            (2, "right kidney"),
            (3, "left kidney"),
            (4, "gallbladder"),
            (5, "esophagus"),
            (6, "liver"),
            (7, "stomach"),
            (8, "aorta"),
            (9, "inferior vena cava"),
            (10, "portal vein and splenic vein"),
            (11, "pancreas"),
            (12, "right adrenal gland"),
            (13, "left adrenal gland"),
        ),
    ),
    "mmwhs": NamedFiles(
        images=(r"(?P<case>ct_train_\d+)_image",),
        label=r"(?P<case>ct_train_\d+)_label",
        classes=(
            (205, "left ventricular myocardium"),
            (420, "left atrium"),
            (500, "left ventricle"),
            (550, "right atrium"),
            (600, "right ventricle"),
            (820, "ascending aorta"),
            (850, "pulmonary artery"),
        ),
    ),
    "spleen": DecathlonFolder(),
    # The CT of the set, 200 for training and 100 for validation; the numbers above 500 are MR.
    "amos22": DecathlonFolder(names=r"amos_0(?:[0-4]\d\d|500)", parts=("training", "validation")),
    "word": DecathlonFolder(),
    "covid19": NamedFiles(
        images=(r"(?P<case>volume-covid19-A-.+)_ct",),
        label=r"(?P<case>volume-covid19-A-.+)_seg",
        classes=((1, "COVID-19 lesion"),),
    ),
    "brats21": NamedFiles(
        images=tuple(rf"(?P<case>BraTS2021_\d+)_{channel}" for channel in ("flair", "t1", "t1ce", "t2")),
        label=r"(?P<case>BraTS2021_\d+)_seg",
        classes=((1, "necrotic tumor core"), (2, "peritumoral edema"), (4, "enhancing tumor")),
    ),
}


def read_published(name: str, folder: Path) -> tuple[list[Case], ClassTable]:
    """The labeled cases of a public data set, in the order of their names, and its classes.

    Every class was drawn in every case: one without voxels is absent there, not unknown.

    Args:
        name: a key of `LAYOUTS`.
        folder: of the data set, or one above it.

    Raises:
        RequestError: the folder does not hold this set, or a case is incomplete.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder; name the one that the data set {name} was unpacked to.")
    layout = LAYOUTS[name]
    if isinstance(layout, NamedFiles):
        files = _named_files(layout, folder)
        classes = ClassTable(tuple(SegmentClass(value, meaning) for value, meaning in layout.classes))
    else:
        pairs, classes = read_decathlon(folder, layout.parts)
        files = {case: ((image,), label) for case, (image, label) in pairs.items() if re.fullmatch(layout.names, case)}
    if not files:
        expected = layout.label if isinstance(layout, NamedFiles) else f"{layout.names} in {DATASET_FILE}"
        raise RequestError(
            f"{folder} holds no labeled scans of the data set {name} (names like {expected}); check the path."
        )
    drawn = frozenset(classes.names)
    cases = [Case(case, *files[case], annotated=drawn, classes=classes) for case in sorted(files)]
    return cases, classes


def read_decathlon(folder: Path, parts: Sequence[str] = ("training",)) -> tuple[Pairs, ClassTable]:
    """The labeled scans that a dataset.json lists.

    Args:
        folder: with `dataset.json`; the paths in it start here.
        parts: the lists to read; of those after the first only what has its label on disk, because some sets were
            published before the labels of their validation scans.

    Raises:
        RequestError: the file is missing or damaged, or a file that it names is missing.
    """
    path = folder / DATASET_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        classes, _ = decathlon_classes(content)
        files = [(folder / e["image"], folder / e["label"], part) for part in parts for e in content.get(part, [])]
    except OSError as error:
        raise RequestError(f"{path} cannot be read; name the folder of the data set that holds it.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is not Decathlon's dataset.json ({error}); take that of the data set.") from error
    pairs: Pairs = {}
    for image, label, part in files:
        if part != parts[0] and not label.is_file():
            continue
        for file in (image, label):
            if not file.is_file():
                raise RequestError(f"{file} is missing, though {path} lists it; complete the data set.")
        pairs[image.name.split(".nii")[0]] = image, label
    return pairs, classes


def _named_files(layout: NamedFiles, folder: Path) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """Case -> its channels and its label. A scan without a label is left out."""
    found: list[dict[str, Path]] = [{} for _ in (*layout.images, layout.label)]
    for file in sorted(folder.rglob("*.nii*")):
        for pattern, files in zip((*layout.images, layout.label), found, strict=True):
            if not (match := re.fullmatch(pattern + _NIFTI, file.name)):
                continue
            case = layout.prefix + match["case"]
            if case in files:
                raise RequestError(f"{files[case]} and {file} have one name; name the folder that holds only one.")
            files[case] = file
    *channels, labels = found
    for case, label in labels.items():
        for number, files in enumerate(channels):
            if case not in files:
                raise RequestError(f"{label} has no image named like {layout.images[number]}; complete the data set.")
    return {case: (tuple(files[case] for files in channels), label) for case, label in labels.items()}
