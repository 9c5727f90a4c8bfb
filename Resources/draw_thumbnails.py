"""Draws the thumbnails of the two groups of sample scans, from the scans themselves.

    python Resources/draw_thumbnails.py

Needs the engine's packages; writes GLMAESegmentation/Resources/Icons/Sample*.png.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

MODULE = Path(__file__).resolve().parents[1] / "GLMAESegmentation"
SCANS = MODULE / "Resources" / "SampleScans"
SIZE = (288, 192)  # three to two, as Slicer's buttons
GAP = 6
BACKGROUND = (24, 25, 30)


def tile(name: str, size: tuple[int, int], labeled: bool) -> Image.Image:
    """The sagittal slice with the most hippocampus, filling `size` (width, height in pixels)."""
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(SCANS / "labels" / f"{name}.nii.gz")))  # [K, J, I]
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(SCANS / "images" / f"{name}.nii.gz"))).astype(float)
    middle = int(np.argmax((label > 0).sum(axis=(0, 1))))
    image, label = image[::-1, :, middle], label[::-1, :, middle]
    low, high = np.percentile(image, (1, 99.5))
    shown = Image.fromarray((np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8))
    scale = max(size[0] / shown.width, size[1] / shown.height)
    wide = (round(shown.width * scale), round(shown.height * scale))
    pixels = np.asarray(shown.resize(wide, Image.Resampling.BICUBIC).convert("RGB")).astype(float)
    if labeled:
        for entry in json.loads((SCANS / "labels" / "classes.json").read_text(encoding="utf-8"))["classes"]:
            mask = Image.fromarray(((label == entry["value"]) * 255).astype(np.uint8))
            weight = np.asarray(mask.resize(wide, Image.Resampling.BICUBIC)).astype(float)[..., None] / 255
            weight = np.clip((weight - 0.4) * 5, 0, 1) * 0.6
            pixels = pixels * (1 - weight) + weight * np.array(entry["color"]) * 255
    left, top = (wide[0] - size[0]) // 2, (wide[1] - size[1]) // 2
    return Image.fromarray(pixels.astype(np.uint8)).crop((left, top, left + size[0], top + size[1]))


def mosaic(names: list[str], columns: int, labeled: bool) -> Image.Image:
    """The scans `names` side by side."""
    rows = -(-len(names) // columns)
    width = (SIZE[0] - GAP * (columns - 1)) // columns
    height = (SIZE[1] - GAP * (rows - 1)) // rows
    picture = Image.new("RGB", SIZE, BACKGROUND)
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        picture.paste(tile(name, (width, height), labeled), (column * (width + GAP), row * (height + GAP)))
    return picture


def main() -> None:
    """Write both."""
    # Read as text: importing the Slicer side needs slicer-core.
    source = (MODULE / "GLMAESegmentationLib" / "scene" / "sample_data.py").read_text(encoding="utf-8")
    labeled = re.findall(r'"(hippocampus_\d+)"', source)
    others = [f"hippocampus_{number}" for number in re.findall(r'"(\d{3})"', source)]
    icons = MODULE / "Resources" / "Icons"
    # Few colors, and pixels as large as the scans', keep the clone small.
    small = mosaic(others, 2, False).reduce(2).resize(SIZE, Image.Resampling.NEAREST)
    pictures = {"SampleLabeled.png": (mosaic(labeled, 1, True), 24), "SampleUnlabeled.png": (small, 16)}
    for name, (picture, colors) in pictures.items():
        picture.quantize(colors, dither=Image.Dither.NONE).save(icons / name, optimize=True)


if __name__ == "__main__":
    main()
