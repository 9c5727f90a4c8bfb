"""Slicer's own classes write and read the other side of each file, where PyPI's slicer-core is there."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError, StorageError
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.geometry import Geometry
from glmae.scans.segmentation_file import GENERIC_TERMINOLOGY, read_segmentation, read_segments, write_segmentation

LIVER = "List~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Codes~^^~^^"
TABLE = ClassTable(
    (
        SegmentClass(1, "hippocampus anterior", (0.9, 0.5, 0.25), LIVER),
        SegmentClass(2, "Seepferdchen hinten 海馬", None, None),
        SegmentClass(300, "not found", None, None),
    )
)


def layered(label: sitk.Image) -> sitk.Image:
    """A cropped file with two layers, header in a mixed order, written through SimpleITK alone."""
    numbers = sitk.GetArrayFromImage(label)
    whole = (numbers > 0).astype(np.uint8)
    voxels = sitk.GetImageFromArray(np.stack([numbers, whole], axis=-1)[5:30, 8:48, 3:], isVector=True)
    Geometry.of(label).part((3, 8, 5), voxels.GetSize()).place(voxels)
    segments = [("whole", 1, 1), ("posterior", 2, 0), ("anterior", 1, 0)]
    for number, (name, value, layer) in zip((2, 0, 1), segments, strict=True):
        entry = {"ID": f"S{number}", "Name": name, "LabelValue": str(value), "Layer": str(layer), "Color": "0.5 1 0"}
        entry["Tags"] = f"Segmentation.Status:inprogress|TerminologyEntry:{LIVER}|"
        for key, text in entry.items():
            voxels.SetMetaData(f"Segment{number}_{key}", text)
    return voxels


def test_layers_values_and_order(save, label):
    segmentation = read_segmentation(save(layered(label), "layers.seg.nrrd"))
    assert segmentation.layers == 2
    assert [segment.meaning.name for segment in segmentation.segments] == ["posterior", "anterior", "whole"]
    assert [segment.meaning.value for segment in segmentation.segments] == [2, 1, 3], "values are unique in a file"
    assert segmentation.segments[0].meaning.color == (0.5, 1.0, 0.0)
    assert segmentation.segments[0].meaning.terminology == LIVER
    numbers = sitk.GetArrayFromImage(label)[5:30, 8:48, 3:]
    for segment, mask in zip(segmentation.segments, (numbers == 2, numbers == 1, numbers > 0), strict=True):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(segmentation.layer(segment.layer) == segment.label), mask)
    assert segmentation.geometry.same_grid(Geometry.of(label).part((3, 8, 5), (31, 40, 25)), 1e-4)


def test_written_file_comes_back(folder, label):
    path = folder / "out é.seg.nrrd"
    write_segmentation(path, label, TABLE)
    segmentation = read_segmentation(path)
    assert [s.meaning.name for s in segmentation.segments] == list(TABLE.names)
    assert [s.meaning.value for s in segmentation.segments] == [1, 2, 300]
    assert segmentation.segments[0].meaning.color == pytest.approx((0.9, 0.5, 0.25))
    assert segmentation.segments[0].meaning.terminology == LIVER
    assert segmentation.segments[1].meaning.terminology == GENERIC_TERMINOLOGY
    assert segmentation.geometry.same_grid(Geometry.of(label), 1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(segmentation.voxels), sitk.GetArrayFromImage(label))
    assert [entry.name for entry in folder.iterdir()] == [path.name], "no temporary file is left"


def test_slicer_opens_what_is_written(folder, label):
    slicer = pytest.importorskip("slicer")
    path = folder / "für Slicer.seg.nrrd"
    write_segmentation(path, label, TABLE)
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegment(n).GetName() for n in range(3)] == list(TABLE.names)
    first = segmentation.GetNthSegment(0)
    assert first.GetColor() == pytest.approx((0.9, 0.5, 0.25))
    assert [segmentation.GetNthSegment(n).GetLabelValue() for n in range(3)] == [1, 2, 300]
    image = first.GetRepresentation("Binary labelmap")
    import vtk.util.numpy_support as numpy_support

    values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    assert [int((values == n).sum()) for n in (1, 2)] == [
        int((sitk.GetArrayViewFromImage(label) == n).sum()) for n in (1, 2)
    ]


def test_reads_what_slicer_writes(folder):
    slicer = pytest.importorskip("slicer")
    import vtk

    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().SetSourceRepresentationName("Binary labelmap")
    boxes = {"Leber é 肝": (0, 4, 0, 5, 0, 6), "overlapping": (3, 7, 2, 5, 1, 4), "apart": (8, 9, 8, 9, 8, 9)}
    for name, extent in boxes.items():
        image = slicer.vtkOrientedImageData()
        image.SetExtent(extent)
        image.SetSpacing(1.0, 2.0, 3.0)
        image.SetOrigin(10.0, 20.0, 30.0)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.GetPointData().GetScalars().Fill(1)
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(segment)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    path = folder / "aus Slicer.seg.nrrd"
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    segmentation = read_segmentation(path)
    assert {segment.meaning.name for segment in segmentation.segments} == set(boxes)
    assert segmentation.layers == 2
    for segment in segmentation.segments:
        i0, i1, j0, j1, k0, k1 = boxes[segment.meaning.name]
        where = np.argwhere(sitk.GetArrayFromImage(segmentation.layer(segment.layer) == segment.label))[:, ::-1]
        assert len(where) == (i1 - i0 + 1) * (j1 - j0 + 1) * (k1 - k0 + 1)
        # Slicer's world is RAS, SimpleITK's is LPS.
        first = segmentation.geometry.point(where.min(axis=0)) * (-1, -1, 1)
        np.testing.assert_allclose(first, (10 + i0, 20 + 2 * j0, 30 + 3 * k0), atol=1e-6)


def test_old_files_have_a_layer_for_each_segment(save):
    voxels = np.zeros((4, 4, 4, 2), dtype=np.uint8)
    voxels[1, 1, 1, 0] = voxels[2, 2, 2, 1] = 1
    image = sitk.GetImageFromArray(voxels, isVector=True)
    for number, name in enumerate(("a", "b")):
        image.SetMetaData(f"Segment{number}_Name", name)
    segmentation = read_segmentation(save(image, "old.seg.nrrd"))
    assert [(s.layer, s.label) for s in segmentation.segments] == [(0, 1), (1, 1)]
    assert (
        sitk.GetArrayFromImage(segmentation.layer(segmentation.segments[1].layer) == segmentation.segments[1].label)[
            2, 2, 2
        ]
        == 1
    )


def test_no_segments_and_damaged_header(save, said, label):
    path = save(label, "plain.seg.nrrd")
    with pytest.raises(ScanError, match="no segments") as caught:
        read_segmentation(path)
    said(caught, path)
    for key, value in (("Layer", "3"), ("LabelValue", "one"), ("LabelValue", "1.5"), ("LabelValue", "inf")):
        image = sitk.Image(label)
        image.SetMetaData("Segment0_Name", "a")
        image.SetMetaData(f"Segment0_{key}", value)
        path = save(image, f"{key}.seg.nrrd")
        with pytest.raises(ScanError, match="header that does not fit") as caught:
            read_segmentation(path)
        said(caught, path)


def test_fractional_segments(save, said, label):
    image = sitk.Image(label)
    image.SetMetaData("Segment0_Name", "a")
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Fractional labelmap|")
    path = save(image, "fractional.seg.nrrd")
    with pytest.raises(ScanError, match="fractional") as caught:
        read_segmentation(path)
    said(caught, path)


def test_nothing_half_written(folder, label):
    (folder / "file").touch()
    with pytest.raises(StorageError):
        write_segmentation(folder / "file" / "out.seg.nrrd", label, TABLE)
    assert [entry.name for entry in folder.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("Color", "0.5 0.5 0.2 1.0", (0.5, 0.5, 0.2)),
        ("Color", "0,5 0,5 0,2", None),
        ("Color", "0.5,0.5,0.2", None),
        ("Color", "255 0 51", None),
        ("Color", "red", None),
        ("Color", "0.5", None),
        ("Color", "nan nan nan", None),
        ("LabelValue", "1.0", 1),
        ("LabelValue", " 2 ", 2),
        ("Layer", "0.0", 0),
        ("Name", "  ", "Segment_1"),
        ("Name", "a\x07b\x7f", "a b"),
    ],
)
def test_another_spelling_is_no_reason_to_refuse(save, label, field, text, expected):
    image = sitk.Image(label)
    image.SetMetaData("Segment0_Name", "a")
    image.SetMetaData(f"Segment0_{field}", text)
    (segment,) = read_segments(save(image, "a.seg.nrrd"))
    read = {"Color": segment.meaning.color, "LabelValue": segment.label, "Layer": segment.layer}
    assert (read | {"Name": segment.meaning.name})[field] == expected
    ClassTable.from_json(ClassTable((segment.meaning,)).to_json())


def test_names_in_another_code_page(folder, label):
    header = "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: LPS\nsizes: 4 4 4\n"
    header += "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\nspace origin: (0,0,0)\n"
    header += "Segment0_Name:=Läsion\nSegment0_LabelValue:=1\n"
    path = folder / "a.seg.nrrd"
    path.write_bytes(header.encode("cp1252") + b"\n" + bytes(63) + b"\1")
    assert read_segments(path)[0].meaning.name == "Läsion"
