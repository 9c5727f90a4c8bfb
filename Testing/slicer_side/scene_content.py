"""Real scans put into a scene in ways that scans come to users, and voxels read back by their place in the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
import vtk.util.numpy_support

SAMPLES = Path(__file__).parents[2] / "GLMAESegmentation" / "Resources" / "SampleScans"
HIPPOCAMPUS = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^{code}^{name}~^^~Anatomic codes - DICOM master list~^^~^^"
)
SEGMENTS = {
    "anterior": ("Anterior hippocampus", (0.9, 0.2, 0.1), HIPPOCAMPUS.format(code="1111", name="Anterior")),
    "posterior": ("Hippocampus, posterior ü", (0.1, 0.3, 0.85), HIPPOCAMPUS.format(code="2222", name="Posterior")),
}
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Voxel index to RAS mm: what scanners and converters produce. The first three letters say where I, J, K point.
GRIDS = {
    "RAS": np.array([[1.0, 0, 0, 5], [0, 1, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]]),
    "LPS": np.array([[-1.0, 0, 0, 5], [0, -1, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]]),
    "LAS_left_handed": np.array([[-1.0, 0, 0, 5], [0, 1, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]]),
    "anisotropic_PIR": np.array([[0.0, 0, 5, -40], [-0.6, 0, 0, 9], [0, 0.6, 0, 21.5], [0, 0, 0, 1]]),
}


def array_of(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(matrix)


def matrix_of(array: np.ndarray) -> vtk.vtkMatrix4x4:
    return slicer.util.vtkMatrixFromArray(array)


def oblique(spacing: tuple[float, float, float], degrees: tuple[float, float, float]) -> np.ndarray:
    """A grid turned about the three axes."""
    turn = vtk.vtkTransform()
    turn.Translate(12.5, -30.25, 7.125)
    for angle, axis in zip(degrees, np.eye(3), strict=True):
        turn.RotateWXYZ(angle, *axis)
    return array_of(turn.GetMatrix()) @ np.diag([*spacing, 1.0])


GRIDS["oblique"] = oblique((0.9, 1.1, 1.3), (20, -35, 50))
GRIDS["oblique_left_handed"] = oblique((1.0, 1.0, 2.5), (-10, 15, 5)) @ np.diag([1.0, 1.0, -1.0, 1.0])


def sample(name: str = "hippocampus_003") -> tuple[np.ndarray, np.ndarray]:
    """A bundled scan and its label map as arrays [K, J, I]."""
    scan, label = (sitk.ReadImage(str(SAMPLES / kind / f"{name}.nii.gz")) for kind in ("images", "labels"))
    return sitk.GetArrayFromImage(scan), sitk.GetArrayFromImage(label)


def add_volume(array: np.ndarray, ijk_to_ras: np.ndarray, name: str = "T1 brain") -> Any:
    """A volume node with the voxels of `array` [K, J, I] on a grid."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    volume.SetIJKToRASMatrix(matrix_of(ijk_to_ras))
    slicer.util.updateVolumeFromArray(volume, array)
    volume.CreateDefaultDisplayNodes()
    return volume


def add_segmentation(
    masks: dict[str, np.ndarray], ijk_to_ras: np.ndarray, name: str = "Segmentation", first: tuple[int, ...] = (0, 0, 0)
) -> Any:
    """A segmentation node with one segment a mask [K, J, I]; voxel [0, 0, 0] of the masks has the index `first`.

    The label maps are put in directly, as they are after loading a file: nothing has cropped or resampled them.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    for identifier, mask in masks.items():
        title, color, terminology = SEGMENTS.get(identifier, (identifier, (0.4, 0.7, 0.2), ""))
        segment = slicer.vtkSegment()
        segment.SetName(title)
        segment.SetColor(color)
        if terminology:
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
        segment.AddRepresentation("Binary labelmap", oriented_image(mask, ijk_to_ras, first))
        node.GetSegmentation().AddSegment(segment, identifier)
    return node


def oriented_image(mask: np.ndarray, ijk_to_ras: np.ndarray, first: tuple[int, ...] = (0, 0, 0)) -> Any:
    """vtkOrientedImageData of a mask [K, J, I] whose extent starts at the index `first` (i, j, k)."""
    image = slicer.vtkOrientedImageData()
    last = np.add(first, mask.shape[::-1]) - 1
    image.SetExtent(*np.stack([first, last], axis=1).ravel().tolist())
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    scalars[:] = (mask != 0).ravel()
    image.SetImageToWorldMatrix(matrix_of(ijk_to_ras))
    return image


def add_transform(matrix: np.ndarray, parent: Any = None) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(matrix_of(matrix))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_warp() -> Any:
    """A smooth non-linear transform that moves points by several voxels."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    random = np.random.default_rng(5)
    for corner in np.array(np.meshgrid([-60, 60], [-60, 60], [-60, 60])).reshape(3, -1).T.astype(float):
        source.InsertNextPoint(*corner)
        target.InsertNextPoint(*(corner + random.uniform(-6, 6, 3)))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def segment_points(segmentation: Any, identifier: str) -> np.ndarray:
    """Where a segment's voxel centers are, local RAS mm [N, 3], in a fixed order."""
    segment = segmentation.GetSegmentation().GetSegment(identifier)
    image = segment.GetRepresentation("Binary labelmap")
    dimensions = image.GetDimensions()
    if min(dimensions) < 1:
        return np.zeros((0, 3))
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(dimensions[::-1])
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return points_of(scalars == segment.GetLabelValue(), array_of(matrix), tuple(image.GetExtent()[::2]))


def points_of(mask: np.ndarray, ijk_to_ras: np.ndarray, first: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
    """Where the voxel centers of a mask [K, J, I] are, RAS mm [N, 3], in a fixed order."""
    ijk = np.argwhere(mask)[:, ::-1] + np.asarray(first)
    ras = (np.c_[ijk, np.ones(len(ijk))] @ ijk_to_ras.T)[:, :3]
    return ordered(ras)


def ordered(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 3).T)]


def image_grid(image: sitk.Image) -> np.ndarray:
    """A SimpleITK image's voxel index to RAS mm."""
    grid = np.eye(4)
    grid[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    grid[:3, 3] = image.GetOrigin()
    return LPS_FROM_RAS @ grid


def file_points(path: Path) -> dict[str, np.ndarray]:
    """Where each segment of a .seg.nrrd is, RAS mm by segment name, read with SimpleITK from the header's layers."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    array = array[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else array
    found = {}
    number = 0
    while image.HasMetaDataKey(f"Segment{number}_ID"):
        layer, value = (int(image.GetMetaData(f"Segment{number}_{key}")) for key in ("Layer", "LabelValue"))
        name = image.GetMetaData(f"Segment{number}_Name")
        found[name] = points_of(array[..., layer] == value, image_grid(image))
        number += 1
    return found
