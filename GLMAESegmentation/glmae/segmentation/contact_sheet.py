"""Pictures of a batch to leaf through: three slices of each scan with its classes, ten scans a page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..files import writing
from ..scans.classes import ClassTable
from ..scans.geometry import Geometry
from ..scans.normalisation import sampled
from .report import CaseRecord, Report

SIDE = 220  # pixels of the square that a slice fits in
ACROSS, DOWN = 2, 5
_GAP, _TITLE, _LEGEND = 16, 44, 30
_BACKGROUND, _INK, _DOUBT = (22, 24, 29), (232, 234, 237), (255, 183, 77)
# Axes down and across the picture, and the one it looks along. As in Slicer: the patient's left is on the right.
_VIEWS = (("P", "L", "I"), ("I", "L", "P"), ("I", "P", "L"))
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


def draw_thumbnail(path: Path, image: sitk.Image, labels: sitk.Image, classes: ClassTable) -> None:
    """Write the axial, coronal and sagittal slices with the most labeled voxels, side by side, as a PNG.

    Args:
        labels: label map with the values of `classes` on the same grid.

    Raises:
        StorageError: it cannot be written.
    """
    grid = Geometry.of(image)
    voxels, numbers = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(labels)
    colors = np.zeros((max(classes.values, default=0) + 1, 3))
    for entry in classes.with_colors():
        assert entry.color is not None
        colors[entry.value] = entry.color
    low, high = np.percentile(sampled(voxels, 500_000), [1, 99.5])
    picture = Image.new("RGB", (3 * SIDE, SIDE), _BACKGROUND)
    areas = _areas(numbers)
    for number, (down, across, along) in enumerate(_VIEWS):
        view, axes = _turned(voxels, grid, (down, across, along))
        drawn, _ = _turned(numbers, grid, (down, across, along))
        area = areas[axes[2]] if grid.orientation[axes[2]] == along else areas[axes[2]][::-1]
        at = int(np.argmax(area)) if area.any() else len(area) // 2
        gray = np.clip((view[:, :, at].astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
        height, width = (view.shape[axis] * grid.spacing[axes[axis]] for axis in range(2))
        scale = SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        shown = np.asarray(Image.fromarray((255 * gray).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
        kinds = drawn[:, :, at].astype(np.int32)
        kinds = np.asarray(Image.fromarray(kinds).resize(size, Image.Resampling.NEAREST))
        painted = Image.fromarray(_painted(shown, kinds, colors))
        picture.paste(painted, (number * SIDE + (SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    writing(path, lambda temporary: picture.save(temporary, format="PNG"))


def write_contact_sheets(report: Report, records: Sequence[CaseRecord], classes: ClassTable) -> None:
    """Write `01.png`, `02.png`, ... with the pictures of the finished cases; doubtful ones say why.

    Raises:
        StorageError: a page cannot be written.
    """
    shown = [record for record in records if record.state == "done" and report.thumbnail(record.file).is_file()]
    per_page = ACROSS * DOWN
    pages = [shown[start : start + per_page] for start in range(0, len(shown), per_page)]
    for number, page in enumerate(pages, start=1):
        path = report.sheets / f"{number:02d}.png"
        content = _digest(report, page)
        if _digest_of(path) == content:
            continue
        text = PngInfo()
        text.add_text("content", content)
        writing(path, partial(_page(report, page, classes).save, format="PNG", pnginfo=text))
    for path in report.sheets.glob("*.png"):
        if path.stem.isdigit() and int(path.stem) > len(pages):
            path.unlink(missing_ok=True)


def _digest(report: Report, page: Sequence[CaseRecord]) -> str:
    """Changes with what a page shows; of a large batch only those pages are drawn again that change."""
    state = []
    for record in page:
        doubts = [flag.message for flag in record.flags]
        state.append((record.case, record.file, doubts, report.thumbnail(record.file).stat().st_mtime_ns))
    return hashlib.sha256(repr(state).encode()).hexdigest()


def _digest_of(path: Path) -> str | None:
    try:
        with Image.open(path) as picture:
            return picture.info.get("content")
    except (OSError, SyntaxError):  # not there, or damaged
        return None


def _page(report: Report, records: Sequence[CaseRecord], classes: ClassTable) -> Image.Image:
    cell = 3 * SIDE + _GAP, SIDE + _TITLE + _GAP
    rows = -(-len(records) // ACROSS)
    sheet = Image.new("RGB", (_GAP + ACROSS * cell[0], _GAP + _LEGEND + rows * cell[1]), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    # The font that matplotlib brings knows Greek and Cyrillic, too.
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 14)
    across = _GAP
    for entry in classes.with_colors():
        assert entry.color is not None
        draw.rectangle((across, _GAP, across + 14, _GAP + 14), fill=tuple(round(255 * part) for part in entry.color))
        name = _drawable(entry.name)
        draw.text((across + 20, _GAP - 2), name, font=font, fill=_INK)
        across += 44 + round(font.getlength(name))
    for number, record in enumerate(records):
        left, top = _GAP + number % ACROSS * cell[0], _GAP + _LEGEND + number // ACROSS * cell[1]
        draw.text((left, top), _fitting(record.case, font), font=font, fill=_INK)
        if record.flags:
            more = f" (and {len(record.flags) - 1} more)" if len(record.flags) > 1 else ""
            draw.text((left, top + 19), _fitting(record.flags[0].message + more, font), font=font, fill=_DOUBT)
        with Image.open(report.thumbnail(record.file)) as picture:
            sheet.paste(picture, (left, top + _TITLE))
    return sheet


def _turned(voxels: np.ndarray, grid: Geometry, towards: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """A view of [K, J, I] whose axes point to three sides of the patient, and which of I, J, K each of them is."""
    axes = [next(a for a in range(3) if grid.orientation[a] in (side, _OPPOSITE[side])) for side in towards]
    turned = np.transpose(voxels, [2 - axis for axis in axes])
    steps = [1 if grid.orientation[axis] == side else -1 for axis, side in zip(axes, towards, strict=True)]
    return turned[:: steps[0], :: steps[1], :: steps[2]], axes


def _areas(numbers: np.ndarray) -> list[np.ndarray]:
    """Labeled voxels in each slice across I, J and K, in one pass over [K, J, I]."""
    across = [np.zeros(side, dtype=np.int64) for side in reversed(numbers.shape)]
    for k, plane in enumerate(numbers):
        labeled = plane != 0
        across[0] += np.count_nonzero(labeled, axis=0)
        across[1] += np.count_nonzero(labeled, axis=1)
        across[2][k] = np.count_nonzero(labeled)
    return across


def _painted(gray: np.ndarray, numbers: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """The slice in gray, its classes tinted and with strong outlines: uint8 [height, width, 3]."""
    padded = np.pad(numbers, 1, mode="edge")
    edge = np.zeros(numbers.shape, dtype=bool)
    for rows, columns in ((slice(2, None), slice(1, -1)), (slice(1, -1), slice(2, None))):
        edge |= padded[rows, columns] != numbers
    strength = np.where(numbers > 0, np.where(edge, 0.9, 0.3), 0.0)[..., None]
    return np.asarray(gray[..., None] * (1 - strength) + 255 * colors[numbers] * strength).astype(np.uint8)


def _drawable(text: str) -> str:
    """Without line breaks and other signs that no font has, at which the library of fonts ends."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _fitting(text: str, font: ImageFont.FreeTypeFont) -> str:
    text = _drawable(text)
    while font.getlength(text) > 3 * SIDE:
        text = text[:-2].rstrip("…") + "…"
    return text
