"""Cross-validation inside a real run: honest, resumable at any point, in time, and reported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glmae.errors import GLMAEError, Stopped
from glmae.events import recorded
from glmae.schedule import RESERVE_SECONDS
from glmae.segmentation import folds, scored_training
from glmae.segmentation.evaluation import evaluate
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.folds import plan_folds
from glmae.segmentation.inference import segment
from glmae.segmentation.training import Training
from glmae.segmentation.trial import Trial
from glmae.terminal import terminal

SMALL = {"patch": (24, 32, 24), "validation": 0.25}
STEPS = 16  # and 4 for the two folds together


@pytest.fixture(autouse=True, scope="module")
def short_folds():
    """Folds of two steps: what is tested does not depend on their length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "FEWEST_STEPS", 2)
        patch.setattr(folds, "ENOUGH_STEPS", 2)
        patch.setattr(folds, "FEWEST_TIMED_STEPS", 2)
        yield


@pytest.fixture(scope="module")
def scans(sample_scans, tmp_path_factory) -> Path:
    """Three labelled scans."""
    folder = tmp_path_factory.mktemp("three scans")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for name in ("hippocampus_003", "hippocampus_039", "hippocampus_207"):
            shutil.copy(sample_scans / kind / f"{name}.nii.gz", folder / kind)
    shutil.copy(sample_scans / "labels" / "classes.json", folder / "labels")
    return folder


