"""A picture of the panel beside the four views that Slicer has; the views are drawn here, from the scene's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from module_window import ModuleWindow, few_colors
from PIL import Image
from vtk.util.numpy_support import vtk_to_numpy

WIDTH = 440  # of the views, pixels


def picture_beside_views(window: ModuleWindow, path: Path, volume: Any, segmentation: Any) -> None:
    """The panel, and a scan with a segmentation in three slices and as surfaces."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    window.picture(path)
    panel = Image.open(path).convert("RGB")
    image = slicer.util.arrayFromVolume(volume)
    names = [segmentation.GetSegmentation().GetNthSegmentID(number) for number in range(2)]
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volume) > 0 for name in names]
    colors = [segmentation.GetSegmentation().GetSegment(name).GetColor() for name in names]
    center = [round(float(place.mean())) for place in np.nonzero(np.logical_or(*masks))]
    figure = plt.figure(figsize=(WIDTH / 100, panel.height / 100), dpi=100, facecolor="black")
    for place, axis in ((1, 0), (3, 1), (4, 2)):
        axes = figure.add_axes(((place - 1) % 2 / 2 + 0.005, (0.505, 0.005)[place > 2], 0.49, 0.49))
        axes.imshow(np.take(image, center[axis], axis), cmap="gray", origin="lower", interpolation="nearest")
        for mask, color in zip(masks, colors, strict=True):
            axes.contour(np.take(mask, center[axis], axis), [0.5], colors=[color], linewidths=1.5)
        axes.set_axis_off()
    axes = figure.add_axes((0.505, 0.505, 0.49, 0.49), projection="3d", facecolor=(0.74, 0.75, 0.85))
    segmentation.CreateClosedSurfaceRepresentation()
    for name, color in zip(names, colors, strict=True):
        surface = vtk.vtkPolyData()
        segmentation.GetClosedSurfaceRepresentation(name, surface)
        points = vtk_to_numpy(surface.GetPoints().GetData())
        triangles = vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3)
        axes.plot_trisurf(*points.T, triangles=triangles, color=color, linewidth=0, antialiased=False)
    axes.set_aspect("equal")
    axes.set_box_aspect(None, zoom=1.4)
    axes.set_axis_off()
    figure.canvas.draw()
    views = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]
    plt.close(figure)
    whole = Image.new("RGB", (panel.width + views.width, panel.height))
    whole.paste(panel, (0, 0))
    whole.paste(views, (panel.width, 0))
    whole.save(path)
    few_colors(path, grays=24, colors=8)
