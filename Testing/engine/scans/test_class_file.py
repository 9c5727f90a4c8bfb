from __future__ import annotations

import json

import pytest

from glmae.errors import RequestError
from glmae.scans.class_file import read_class_file

LIVER = {"value": 1, "name": "liver"}


@pytest.fixture
def written(folder):
    def write(content):
        path = folder / "classes.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def test_bundled_file(samples):
    file = read_class_file(samples / "labels" / "classes.json")
    assert file.classes.names == ("hippocampus anterior", "hippocampus posterior")
    assert file.classes.values == (1, 2)
    assert file.classes.classes[0].color == (0.9, 0.56, 0.24)
    assert not file.annotated
    assert not file.region


def test_everything_that_the_contract_knows(written, folder):
    regions = {
        "a": {"slices": {"axis": "k", "indices": [3, 9]}},
        "b": {"box": [[0, 5], [1, 6], [2, 7]]},
        "c": {"mask": "where.nii.gz"},
    }
    classes = [LIVER, {"value": 5, "name": "lien", "color": [0, 0.5, 1], "terminology": "x~y~z"}]
    file = read_class_file(written({"classes": classes, "annotated": {"a": [1, 5], "b": []}, "region": regions}))
    assert file.classes.classes[1].color == (0.0, 0.5, 1.0)
    assert file.classes.classes[1].terminology == "x~y~z"
    assert file.annotated == {"a": frozenset({1, 5}), "b": frozenset()}
    assert file.region["a"].axis == 2
    assert file.region["a"].slices == (3, 9)
    assert file.region["b"].box == ((0, 5), (1, 6), (2, 7))
    assert file.region["c"].mask == folder / "where.nii.gz"


def test_byte_order_mark_of_windows_editors(folder):
    path = folder / "classes.json"
    path.write_text(json.dumps({"classes": [LIVER]}), encoding="utf-8-sig")
    assert read_class_file(path).classes.names == ("liver",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{not json", "not valid JSON"),
        ("[]", "object"),
        pytest.param("[" * 100_000, "not valid JSON", id="nested"),
        pytest.param('{"classes": [{"value": ' + "9" * 5000 + "}]}", "not valid JSON", id="long number"),
        ({}, "`classes`"),
        ({"classes": []}, "at least one"),
        ({"classes": [{"value": 1}]}, "`name`"),
        ({"classes": [{"name": "liver"}]}, "whole number"),
        ({"classes": [{"value": 0, "name": "background"}]}, "whole number"),
        ({"classes": [{"value": 1.5, "name": "liver"}]}, "whole number"),
        ({"classes": [{"value": True, "name": "liver"}]}, "whole number"),
        ({"classes": [LIVER, {"value": 1, "name": "spleen"}]}, "two classes have the value 1"),
        ({"classes": [LIVER, {"value": 2, "name": "Liver "}]}, "two classes have the name liver"),
        ({"classes": [{**LIVER, "color": [255, 0, 0]}]}, "0 to 1"),
        ({"classes": [{**LIVER, "color": "red"}]}, "0 to 1"),
        ({"classes": [{**LIVER, "terminology": 3}]}, "not text"),
        ({"classes": [LIVER], "anotated": {}}, "anotated"),
        ({"classes": [LIVER], "annotated": {"a": [2]}}, "value 2"),
        ({"classes": [LIVER], "annotated": {"a": "all"}}, "list of class values"),
        ({"classes": [LIVER], "annotated": ["a"]}, "`annotated`"),
        ({"classes": [LIVER], "region": {"a": {"sphere": 3}}}, "slices, box, mask and"),
        ({"classes": [LIVER], "region": {"a": {"slices": {"axis": "z", "indices": [1]}}}}, "axis"),
        ({"classes": [LIVER], "region": {"a": {"slices": {"axis": "k", "indices": []}}}}, "indices"),
        ({"classes": [LIVER], "region": {"a": {"box": [[0, 5], [1, 6]]}}}, "box"),
        ({"classes": [LIVER], "region": {"a": {"box": [[0, 5], [1, 6], [4, 4]]}}}, "empty"),
        ({"classes": [LIVER], "region": {"a": {"mask": 7}}}, "file name"),
    ],
)
def test_malformed(written, said, content, reason):
    path = written(content)
    with pytest.raises(RequestError) as caught:
        read_class_file(path)
    assert reason in said(caught, path)


def test_without_classes_it_says_which_part_was_labeled(written):
    file = read_class_file(written({"region": {"a": "labeled"}}))
    assert file.classes is None
    assert file.region["a"].labeled
    assert file.region["a"].to_json() == "labeled"
    assert read_class_file(written({"region": {"a": "labelled"}})) == file, "its former name"


def test_values_without_classes_mean_nothing(written, said):
    path = written({"annotated": {"a": [1]}, "region": {"a": "labeled"}})
    with pytest.raises(RequestError) as caught:
        read_class_file(path)
    assert "`classes`" in said(caught, path)


def test_missing(folder, said):
    with pytest.raises(RequestError, match="does not exist") as caught:
        read_class_file(folder / "classes.json")
    said(caught, folder / "classes.json")
