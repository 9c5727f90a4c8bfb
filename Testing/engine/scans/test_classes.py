from __future__ import annotations

import json

import pytest

from glmae.errors import RequestError
from glmae.scans.classes import ClassTable, SegmentClass, default_colors, merge

ANATOMY = "Segmentation category and type - 3D Slicer General Anatomy list"
TISSUE = f"{ANATOMY}~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes - DICOM master list~^^~^^"
LIVER = f"{ANATOMY}~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
KIDNEY = (
    f"{ANATOMY}~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~{{}}~Anatomic codes - DICOM master list~^^~^^"
)
LEFT, RIGHT = KIDNEY.format("SCT^7771000^Left"), KIDNEY.format("SCT^24028007^Right")


def cls(value, name, terminology=None, color=None):
    return SegmentClass(value, name, color, terminology)


def test_names_match_whatever_their_case_and_spaces():
    assert cls(1, "Left  Kidney").matches(cls(7, " left kidney "))
    assert cls(1, "STRASSE").matches(cls(1, "straße"))
    assert not cls(1, "liver").matches(cls(1, "spleen")), "one value is not one structure"


def test_terminology_matches_only_where_it_says_something():
    assert cls(1, "Leber", LIVER).matches(cls(1, "liver", LIVER))
    assert cls(1, "Leber", LIVER).matches(cls(1, "liver", LIVER.replace(ANATOMY, "My list"))), (
        "the list's name is no meaning"
    )
    assert not cls(1, "Segment_1", TISSUE).matches(cls(1, "Segment_2", TISSUE))
    assert not cls(1, "a").matches(cls(1, "b"))
    assert not cls(1, "a", "").matches(cls(1, "b", ""))


def test_left_and_right_never_match():
    assert not cls(1, "Niere links", LEFT).matches(cls(2, "kidney", RIGHT))
    plain = KIDNEY.format("^^")
    assert not cls(1, "left kidney", plain).matches(cls(2, "right kidney", plain))
    assert cls(1, "left kidney", LEFT).matches(cls(2, "the left kidney", LEFT))


def test_find():
    table = ClassTable(
        (cls(5, "liver", LIVER), cls(2, "lesion 1", KIDNEY.format("^^")), cls(3, "lesion 2", KIDNEY.format("^^")))
    )
    assert table.find("LIVER") == 1
    assert table.find(cls(99, "Leber", LIVER)) == 1
    assert table.find(cls(2, "bone")) is None
    assert table.find(cls(9, "lesion 2", KIDNEY.format("^^"))) == 3
    assert table.find(cls(9, "lesion 3", KIDNEY.format("^^"))) is None, "two classes have this terminology"
    assert table.by_value(2) == 2
    assert table.by_value(7) is None


def test_merge_is_by_name_never_by_order():
    first = ClassTable((cls(1, "liver"), cls(2, "spleen", color=(1.0, 0.0, 0.0))))
    second = ClassTable((cls(1, "Spleen"), cls(2, "Liver", LIVER), cls(3, "bone")))
    merged = merge([first, second])
    assert [(entry.value, entry.name) for entry in merged] == [(1, "liver"), (2, "spleen"), (3, "bone")]
    assert merged.classes[0].terminology == LIVER, "what one case knows is kept"
    assert merged.classes[1].color == (1.0, 0.0, 0.0)


def test_merge_gives_a_free_value_to_what_clashes():
    merged = merge([ClassTable((cls(1, "liver"), cls(3, "bone"))), ClassTable((cls(1, "lung"), cls(7, "heart")))])
    assert {entry.name: entry.value for entry in merged} == {"liver": 1, "lung": 2, "bone": 3, "heart": 7}


def test_merge_does_not_join_two_classes_of_one_case():
    same = KIDNEY.format("^^")
    merged = merge([ClassTable((cls(1, "cyst", same),)), ClassTable((cls(1, "cyst", same), cls(2, "stone", same)))])
    assert merged.names == ("cyst", "stone")


def test_too_many_classes():
    with pytest.raises(RequestError, match="254"):
        merge([ClassTable.from_labels(range(1, 300))])


def test_bare_labels():
    table = ClassTable.from_labels([7, 2, 7])
    assert table.names == ("label 2", "label 7")
    assert table.values == (2, 7)
    assert table.only([2]).names == ("label 7",)


def test_json_round_trip():
    table = ClassTable((cls(1, "肝臓", LIVER, (0.1, 0.2, 0.3)), cls(400, "b")))
    assert ClassTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_colors_differ():
    colors = default_colors(254)
    assert len(colors) == len(set(colors)) == 254
    assert all(0 <= part <= 1 for color in colors for part in color)
    table = ClassTable((cls(1, "a"), cls(2, "b", color=colors[0]), cls(3, "c"))).with_colors()
    assert len({entry.color for entry in table}) == 3
    assert table.classes[1].color == colors[0]
