"""Pictures of a pre-training run: the losses so far, and what the student makes of masked views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..devices import autocast
from ..files import writing
from .run import COLUMNS, Run
from .views import Scans, cut_views, read_neighborhoods

LOSSES, RECONSTRUCTIONS = "losses.png", "reconstructions.png"
PANELS = {
    "reconstruction: mean squared error": ("local_reconstruction", "global_reconstruction"),
    "consistency: cross-entropy": ("global_global", "global_local", "further"),
}
# Volumes that are shown, and points that a curve is thinned to.
VOLUMES, POINTS = 3, 400
DPI = 100


def draw_pictures(run: Run, scans: Scans, folder: Path) -> None:
    """Write both pictures into `folder`, each whole or not at all. Nothing random of the run is touched.

    Raises:
        StorageError: they cannot be written.
    """
    if run.history:
        draw_losses(folder / LOSSES, run.history)
    draw_reconstructions(folder / RECONSTRUCTIONS, *reconstructed(run, scans))


def draw_losses(path: Path, history: Sequence[Sequence[float]]) -> None:
    """The terms of the loss over the steps; each point is the mean of equally many steps.

    Args:
        history: rows of `run.COLUMNS`; a term that is switched off is nan.
    """
    rows = np.array(history)
    length = -(-len(rows) // POINTS)
    binned = np.stack([part.mean(axis=0) for part in np.split(rows, range(length, len(rows), length))])
    steps = binned[:, COLUMNS.index("step")]
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (title, terms) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for term in terms:
            values = binned[:, COLUMNS.index(term)]
            if not np.isnan(values).all():
                axes.plot(steps, values, label=term.replace("_", "-"), marker="." if len(steps) < 20 else None)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    _save(figure, path)


def draw_reconstructions(path: Path, original: np.ndarray, masked: np.ndarray, filled: np.ndarray) -> None:
    """Middle slices of views, as radiologists look at them: from the feet and from the front.

    Args:
        original: views, [B, I, J, K], axes to the Right, Anterior, Superior.
        masked: the same without the masked patches.
        filled: the same with these patches reconstructed.
    """
    figure = Figure(figsize=(12, 2.2 * len(original) + 0.4), layout="constrained")
    grid = figure.subplots(len(original), 6, squeeze=False)
    stages = {"original": original, "masked": masked, "reconstructed": filled}
    for row, view in zip(grid, range(len(original)), strict=True):
        low, high = np.percentile(original[view], (1, 99))
        for column, (plane, axis) in enumerate((("axial", 2), ("coronal", 1))):
            for place, (stage, views) in enumerate(stages.items()):
                axes = row[3 * column + place]
                middle = np.take(views[view], views.shape[1 + axis] // 2, axis=axis)
                axes.imshow(middle.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower")
                axes.invert_xaxis()  # the patient's right is on the left
                axes.set_axis_off()
                if view == 0:
                    axes.set_title(f"{plane}, {stage}", fontsize=10)
    _save(figure, path)


def reconstructed(run: Run, scans: Scans) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same views each time: the first global ones of the first step's first volumes, each [B, I, J, K].

    Returns:
        Original, masked, reconstructed; of several channels the first.
    """
    config = run.config
    batch = read_neighborhoods(config, scans, 0, range(min(VOLUMES, config.batch)))
    as_they_are = torch.tensor([1.0, 0.0]).expand(len(batch.regions), 1, 2)
    views = cut_views(batch.regions, batch.global_boxes[:, :1], as_they_are, config.backbone.global_view)[:, 0]
    with autocast(run.device):
        masked, filled = run.model.reconstruct(views.to(run.device), batch.generators)
    first, second, third = (each[:, 0].float().cpu().numpy() for each in (views, masked, filled))
    return first, second, third


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # needs no screen
    writing(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))
