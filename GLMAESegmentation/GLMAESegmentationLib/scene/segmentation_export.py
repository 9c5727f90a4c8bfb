"""A segmentation node as the label file of a case (.seg.nrrd), in the local coordinates of its volume.

Slicer's own writer does the writing, on a copy: it merges layers and resamples to the reference geometry of what it is
given, and the user's node must stay as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from glmae.errors import ScanError, StorageError
from glmae.files import whole_file

from .local_frame import (
    free_of_shear,
    image_matrix,
    matrix_between,
    matrix_of,
    same_lattice,
    transform_between,
    volume_grid,
)


def export_segmentation(segmentation: Any, volume: Any, path: Path) -> None:
    """Write `segmentation` to `path` (.seg.nrrd), whole or not at all; neither node is touched.

    Segments keep name, color, terminology and other tags; overlapping segments stay in layers of their own; only the
    region that holds segments is written. Voxels are written as they are when the segments share one grid and stand to
    the volume in a linear transform without shear; else they are resampled once (nearest neighbor) to the
    volume's grid.

    Args:
        segmentation: a vtkMRMLSegmentationNode.
        volume: the vtkMRMLScalarVolumeNode that was segmented; the two may have different parent transforms.
        path: the file to write.

    Raises:
        ScanError: there are no segments, all are empty, or they cannot be converted to a label map.
        StorageError: the file cannot be written.
    """
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetAndObserveSegmentation(local_copy(segmentation, volume))
    with whole_file(path) as temporary:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(temporary))
        if not storage.WriteData(copy):
            raise StorageError(
                f"{path} could not be written by Slicer; free some space or choose a folder that you may write to."
            )


def local_copy(segmentation: Any, volume: Any) -> Any:
    """A vtkSegmentation of binary label maps with the same segments, in the local coordinates of `volume`.

    It has no reference geometry: with one, Slicer's writer would resample to it and fill all of it.
    """
    source = _with_labelmaps(segmentation, volume)
    images = _layers_in_frame(source, segmentation, volume)
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(_labelmap_name())
    for index in range(source.GetNumberOfSegments()):
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(source.GetNthSegment(index))
        identifier = source.GetNthSegmentID(index)
        segment.AddRepresentation(_labelmap_name(), images[source.GetLayerIndex(identifier, _labelmap_name())])
        copy.AddSegment(segment, identifier)
    return copy


def _with_labelmaps(segmentation: Any, volume: Any) -> Any:
    """The node's vtkSegmentation when it holds binary label maps, else a converted copy."""
    source = segmentation.GetSegmentation()
    name = segmentation.GetName()
    if source is None or source.GetNumberOfSegments() == 0:
        raise ScanError(f'Segmentation "{name}" has no segments; draw some, or delete it.')
    if not source.ContainsRepresentation(_labelmap_name()):
        scratch = slicer.vtkMRMLSegmentationNode()
        scratch.SetAndObserveSegmentation(slicer.vtkSegmentation())
        scratch.GetSegmentation().DeepCopy(source)
        source = scratch.GetSegmentation()
        _set_reference_geometry(source, segmentation, volume)
        if not source.CreateRepresentation(_labelmap_name()):
            raise ScanError(
                f'Segmentation "{name}" could not be converted to voxels; '
                'create its "Binary labelmap" representation in the Segmentations module.'
            )
    if all(_empty(source.GetLayerDataObject(layer, _labelmap_name())) for layer in range(_layer_count(source))):
        raise ScanError(f'All segments of "{name}" are empty; draw some, or delete it.')
    return source


def _set_reference_geometry(source: Any, segmentation: Any, volume: Any) -> None:
    """Voxelize surfaces on the volume's grid, as seen from the segmentation (a warp between them is left out)."""
    grid = volume_grid(volume)
    to_segmentation = matrix_between(volume, segmentation)
    if to_segmentation is not None:
        grid.SetImageToWorldMatrix(matrix_of(to_segmentation @ image_matrix(grid)))
    converter = slicer.vtkSegmentationConverter
    source.SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(grid)
    )


def _layers_in_frame(source: Any, segmentation: Any, volume: Any) -> list[Any]:
    """Copies of the layers (vtkOrientedImageData; overlapping segments are on different ones) in the volume's frame."""
    matrix = matrix_between(segmentation, volume)
    layers = [source.GetLayerDataObject(index, _labelmap_name()) for index in range(_layer_count(source))]
    placed = [matrix @ image_matrix(layer) for layer in layers if not _empty(layer)] if matrix is not None else []
    whole = bool(placed) and free_of_shear(placed[0]) and all(same_lattice(other, placed[0]) for other in placed)
    copies = []
    for layer in layers:
        copy = slicer.vtkOrientedImageData()
        if _empty(layer):
            copy.DeepCopy(layer)
        elif whole:
            copy.DeepCopy(layer)
            copy.SetImageToWorldMatrix(matrix_of(matrix @ image_matrix(layer)))
        else:
            slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
                layer, volume_grid(volume), copy, False, False, transform_between(segmentation, volume)
            )
        copies.append(copy)
    return copies


def _empty(image: Any) -> bool:
    return image is None or image.IsEmpty() or image.GetScalarRange()[1] == 0


def _layer_count(source: Any) -> int:
    return int(source.GetNumberOfLayers(_labelmap_name()))


def _labelmap_name() -> str:
    return str(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