def arguments(folder: Path, out: Path) -> dict:
    common = {"images": folder / "images", "labels": folder / "labels", "out": out, "backbone": "none"}
    return common | {"device": "cpu", "settings": SMALL}


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run."""

    model: Path
    events: list[dict]


@pytest.fixture(scope="module")
def whole(scans, short_folds, tmp_path_factory) -> Whole:
    events: list[dict] = []
    out = tmp_path_factory.mktemp("whole") / "model"
    return Whole(finetune(**arguments(scans, out), steps=STEPS, events=recorded(events)), events)


def scores_of(model: Path) -> dict:
    return json.loads((model / "model.json").read_text(encoding="utf-8"))["scores"]


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "weights.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_raw_score_is_what_a_user_would_measure(scans, whole, tmp_path):
    """Training on the other scans, segmenting and evaluating by hand gives the same Dice as the fold did."""
    rows = {(row["alias"], row["class"]): row for row in scores_of(whole.model)["cases"]}
    assert len(rows) == 4, "the scans held out by two folds, and two classes"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (scans / "images").iterdir())
    fold = next(fold for fold in plan_folds([(True, True)] * 3, STEPS // 4, seed=0) if len(fold.held_out) == 1)
    held_out = names[fold.held_out[0]]
    by_hand = arguments(scans, tmp_path / "by hand") | {"settings": SMALL | {"validation": 0}}
    model = finetune(**by_hand, cases=[names[scan] for scan in fold.training], steps=2)
    image = scans / "images" / f"{held_out}.nii.gz"
    segment(model=model, images=[image], out=tmp_path / "segmented", file_format="nii.gz", device="cpu")
    evaluate(predictions=tmp_path / "segmented", labels=scans / "labels", out=tmp_path / "report.json")
    for row in json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]:
        ours = rows[f"case-{fold.held_out[0] + 1:02d}", row["class"]]
        assert ours["dice"] == pytest.approx(row["dice"], abs=2e-3)


def test_the_model_itself_is_the_same_without_folds(scans, whole, tmp_path):
    without = arguments(scans, tmp_path / "without") | {"settings": SMALL | {"validation": 0}}
    finetune(**without, steps=STEPS)
    assert same_weights(whole.model, tmp_path / "without")
    assert scores_of(whole.model)["held_out_mean_dice"] is not None
    assert scores_of(tmp_path / "without")["mean_dice"] is None


def test_folds_and_score_are_reported_and_tell_no_names(whole):
    progress = [event for event in whole.events if event.get("stage") == "cross-validation"]
    assert {(event["fold"], event["folds"]) for event in progress} == {(1, 2), (2, 2)}
    assert sum(event["done"] == event["total"] for event in progress) == 2
    assert len(progress) <= STEPS / 4
    score = next(event for event in whole.events if event["event"] == "score")
    assert score["mean_dice"] == scores_of(whole.model)["mean_dice"]
    assert set(score["classes"]) == {"hippocampus anterior", "hippocampus posterior"}
    kinds = [event["event"] for event in whole.events]
    assert kinds.index("score") < kinds.index("finished")
    assert "hippocampus_0" not in (whole.model / "model.json").read_text(encoding="utf-8")


def test_stopped_anywhere_and_resumed_equals_uninterrupted(scans, whole, tmp_path):
    """Stopped in the run itself, in the first fold, while held-out scans are segmented, and in the second fold."""
    places = ({"stage": "finetune", "done": 9}, {"fold": 1, "done": 1}, {"fold": 1, "done": 2}, {"fold": 2, "done": 1})
    stopped = []
    for place in places:
        events: list[dict] = []

        def stop(events=events, place=place) -> bool:
            return bool(events) and place.items() <= events[-1].items()

        with pytest.raises(Stopped) as raised:
            finetune(
                **arguments(scans, tmp_path / "model"),
                steps=STEPS,
                resume=True,
                should_stop=stop,
                events=recorded(events),
            )
        stopped.append(str(raised.value).split(";")[0])
    assert stopped[0] == "stopped after step 9"
    assert stopped[2] == "stopped while labelled scans were segmented"
    finetune(**arguments(scans, tmp_path / "model"), steps=STEPS, resume=True)
    assert same_weights(whole.model, tmp_path / "model")
    assert scores_of(whole.model) == scores_of(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]


def test_killed_in_the_second_fold_and_resumed(scans, whole, tmp_path):
    child = [sys.executable, "-c", CHILD, str(scans), str(tmp_path / "model"), str(STEPS)]
    process = subprocess.Popen(child, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event.get("fold") == 2:
            process.kill()  # SIGKILL: nothing can be saved any more
            break
    process.wait()
    process.stdout.close()
    assert len(list((tmp_path / "model").rglob("scores.json"))) == 1, "one fold was finished"
    events: list[dict] = []
    finetune(**arguments(scans, tmp_path / "model"), steps=STEPS, resume=True, events=recorded(events))
    trained = {event["fold"] for event in events if event.get("stage") == "cross-validation"}
    assert trained == {2}, "a finished fold is not trained again"
    told = [event for event in events if event["event"] == "fold"]
    assert [event["fold"] for event in told] == [1, 2], "but its score is told again"
    assert all(0 <= event["mean_dice"] <= 1 for event in told)
    assert same_weights(whole.model, tmp_path / "model")
    assert scores_of(whole.model) == scores_of(tmp_path / "model")


def test_stopped_in_the_folds_and_finished_has_the_model_and_what_was_scored(scans, whole, tmp_path):
    """Whoever stops early keeps the best so far: the model comes before the folds."""
    scored = {}
    for fold in (1, 2):
        events: list[dict] = []

        def stop(events=events, fold=fold) -> bool:
            return bool(events) and events[-1].get("fold") == fold

        request = arguments(scans, tmp_path / f"model {fold}") | {"steps": STEPS}
        with pytest.raises(Stopped):
            finetune(**request, should_stop=stop, events=recorded(events))
        later: list[dict] = []
        model = finetune(**request, finish=True, events=recorded(later))
        assert not [event for event in later if event["event"] == "progress" and "fold" in event]
        assert same_weights(whole.model, model)
        scored[fold] = scores_of(model)
    assert scored[1]["mean_dice"] is None
    assert "stopped before any scan was held out" in scored[1]["note"]
    in_first = plan_folds([(True, True)] * 3, STEPS // 4, seed=0)[0].held_out
    assert {row["alias"] for row in scored[2]["cases"]} == {f"case-{index + 1:02d}" for index in in_first}
    assert 0 <= scored[2]["held_out_mean_dice"] <= 1


def test_a_run_that_is_late_leaves_folds_out_and_keeps_its_minutes(scans, tmp_path, monkeypatch):
    """A training that takes longer than planned takes it from the folds, not from the user."""
    taken, planned = Training.run, []

    def late(self, checkpoint, events, should_stop, stage="finetune", **fields):
        taken(self, checkpoint, events, should_stop, stage, **fields)
        if stage == "finetune":
            planned.extend(json.loads((checkpoint.parent / "validation.json").read_text(encoding="utf-8"))["folds"])
            time.sleep(max(0.0, began + 24 - RESERVE_SECONDS - time.monotonic()))

    monkeypatch.setattr(Training, "run", late)
    # However slow this computer is just now: the folds are planned, and then there is no time for them.
    monkeypatch.setattr(scored_training, "run_trial", lambda training: Trial(0.05, 0.01))
    began = time.monotonic()
    out = finetune(**arguments(scans, tmp_path / "model"), minutes=0.4)
    assert time.monotonic() - began < 24 + 15
    assert planned
    assert scores_of(out)["cases"] == []


CHILD = """
import sys
from pathlib import Path
from glmae.events import json_lines
from glmae.segmentation import finetuning, folds, training
training.CHECKPOINT_SECONDS = 0.0
folds.FEWEST_STEPS = folds.ENOUGH_STEPS = 2
folder, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
finetuning.finetune(images=folder / "images", labels=folder / "labels", out=out, backbone="none", steps=steps,
                    device="cpu", settings={"patch": (24, 32, 24), "validation": 0.25}, events=json_lines())
