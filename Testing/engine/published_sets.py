"""Tiny synthetic stand-ins for the paper's data sets, in the folder layouts in which those are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ORGANS = {"0": "background", "1": "spleen", "2": "right kidney"}
HEART = (205, 420, 500, 550, 600, 820, 850)


def write_set(name: str, folder: Path, cases: int = 3) -> list[str]:
    """Write a stand-in of the set; returns the names of its labeled cases."""
    return {
        "btcv": _btcv,
        "mmwhs": _mmwhs,
        "spleen": _spleen,
        "amos22": _amos22,
        "word": _word,
        "covid19": _covid19,
        "brats21": _brats21,
    }[name](folder, cases)


def scan(seed: int, values: tuple[int, ...], side: int = 24) -> tuple[sitk.Image, sitk.Image]:
    """A CT of air with a body and a ball for each value, and its label."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices((side,) * 3)
    voxels = np.full((side,) * 3, -1000, dtype=np.int16)
    body = (k - side / 2) ** 2 + (j - side / 2) ** 2 + (i - side / 2) ** 2 < (side * 0.45) ** 2
    voxels[body] = 20
    label = np.zeros((side,) * 3, dtype=np.uint16)
    for number, value in enumerate(values):
        angle = 2 * np.pi * number / len(values)
        middle = side / 2 + side / 4 * np.array([0.0, np.sin(angle), np.cos(angle)])
        ball = (k - middle[0]) ** 2 + (j - middle[1]) ** 2 + (i - middle[2]) ** 2 < (side / 8) ** 2
        label[ball] = value
        voxels[ball] = 100 + 60 * number
    voxels = voxels + rng.normal(0, 10, voxels.shape).astype(np.int16)
    images = [sitk.GetImageFromArray(array) for array in (voxels, label)]
    for image in images:
        image.SetSpacing((1.5, 1.5, 1.5))
    return images[0], images[1]


def _write(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def _pair(seed: int, values: tuple[int, ...], image_path: Path, label_path: Path) -> None:
    image, label = scan(seed, values)
    _write(image, image_path)
    _write(label, label_path)


def _btcv(folder: Path, cases: int) -> list[str]:
    training, testing = folder / "RawData" / "Training", folder / "RawData" / "Testing"
    for n in range(1, cases + 1):
        _pair(n, (1, 6, 13), training / "img" / f"img{n:04d}.nii.gz", training / "label" / f"label{n:04d}.nii.gz")
    _write(scan(99, (1,))[0], testing / "img" / "img0061.nii.gz")
    return [f"img{n:04d}" for n in range(1, cases + 1)]


def _mmwhs(folder: Path, cases: int) -> list[str]:
    names = [f"ct_train_{n}" for n in range(1001, 1001 + cases)]
    for n, name in enumerate((*names, "mr_train_1001")):
        inner = folder / name[:8]
        _pair(n, HEART, inner / f"{name}_image.nii.gz", inner / f"{name}_label.nii.gz")
    return names


def _decathlon(folder: Path, listed: dict[str, list[tuple[str, str]]], labels: dict[str, str]) -> None:
    content: dict = {
        "name": folder.name,
        "modality": {"0": "CT"},
        "labels": labels,
        "test": ["./imagesTs/test_1.nii.gz"],
    }
    for number, (part, names) in enumerate(listed.items()):
        content[part] = []
        for seed, (name, ending) in enumerate(names):
            image, label = f"./images{ending}/{name}.nii.gz", f"./labels{ending}/{name}.nii.gz"
            _pair(100 * number + seed, (1,) if len(labels) == 2 else (1, 2), folder / image, folder / label)
            content[part].append({"image": image, "label": label})
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def _spleen(folder: Path, cases: int) -> list[str]:
    names = [f"spleen_{n}" for n in range(10, 10 + cases)]
    _decathlon(folder, {"training": [(name, "Tr") for name in names]}, {"0": "background", "1": "spleen"})
    # What macOS leaves in the archive.
    (folder / "imagesTr" / "._spleen_10.nii.gz").write_bytes(b"\0\5\26\7")
    return names


def _amos22(folder: Path, cases: int) -> list[str]:
    training = [f"amos_{n:04d}" for n in range(1, cases)]
    listed = {"training": [(name, "Tr") for name in (*training, "amos_0507")], "validation": [("amos_0400", "Va")]}
    _decathlon(folder, listed, ORGANS)
    return [*training, "amos_0400"]


def _word(folder: Path, cases: int) -> list[str]:
    names = [f"word_{n:04d}" for n in range(2, 2 + cases)]
    _decathlon(folder, {"training": [(name, "Tr") for name in names], "validation": [("word_0001", "Val")]}, ORGANS)
    return names


def _covid19(folder: Path, cases: int) -> list[str]:
    names = [f"volume-covid19-A-{n:04d}" for n in range(3, 3 + cases)]
    for n, name in enumerate(names):
        _pair(n, (1,), folder / "Train" / f"{name}_ct.nii.gz", folder / "Train" / f"{name}_seg.nii.gz")
    _write(scan(9, (1,))[0], folder / "Validation" / "volume-covid19-A-0001_ct.nii.gz")
    return names


def _brats21(folder: Path, cases: int) -> list[str]:
    names = [f"BraTS2021_{n:05d}" for n in range(cases)]
    for n, name in enumerate(names):
        image, label = scan(n, (1, 2, 4))
        for number, channel in enumerate(("t2", "t1ce", "t1", "flair")):
            _write(image + 1000 + number, folder / name / f"{name}_{channel}.nii.gz")
        _write(label, folder / name / f"{name}_seg.nii.gz")
    return names
