"""One picture of many segmentations: a slice of each scan with the contours of its classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glmae.files import writing
from glmae.scans.cases import find_images, find_labels
from glmae.scans.classes import ClassTable
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label

BACKGROUND, INK = "#16181d", "#e8eaed"
# Whichever leaves fewest places empty, the first of them.
COLUMNS = (4, 5, 3)


@dataclass(frozen=True)
class Panel:
    """One scan of the sheet.

    Attributes:
        title: shown above the slice.
        image: the scan.
        prediction: label map of network indices 0..n on the same grid; None for none.
        label: the same for the human's label; None for none.
    """

    title: str
    image: sitk.Image
    prediction: sitk.Image | None
    label: sitk.Image | None


def write_overview(path: Path, heading: str, panels: Sequence[Panel], classes: ClassTable) -> None:
    """Write a PNG with one slice a scan: predictions as filled contours, labels as dashed white lines.

    The slice is axial and the one with the most labeled or predicted voxels, seen from the feet, as in Slicer.

    Args:
        path: the PNG.
        heading: line at the top.
        panels: the scans, in reading order.
        classes: names and colors.

    Raises:
        StorageError: the file cannot be written.
    """
    columns = min(len(panels), min(COLUMNS, key=lambda count: -len(panels) % count))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.1 * columns, 3.3 * rows + 1.1), dpi=110, facecolor=BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, color=INK, fontsize=14)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, classes)
    handles = [Line2D([], [], color=entry.color, linewidth=3, label=entry.name) for entry in classes.with_colors()]
    if any(panel.label is not None and panel.prediction is not None for panel in panels):
        handles.append(Line2D([], [], color="white", linewidth=1.2, linestyle="--", label="label drawn by hand"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=11)
    writing(path, lambda temporary: figure.savefig(temporary, format="png", facecolor=BACKGROUND))


def overview_of_folders(
    path: Path, heading: str, images: Path, predictions: Path, labels: Path, scores: Mapping[str, Any]
) -> None:
    """Write the overview of a folder of predictions beside their labels.

    Args:
        path: the PNG.
        heading: line at the top.
        images: folder of the scans.
        predictions: folder of segmentations.
        labels: folder of labels with the same names.
        scores: the content of their report.json.
    """
    labeled, table = find_labels(labels)
    scans = {case.name: case for case in find_images([images])}
    truth = {case.name: case for case in labeled}
    panels = []
    for case in find_labels(predictions)[0]:
        image = read_channels(scans[case.name].images)[0]
        prediction = read_label(replace(case, classes=table), image, table, prediction=True)
        label = read_label(truth[case.name], image, table) if case.name in truth else None
        dice = [row["dice"] for row in scores["cases"] if row["case"] == case.name and row["dice"] is not None]
        title = f"{case.name}   Dice {np.mean(dice):.2f}" if dice else case.name
        panels.append(Panel(title, image, prediction, label))
    write_overview(path, heading, panels, table)


def _draw(axis: Axes, panel: Panel, classes: ClassTable) -> None:
    maps = [part for part in (panel.prediction, panel.label) if part is not None]
    arrays = [np.transpose(sitk.GetArrayFromImage(sitk.DICOMOrient(part, "LPS"))) for part in maps]  # [L, P, S]
    image = np.transpose(sitk.GetArrayFromImage(sitk.DICOMOrient(panel.image, "LPS"))).astype(np.float32)
    areas = sum(np.count_nonzero(array, axis=(0, 1)) for array in arrays) if arrays else np.zeros(image.shape[2])
    at = int(np.argmax(areas)) if np.any(areas) else image.shape[2] // 2
    low, high = np.percentile(image[:, :, at], [1, 99.5])
    spacing = sitk.DICOMOrient(panel.image, "LPS").GetSpacing()
    axis.imshow(image[:, :, at].T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=spacing[1] / spacing[0])
    axis.set_title(panel.title, color=INK, fontsize=10)
    filled = panel.prediction if panel.prediction is not None else panel.label
    for part, array in zip(maps, arrays, strict=True):
        for index, entry in enumerate(classes.with_colors(), start=1):
            mask = (array[:, :, at] == index).T.astype(float)
            if not mask.any():
                continue
            if part is filled:
                axis.contourf(mask, levels=[0.5, 1.5], colors=[entry.color], alpha=0.25)
                axis.contour(mask, levels=[0.5], colors=[entry.color], linewidths=1.8)
            else:
                axis.contour(mask, levels=[0.5], colors="white", linewidths=1.0, linestyles="--")