"""


def test_minutes_are_kept_with_folds(scans, tmp_path):
    began = time.monotonic()
    events: list[dict] = []
    out = finetune(**arguments(scans, tmp_path / "model"), minutes=0.3, events=recorded(events))
    assert time.monotonic() - began < 18 + 15
    trained = [event for event in events if event.get("stage") == "cross-validation"]
    assert trained or "too few" in scores_of(out)["note"]


def test_one_scan_gets_no_score_and_is_told_so(scans, tmp_path):
    out = finetune(**arguments(scans, tmp_path / "model"), cases=["hippocampus_039"], steps=8)
    assert scores_of(out)["mean_dice"] is None
    assert "one labelled scan" in scores_of(out)["note"]


def test_a_class_of_one_scan_only_is_not_scored(scans, tmp_path):
    shutil.copytree(scans, tmp_path / "scans")
    classes = tmp_path / "scans" / "labels" / "classes.json"
    content = json.loads(classes.read_text(encoding="utf-8"))
    content["annotated"] = {name: [1] for name in ("hippocampus_039", "hippocampus_207")}
    classes.write_text(json.dumps(content), encoding="utf-8")
    scores = scores_of(finetune(**arguments(tmp_path / "scans", tmp_path / "model"), steps=STEPS))
    assert scores["classes"]["hippocampus posterior"] == {"dice": None, "interval": None}
    assert {row["class"] for row in scores["cases"]} == {"hippocampus anterior"}


def test_the_terminal_shows_a_table_and_names_a_failed_training(capfd):
    show = terminal()
    entry = {"dice": 0.81, "interval": [0.75, 0.87]}
    classes = {"liver": entry, "spleen": {"dice": None, "interval": None}}
    show.emit("score", mean_dice=0.81, classes=classes, message="Expect Dice 0.81 +- 0.06 from 4 scans.")
    shown = capfd.readouterr().out.splitlines()
    assert shown[1].split() == ["liver", "0.81", "0.75", "to", "0.87"]
    assert shown[2].split() == ["spleen", "not", "known"]
    assert shown[-1] == "Expect Dice 0.81 +- 0.06 from 4 scans."
    show.emit("score", mean_dice=None, classes=classes, message="training failed: nothing is found")
    assert capfd.readouterr().out == "training failed: nothing is found\n"


def test_a_fold_that_cannot_be_trained_costs_no_model(scans, whole, monkeypatch, tmp_path):
    original = Training.run

    def run(self, checkpoint, events, should_stop, stage="finetune", **fields):
        if fields.get("fold") == 1:
            raise GLMAEError("training failed at step 1: the loss is not finite")
        original(self, checkpoint, events, should_stop, stage, **fields)

    monkeypatch.setattr(Training, "run", run)
    heard: list[dict] = []
    model = finetune(**arguments(scans, tmp_path / "model"), steps=STEPS, events=recorded(heard))
    assert same_weights(model, whole.model)
    assert [event["fold"] for event in heard if event["event"] == "fold"] == [2]
    assert [event["message"] for event in heard if event["event"] == "warning" and "held-out" in event["message"]] == [
        "Part 1 of 2 of the held-out score is left out: training failed at step 1: the loss is not finite."
    ]
    scored, all_scored = (scores_of(folder)["cases"] for folder in (model, whole.model))
    assert 0 < len(scored) < len(all_scored)
