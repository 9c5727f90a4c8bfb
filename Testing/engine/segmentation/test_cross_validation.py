"""Folds inside a real run: honest, resumable at any point, in time, and reported."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from coarse_scans import write_coarse_scans
from safetensors.torch import load_file

from glmae.errors import GLMAEError, RequestError, Stopped
from glmae.events import Events, recorded
from glmae.schedule import RESERVE_SECONDS, Schedule
from glmae.segmentation import scored_training
from glmae.segmentation.batch import segment
from glmae.segmentation.cross_validation import FoldResult, held_out_scores, plan_folds
from glmae.segmentation.evaluation import Score, evaluate
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.training import Training
from glmae.terminal import terminal

# Small crops, and few, and a short fit of the head: what is tested does not depend on them.
SMALL = {"crop": (24, 32, 24), "start_steps": 40, "start_crops": 0}
# Where only the course of a run is looked at, its head need not be fitted.
UNFITTED = {"settings": SMALL | {"start_steps": 0}}
STEPS, FOLDS = 4, 2


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Three labeled scans."""
    folder = tmp_path_factory.mktemp("three scans")
    write_coarse_scans(folder, ("hippocampus_003", "hippocampus_039", "hippocampus_207"))
    return folder


def arguments(folder: Path, out: Path) -> dict:
    common = {"images": folder / "images", "labels": folder / "labels", "out": out, "backbone": "none"}
    return common | {"device": "cpu", "settings": SMALL, "folds": FOLDS}


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run."""

    model: Path
    events: list[dict]


@pytest.fixture(scope="module")
def whole(scans, tmp_path_factory) -> Whole:
    events: list[dict] = []
    out = tmp_path_factory.mktemp("whole") / "model"
    return Whole(finetune(**arguments(scans, out), steps=STEPS, events=recorded(events)).folder, events)


def scores_of(model: Path) -> dict:
    return json.loads((model / "model.json").read_text(encoding="utf-8"))["scores"]


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "weights.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_score_is_what_a_user_would_measure(scans, whole, tmp_path):
    """Training on the other scans, segmenting and evaluating by hand gives the same Dice as the fold did."""
    scores = scores_of(whole.model)
    rows = {(row["alias"], row["class"]): row for row in scores["cases"]}
    assert len(rows) == 6, "three scans and two classes"
    assert scores["fold_steps"] == [STEPS] * FOLDS, "as many as the model"
    assert max(row["dice"] for row in rows.values()) > 0.2, "else equal Dice would mean little"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (scans / "images").iterdir())
    fold = next(fold for fold in plan_folds([(True, True)] * 3, FOLDS, seed=0) if len(fold.held_out) == 1)
    held_out = names[fold.held_out[0]]
    by_hand = arguments(scans, tmp_path / "by hand") | {"folds": 0}
    model = finetune(**by_hand, cases=[names[scan] for scan in fold.training], steps=STEPS).folder
    image = scans / "images" / f"{held_out}.nii.gz"
    segment(model=model, images=[image], out=tmp_path / "segmented", file_format="nii.gz", device="cpu")
    evaluate(predictions=tmp_path / "segmented", labels=scans / "labels", out=tmp_path / "report.json")
    for row in json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]:
        ours = rows[f"case-{fold.held_out[0] + 1:02d}", row["class"]]
        assert ours["dice"] == pytest.approx(row["dice"], abs=2e-3)


def test_the_model_itself_is_the_same_without_folds_and_says_that_nothing_was_measured(scans, whole, tmp_path):
    events: list[dict] = []
    finetune(**arguments(scans, tmp_path / "without") | {"folds": 0}, steps=STEPS, events=recorded(events))
    assert same_weights(whole.model, tmp_path / "without")
    scores = scores_of(tmp_path / "without")
    assert (scores["mean_dice"], scores["sd"], scores["cases"], scores["not_checked"]) == (None, None, [], None)
    assert "--folds" in scores["note"]
    assert not {"score", "fold"} & {event["event"] for event in events}


@pytest.mark.parametrize("folds", [1, 4, -2])
def test_a_number_of_folds_that_cannot_be_is_refused(folds, scans, tmp_path):
    with pytest.raises(RequestError, match=r"from 2 to that of the labeled scans \(3\)"):
        finetune(**arguments(scans, tmp_path / "model") | {"folds": folds}, steps=STEPS)
    assert not (tmp_path / "model").exists()


def test_mean_and_standard_deviation_are_those_over_scans():
    """By hand: scan 0 has 0.6 in the mean of its classes, scan 1 0.9, scan 2 the one class that was drawn."""
    dice = [(0, "a", 0.5), (0, "b", 0.7), (1, "a", 0.9), (1, "b", 0.9), (2, "a", 0.3), (2, "b", None)]
    first, second = (
        [Score(str(c), n, d, None, None) for c, n, d in dice if (c == 1) is part] for part in (True, False)
    )
    found = held_out_scores([FoldResult(9, tuple(first)), FoldResult(8, tuple(second))], ["a", "b", "c"])
    assert found["mean_dice"] == pytest.approx(0.6)
    assert found["sd"] == pytest.approx(np.std([0.6, 0.9, 0.3], ddof=1), abs=1e-4)
    assert found["scans"] == 3
    assert found["classes"]["b"] == {"dice": 0.8, "sd": pytest.approx(0.1414, abs=1e-4), "scans": 2}
    assert found["classes"]["c"] == {"dice": None, "sd": None, "scans": 0}
    assert [row["alias"] for row in found["cases"]] == ["case-01"] * 2 + ["case-02"] * 2 + ["case-03"] * 2
    assert found["fold_steps"] == [9, 8]


def test_folds_and_score_are_reported_and_tell_no_names(whole):
    progress = [event for event in whole.events if event.get("stage") == "cross-validation"]
    assert {(event["fold"], event["folds"]) for event in progress} == {(1, 2), (2, 2)}
    assert sum(event["done"] == event["total"] for event in progress) == 2
    score = next(event for event in whole.events if event["event"] == "score")
    scores = scores_of(whole.model)
    assert (score["mean_dice"], score["sd"], score["classes"]) == (scores["mean_dice"], scores["sd"], scores["classes"])
    assert set(score["classes"]) == {"hippocampus anterior", "hippocampus posterior"}
    assert score["message"] == scores["note"]
    assert "on 3 of 3 labeled scans" in score["message"]
    kinds = [event["event"] for event in whole.events]
    assert kinds.index("score") < kinds.index("finished")
    assert "hippocampus_0" not in (whole.model / "model.json").read_text(encoding="utf-8")


class Died(BaseException):
    """Nothing can be saved any more."""


def test_stopped_anywhere_and_resumed_equals_uninterrupted(scans, whole, tmp_path):
    """Stopped in the run itself, in the first fold, while held-out scans are segmented; dead in the second fold."""
    places = ({"stage": "finetune", "done": 3}, {"fold": 1, "done": 1}, {"fold": 1, "done": 4})
    stopped, events = [], list[dict]()
    words = {**arguments(scans, tmp_path / "model"), "steps": STEPS, "resume": True, "events": recorded(events)}
    for place in places:
        events.clear()
        with pytest.raises(Stopped) as raised:
            finetune(**words, should_stop=lambda place=place: bool(events) and place.items() <= events[-1].items())
        stopped.append(str(raised.value).split(";")[0])
    assert stopped[0] == "stopped after step 3"
    assert "segmented" in stopped[2]

    def die(event: dict) -> None:
        if event.get("fold") == 2:
            raise Died

    with pytest.raises(Died):
        finetune(**words | {"events": Events(die)})
    assert len(list((tmp_path / "model").rglob("scores.json"))) == 1, "one fold was finished"
    events.clear()
    finetune(**words)
    trained = {event["fold"] for event in events if event.get("stage") == "cross-validation"}
    assert trained == {2}, "a finished fold is not trained again"
    told = [event for event in events if event["event"] == "fold"]
    assert [event["fold"] for event in told] == [1, 2], "but its score is told again"
    assert all(0 <= event["mean_dice"] <= 1 for event in told)
    assert same_weights(whole.model, tmp_path / "model")
    assert scores_of(whole.model) == scores_of(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]


def test_stopped_in_the_folds_and_finished_has_the_model_and_what_was_scored(scans, whole, tmp_path):
    """Whoever stops early keeps the best so far: the model comes before the folds."""
    scored, events = {}, list[dict]()
    request = arguments(scans, tmp_path / "model") | {"steps": STEPS, "events": recorded(events)}
    for fold in (1, 2):
        events.clear()
        with pytest.raises(Stopped):
            finetune(
                **request,
                resume=fold > 1,
                should_stop=lambda fold=fold: bool(events) and events[-1].get("fold") == fold,
            )
        stopped = tmp_path / f"stopped in {fold}"
        shutil.copytree(tmp_path / "model", stopped)
        events.clear()
        model = finetune(**request | {"out": stopped}, finish=True).folder
        assert not [event for event in events if event["event"] == "progress" and "fold" in event]
        assert same_weights(whole.model, model)
        scored[fold] = scores_of(model)
    assert scored[1]["mean_dice"] is None
    assert "held-out" in scored[1]["note"]
    in_first = plan_folds([(True, True)] * 3, FOLDS, seed=0)[0].held_out
    assert {row["alias"] for row in scored[2]["cases"]} == {f"case-{index + 1:02d}" for index in in_first}
    assert 0 <= scored[2]["mean_dice"] <= 1


def test_a_run_that_is_late_begins_nothing_more_and_says_what_was_not_checked(scans, tmp_path, monkeypatch):
    """A training that takes longer than planned takes it from the folds, not from the user."""
    taken, clock, late = Training.run, time.monotonic, []

    def run(self, *arguments, **fields):
        self.schedule = Schedule(1)
        taken(self, *arguments, **fields)
        late.append(120)  # seconds

    monkeypatch.setattr(Training, "run", run)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(late))
    events: list[dict] = []
    words = arguments(scans, tmp_path / "model") | UNFITTED
    out = finetune(**words, minutes=2, events=recorded(events)).folder
    assert len(late) == 1, "no fold is begun"
    scores = scores_of(out)
    assert (scores["cases"], scores["mean_dice"], scores["failure"]) == ([], None, None)
    assert "could be finished and scored" in scores["note"]
    assert "time was too short" in scores["not_checked"]
    assert scores["not_checked"] in [event["message"] for event in events if event["event"] == "warning"]


def test_minutes_are_divided_between_the_model_and_the_folds(scans, tmp_path, monkeypatch):
    """Each training has an equal share of what is left, less what scoring takes, which is kept for it."""
    taken, given = Training.run, []

    def brief(self, *arguments, **fields):
        given.append((60 * self.schedule.minutes, began + 120 - RESERVE_SECONDS - time.monotonic()))
        self.schedule = Schedule(1)
        taken(self, *arguments, **fields)

    monkeypatch.setattr(Training, "run", brief)
    monkeypatch.setattr(scored_training, "_scan_seconds", lambda labeled, training: 2.0)
    began = time.monotonic()
    out = finetune(**arguments(scans, tmp_path / "model") | UNFITTED, minutes=2).folder
    assert len(given) == 3
    held_out = [len(fold.held_out) for fold in plan_folds([(True, True)] * 3, FOLDS, seed=0)]
    wanted = [(given[0][1] - 2 - 3 * 2) / 3, given[1][1] / 2 - 2 * held_out[0], given[2][1] - 2 * held_out[1]]
    assert [seconds for seconds, _ in given] == pytest.approx(wanted, abs=5)
    assert scores_of(out)["fold_steps"] == [1, 1]
    assert scores_of(out)["scans"] == 3


def test_a_class_of_one_scan_only_is_not_scored(scans, tmp_path):
    shutil.copytree(scans, tmp_path / "scans")
    classes = tmp_path / "scans" / "labels" / "classes.json"
    content = json.loads(classes.read_text(encoding="utf-8"))
    content["annotated"] = {name: [1] for name in ("hippocampus_039", "hippocampus_207")}
    classes.write_text(json.dumps(content), encoding="utf-8")
    words = arguments(tmp_path / "scans", tmp_path / "model") | UNFITTED
    scores = scores_of(finetune(**words, steps=1).folder)
    assert scores["classes"]["hippocampus posterior"] == {"dice": None, "sd": None, "scans": 0}
    assert {row["class"] for row in scores["cases"]} == {"hippocampus anterior"}


def test_the_terminal_shows_a_table(capfd):
    show = terminal()
    classes = {"liver": {"dice": 0.81, "sd": 0.06, "scans": 4}, "spleen": {"dice": None, "sd": None, "scans": 0}}
    show.emit("score", mean_dice=0.81, sd=0.06, classes=classes, message="Dice 0.81 on 4 of 4 labeled scans.")
    shown = capfd.readouterr().out.splitlines()
    assert shown[0].split() == ["class", "Dice", "SD", "scans"]
    assert shown[1].split() == ["liver", "0.81", "0.06", "4"]
    assert shown[2].split() == ["spleen", "–", "–", "0"]
    assert shown[-1] == "Dice 0.81 on 4 of 4 labeled scans."
    show.emit("score", mean_dice=None, sd=None, classes=classes, message="Not measured.")
    assert capfd.readouterr().out == "Not measured.\n"


def test_a_fold_that_cannot_be_trained_costs_no_model(scans, whole, monkeypatch, tmp_path):
    original = Training.run

    def run(self, *arguments, **fields):
        if fields.get("fold") == 1:
            raise GLMAEError("training failed at step 1: the loss is not finite")
        original(self, *arguments, **fields)

    monkeypatch.setattr(Training, "run", run)
    heard: list[dict] = []
    model = finetune(**arguments(scans, tmp_path / "model"), steps=STEPS, events=recorded(heard)).folder
    assert same_weights(model, whole.model)
    assert [event["fold"] for event in heard if event["event"] == "fold"] == [2]
    (warning,) = [event["message"] for event in heard if event["event"] == "warning" and "Fold" in event["message"]]
    assert warning.startswith("Fold 1 ")
    assert "not finite" in warning
    scored, all_scored = (scores_of(folder)["cases"] for folder in (model, whole.model))
    assert 0 < len(scored) < len(all_scored)
