"""The folders in which public data sets come, read as they are: nothing has to be renamed or copied."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from glmae.errors import RequestError
from glmae.scans.cases import Case
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.decathlon import DATASET_FILE, read_decathlon

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
        parts: the lists of the file that hold labelled scans of the set.
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
        classes=((1, "necrotic tumour core"), (2, "peritumoural oedema"), (4, "enhancing tumour")),
    ),
}


def read_published(name: str, folder: Path) -> tuple[list[Case], ClassTable]:
    """The labelled cases of a public data set, in the order of their names, and its classes.

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
            f"{folder} holds no labelled scans of the data set {name} (names like {expected}); check the path."
        )
    drawn = frozenset(classes.names)
    cases = [Case(case, *files[case], annotated=drawn, classes=classes) for case in sorted(files)]
    return cases, classes


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
