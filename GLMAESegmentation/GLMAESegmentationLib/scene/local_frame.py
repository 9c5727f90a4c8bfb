"""Where things stand relative to each other when their nodes have parent transforms.

A node's own ("local") coordinates are RAS mm before its parent transform. Cases are exported in the local coordinates
of their volume, so that the engine never sees a scene's transforms and a result returns to where its volume is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

# A matrix counts as free of shear, and a shift as whole voxels, within this (unitless; voxels).
TOLERANCE = 1e-4
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def same_frame(node: Any, other: Any) -> bool:
    """True when both nodes have the same parent transform (or none), whatever kind it is."""
    return node.GetParentTransformNode() is other.GetParentTransformNode()


def transform_between(node: Any, other: Any) -> vtk.vtkGeneralTransform:
    """The transform from `node`'s local RAS to `other`'s local RAS, linear or not."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), other.GetParentTransformNode(), transform
    )
    return transform


def matrix_between(node: Any, other: Any) -> np.ndarray | None:
    """`transform_between` as a 4x4 matrix; None when a non-linear transform is on the way."""
    if same_frame(node, other):
        return np.eye(4)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform_between(node, other)):
        return None
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        node.GetParentTransformNode(), other.GetParentTransformNode(), matrix
    )
    return array_of(matrix)


def free_of_shear(ijk_to_ras: np.ndarray) -> bool:
    """True when the three voxel axes of a 4x4 index-to-space matrix are at right angles (files can hold only those)."""
    axes = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < TOLERANCE)


def same_lattice(ijk_to_ras: np.ndarray, other: np.ndarray) -> bool:
    """True when two grids differ by whole voxels only: every voxel center of one falls on one of the other."""
    step = np.linalg.inv(other) @ ijk_to_ras
    shift = step[:3, 3]
    return bool(
        np.abs(step[:3, :3] - np.eye(3)).max() < TOLERANCE and np.abs(shift - np.round(shift)).max() < TOLERANCE
    )


def volume_matrix(volume: Any) -> np.ndarray:
    """A volume's voxel index (i, j, k) to local RAS mm as a 4x4 matrix."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def volume_grid(volume: Any) -> Any:
    """A volume's grid as a vtkOrientedImageData without voxels, in its local RAS."""
    grid = slicer.vtkOrientedImageData()
    grid.SetExtent(volume.GetImageData().GetExtent())
    grid.SetImageToWorldMatrix(matrix_of(volume_matrix(volume)))
    return grid


def image_matrix(image: Any) -> np.ndarray:
    """A vtkOrientedImageData's voxel index to RAS mm as a 4x4 matrix."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return array_of(matrix)


def array_of(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """A vtkMatrix4x4 as a 4x4 array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_of(array: np.ndarray) -> vtk.vtkMatrix4x4:
    """A 4x4 array as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return matrix
