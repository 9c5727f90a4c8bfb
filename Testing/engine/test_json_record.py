"""Records of JSON files: what is of another type, or missing, is said; other versions are read."""

import json
from dataclasses import dataclass

import pytest

from glmae.backbone.weights import SHIPPED
from glmae.json_record import FORMER_NAMES, JsonRecord
from glmae.pretraining.configuration import PretrainConfig
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation


@dataclass(frozen=True)
class Inner(JsonRecord):
    size: tuple[int, int]
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer(JsonRecord):
    name: str
    inner: Inner | None = None
    scale: float = 1.0


def test_there_and_back():
    record = Outer("a", Inner((1, 2), (0.5, 1.0)), 2.0)
    assert Outer.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert Outer.from_json({"name": "a", "scale": 3}).scale == 3.0, "JSON writes 3.0 as 3 at times"


def test_records_of_other_versions():
    assert Outer.from_json({"name": "a", "inner": None, "later": 7}) == Outer("a")


@dataclass(frozen=True)
class Renamed(JsonRecord):
    center: float
    labeled: dict[str, int]


def test_fields_under_their_former_names():
    assert Renamed.from_json({"centre": 1.0, "labelled": {"labelled": 2}}) == Renamed(1.0, {"labelled": 2})
    assert Renamed(1.0, {}).to_json() == {"center": 1.0, "labeled": {}}, "new files have the new names"


def test_a_plan_and_a_pretraining_of_earlier_versions():
    plan = {"spacing": [1, 1, 1], "normalisation": [{"kind": "ct", "low": 0, "high": 9, "mean": 4, "std": 2}]}
    assert Preparation.from_json(plan).normalization == (Normalization("ct", 0.0, 9.0, 4.0, 2.0),)
    card = json.loads((SHIPPED / "tiny" / "model.json").read_text(encoding="utf-8"))["pretraining"]
    read = PretrainConfig.from_json(card)
    assert {"neighbourhood", "centre_momentum", "normalise_patches"} < card.keys()
    assert (read.neighborhood, read.center_momentum) == (card["neighbourhood"], card["centre_momentum"])
    assert not FORMER_NAMES.keys() & read.to_json().keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "`name` is missing"),
        ({"name": 5}, "`name` is 5 and no str"),
        ({"name": "a", "scale": True}, "`scale` is True and no float"),
        ({"name": "a", "inner": []}, "`inner` is no object"),
        ({"name": "a", "inner": {"size": 3}}, "`size` is no list"),
        ({"name": "a", "inner": {"size": [1]}}, "`size` has 1 entries instead of 2"),
        ({"name": "a", "inner": {"size": [1, 2.5]}}, "`size` is 2.5 and no int"),
        ([], "`Outer` is no object"),
    ],
)
def test_what_is_damaged_is_said(content, message):
    with pytest.raises(ValueError, match=message):
        Outer.from_json(content)
