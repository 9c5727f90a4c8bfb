"""Decathlon's dataset.json: names of classes, for any folder of labels, and the files of a set."""

from __future__ import annotations

import json

import pytest
from engine.published_sets import write_set

from glmae.errors import RequestError
from glmae.scans.cases import find_cases
from glmae.scans.class_file import decathlon_classes, read_class_file
from research.published_layout import read_decathlon


@pytest.mark.parametrize(
    "labels", [{"0": "background", "2": "tumor", "1": "liver"}, {"background": 0, "tumor": 2, "liver": 1}]
)
def test_names_in_both_notations(labels):
    classes, _ = decathlon_classes({"labels": labels})
    assert (classes.values, classes.names) == ((1, 2), ("liver", "tumor"))


def test_it_names_the_classes_of_an_ordinary_run(folder):
    write_set("spleen", folder)
    cases, table = find_cases(folder / "imagesTr", folder / "labelsTr", classes=folder / "dataset.json")
    assert table.names == ("spleen",)
    assert [case.name for case in cases] == ["spleen_10", "spleen_11", "spleen_12"]


@pytest.mark.parametrize(
    "content",
    ["no json", "[]", '{"labels": [1]}', '{"labels": {"one": "liver"}}', '{"labels": {"1": "a", "2": "a"}}'],
)
def test_what_is_damaged_is_refused(content, folder, said):
    path = folder / "dataset.json"
    path.write_text(content, encoding="utf-8")
    for read, argument in ((read_decathlon, folder), (read_class_file, path)):
        with pytest.raises(RequestError) as caught:
            read(argument)
        said(caught, path)


def test_training_entries_need_files_in_their_place(folder, said):
    content = {"labels": {"1": "a"}, "training": [{"image": "./imagesTr/x.nii.gz"}]}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        read_decathlon(folder)
    said(caught, "dataset.json")


@pytest.mark.parametrize("labels", [{"background": 0, "liver": 1, "ignore": 2}, {"1": "liver", "2": "Ignore"}])
def test_what_nnunet_ignores_is_unknown_and_no_class(folder, samples, labels):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    file = read_class_file(folder / "dataset.json")
    assert (file.classes.names, file.unknown) == (("liver",), 2)
    cases, table = find_cases(samples / "images", samples / "labels", classes=folder / "dataset.json")
    assert table.names == ("liver",)
    assert {case.unknown for case in cases} == {2}
