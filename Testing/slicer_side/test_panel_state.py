"""What the panel shows and allows, from one moment alone: no scene, no widgets, no process."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from GLMAESegmentationLib.engine.event_stream import EventStream
from GLMAESegmentationLib.engine.failures import Failure, failure_of, failure_of_error, for_the_panel
from GLMAESegmentationLib.engine.progress import CURVE_POINTS, JobProgress
from GLMAESegmentationLib.jobs.case_folder import ExportedCase, in_words
from GLMAESegmentationLib.jobs.label_findings import findings_of
from GLMAESegmentationLib.jobs.queue import QueuedScan, SegmentationQueue
from GLMAESegmentationLib.jobs.suggest_state import SuggestState
from GLMAESegmentationLib.messages import failure_texts, say
from GLMAESegmentationLib.models.scores import advice, license_note, model_scores, origin
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.sentences import duration, listed
from GLMAESegmentationLib.panel.state import PanelState
from GLMAESegmentationLib.scene.class_overview import ClassRow
from GLMAESegmentationLib.scene.scan_choice import scan_to_preview, scans_to_segment
from GLMAESegmentationLib.scene.scan_table import Scan
from GLMAESegmentationLib.setup.set_up import EngineStatus
from GLMAESegmentationLib.setup.shipped_backbone import shipped_backbone


def labeled(name: str, **changes: Any) -> Scan:
    scan = Scan(name, name, "labeled", "train", segmentation_id=f"{name} seg", voxels={"liver": 9})
    return dataclasses.replace(scan, **changes)


def unlabeled(name: str, **changes: Any) -> Scan:
    return dataclasses.replace(Scan(name, name, "unlabeled", "segment"), **changes)


TWO = (labeled("a"), labeled("b"))
ONE = {action.SUGGEST, action.START_TRAINING, action.IMPORT}  # what one labeled scan is enough for


def minutes(count: int) -> str:
    return duration(60 * count, exact=True)


def trained_for(scans: int, length: str) -> str:
    return say("train", n=scans, length=length) + "."


READY = PanelState(scans=(*TWO, unlabeled("c")), models=("liver",), model="liver")


@pytest.mark.parametrize(
    ("state", "step", "enabled"),
    [
        (PanelState(), "load", {action.IMPORT}),
        (PanelState(scans=(unlabeled("a"),), selected="a"), "label", {action.LABEL, action.IMPORT}),
        (
            PanelState(scans=(unlabeled("a"),), selected="a", drawing="s"),
            "draw",
            {action.LABEL, action.END_DRAWING, action.IMPORT},
        ),
        (PanelState(scans=(labeled("a"),)), "load more", {action.START_TRAINING, action.IMPORT}),
        (PanelState(scans=(labeled("a"), unlabeled("b"))), "suggest", ONE),
        (
            PanelState(scans=(labeled("a"), unlabeled("b")), suggest=SuggestState(on=True, stage="fit")),
            "",  # it says so itself
            ONE,
        ),
        (
            PanelState(scans=(labeled("a"), unlabeled("b", result_id="r", proposal=True))),
            "review",
            ONE,
        ),
        (PanelState(scans=TWO), "train", {action.START_TRAINING, action.IMPORT}),
        (
            READY,
            "segment",
            {action.SUGGEST, action.START_TRAINING, action.START_SEGMENTING, action.IMPORT, action.EXPORT}
            | {action.RENAME, action.DELETE},
        ),
        (
            dataclasses.replace(READY, engine=EngineStatus(lacking="It is not installed.", button="install")),
            "",  # the frame of the set-up says it
            {action.INSTALL, action.CHOOSE_ENGINE, action.IMPORT, action.EXPORT, action.RENAME, action.DELETE},
        ),
        (
            dataclasses.replace(READY, engine=EngineStatus(working="Getting Python", button="install")),
            "",
            {action.CANCEL_INSTALL, action.IMPORT, action.EXPORT, action.RENAME, action.DELETE},
        ),
        (
            dataclasses.replace(READY, running="train", progress=JobProgress(stage="finetune", done=3, total=9)),
            "",
            {action.SUGGEST, action.PREVIEW, action.PAUSE, action.STOP, action.EXPORT, action.COPY_LOG},
        ),
        (
            dataclasses.replace(READY, running="segment", preparing=(0, 1)),
            "",
            {action.SUGGEST, action.CANCEL, action.EXPORT},
        ),
        (dataclasses.replace(READY, running="train", stopping=True), "", {action.SUGGEST, action.EXPORT}),
    ],
)
def test_the_way_through(state: PanelState, step: str, enabled: set[str]) -> None:
    assert state.step == step
    assert bool(state.next_step) is bool(step)
    idle = {action.CHECK_SET_UP, action.CHECK_LABELS, action.CHOOSE_ENGINE, action.VOLUMES}
    assert state.enabled - idle - {action.NEXT, action.PREVIOUS} == enabled - idle
    labeled_scans = any(scan.role == "train" for scan in state.scans)
    assert (action.CHECK_LABELS in state.enabled) is (labeled_scans and not state.running and state.can_compute)
    assert (action.CHECK_SET_UP in state.enabled) is (not state.running and not state.engine.working)


def test_what_is_missing_is_said() -> None:
    assert PanelState().train_sentence == say("train nothing")
    assert action.START_TRAINING not in PanelState().enabled
    assert PanelState(scans=(labeled("a"),)).train_sentence == trained_for(1, minutes(20))
    assert PanelState().segment_sentence == say("segment no model")
    assert dataclasses.replace(READY, model="").segment_sentence == say("segment choose")
    nothing = PanelState(scans=TWO, models=("liver",), model="liver")
    assert nothing.segment_sentence == say("segment nothing")
    assert action.START_SEGMENTING not in nothing.enabled


def test_a_training_scan_without_a_label_is_named_and_not_trained_on() -> None:
    state = PanelState(scans=(*TWO, unlabeled("c", role="train")))
    assert say("no label yet", scans="c") in state.scans_sentence
    assert state.train_sentence == trained_for(2, minutes(20))


def test_choices_are_in_the_sentence() -> None:
    assert PanelState(scans=TWO, budget="thorough").train_sentence == trained_for(2, minutes(60))
    assert PanelState(scans=TWO, steps=30).train_sentence == trained_for(2, say("train steps", steps=30))
    region = say("train region", region="R")
    assert PanelState(scans=TWO, region="R").train_sentence == trained_for(2, f"{minutes(20)}, {region}")


@pytest.mark.parametrize(
    ("shipped", "backbone", "key"),
    [("", "", "start without"), ("tiny", "", "start scratch"), ("tiny", "tiny", "start pretrained")],
)
def test_the_backbone_is_named(shipped: str, backbone: str, key: str) -> None:
    details = PanelState(scans=TWO, shipped=shipped, backbone=backbone).train_details
    assert details.splitlines()[0] == say(key, name=backbone)


def test_the_model_that_a_training_goes_on_from_is_named() -> None:
    state = PanelState(scans=TWO, shipped="tiny", backbone="tiny", start="Leber")
    assert state.train_details.splitlines()[0] == say("start model", name="Leber")
    assert state.train_sentence == trained_for(2, f"{minutes(20)}, {say('train from', model='Leber')}")


def test_a_shipped_backbone_is_found_without_torch(tmp_path: Path) -> None:
    assert shipped_backbone(tmp_path) == ""
    for name in ("small", "tiny"):
        (tmp_path / name).mkdir()
    (tmp_path / "small" / "model.json").touch()
    assert shipped_backbone(tmp_path) == ""  # an empty folder is none, and a training does not start from "small"
    (tmp_path / "tiny" / "model.json").touch()
    assert shipped_backbone(tmp_path) == "tiny"


def test_memory_and_device_are_said_as_far_as_they_are_known() -> None:
    assert say("memory", need=1.5) in PanelState(scans=TWO).train_details
    known = PanelState(scans=TWO, memory=(400_000_000, 9_000_000_000), device_reason="Computing on the CPU.")
    assert known.train_details.splitlines()[1:] == [say("memory free", need=1.0, free=9.0), "Computing on the CPU."]


def test_a_preview_goes_to_the_selected_scan_else_to_one_that_is_not_learned_from() -> None:
    scans = [*TWO, unlabeled("c")]
    assert scan_to_preview(scans, "b").name == "b"
    assert scan_to_preview(scans).name == "c"
    assert scan_to_preview(TWO, "gone").name == "a"


def test_a_failure_stays_until_something_else_is_done() -> None:
    failure = Failure("memory", "Out of memory", "Too little.", "Close other programs.")
    state = dataclasses.replace(READY, failure=failure)
    assert state.failure == failure
    assert state.next_step == ""
    assert action.COPY_LOG in state.enabled


def test_what_was_done_is_said_beside_a_job() -> None:
    job = dataclasses.replace(READY, running="train", progress=JobProgress(stage="finetune", done=3, total=9))
    assert (job.next_step, job.progress_sentence) == ("", "Training (3 of 9).")
    assert dataclasses.replace(job, note="It was written.").next_step == "It was written."


def test_an_interrupted_job_is_offered() -> None:
    state = dataclasses.replace(READY, interrupted=("liver 2",))
    assert {action.CONTINUE, action.DISCARD} <= state.enabled
    assert state.step == READY.step  # the frame of the job offers to go on, and nothing has to wait for that
    assert action.KEEP not in state.enabled
    assert action.KEEP in dataclasses.replace(READY, interrupted=("liver 2",), learned=True).enabled
    assert action.CONTINUE not in dataclasses.replace(READY, interrupted=("x",), running="train").enabled


def test_only_scans_without_a_result_of_this_model_are_segmented() -> None:
    scans = [unlabeled("a", result_id="r", result_model="old"), unlabeled("b", result_id="s", result_model="new")]
    assert [scan.name for scan in scans_to_segment(scans, "new")] == ["a"]
    assert [scan.name for scan in scans_to_segment(scans[1:], "new")] == ["b"]
    assert scans_to_segment([labeled("c"), unlabeled("d", role="leave out")], "new") == []


def test_partial_labels_are_stated() -> None:
    rows = (ClassRow("liver", None, "", {"a": 9}, ("b",)),)
    sentence = PanelState(scans=TWO, classes=rows).classes_sentence
    assert sentence == say("partly labeled", name="liver", scans="b")


def test_a_selected_result_can_be_accepted_or_corrected() -> None:
    scans = (*TWO, unlabeled("c", state="segmented", result_id="r"))
    state = dataclasses.replace(READY, scans=scans, selected="c")
    assert {action.ACCEPT, action.CORRECT} <= state.enabled
    assert not {action.ACCEPT, action.CORRECT} & dataclasses.replace(READY, scans=scans).enabled


def test_events_arrive_in_pieces() -> None:
    stream, events = EventStream(), []
    text = (
        "".join(json.dumps({"event": "info", "message": f"Größe {n}"}) + "\r\n" for n in range(5)) + "noise\n[1]\n{}\n"
    )
    data = text.encode()
    for start in range(0, len(data), 7):
        events += stream.feed(data[start : start + 7])
    assert [event["message"] for event in events] == [f"Größe {n}" for n in range(5)]
    assert stream.other_lines == ["noise", "[1]", "{}"]
    assert stream.feed(b'{"event": "finished"}') == []
    assert stream.end() == [{"event": "finished"}]


def test_a_line_without_an_end_is_dropped() -> None:
    stream = EventStream()
    assert stream.feed(b"x" * 1_100_000) == []
    assert stream.feed(b'\n{"event": "info"}\n') == [{"event": "info"}]


def test_progress_follows_the_events_and_ignores_what_it_does_not_know() -> None:
    progress = JobProgress()
    for event in (
        {"event": "started", "job": "finetune", "device": "cpu"},
        {"event": "info", "message": "Computing on the CPU."},
        {"event": "something new", "done": "?"},
        {"event": "progress", "stage": "prepare", "done": 1, "total": 2, "loss": 9.0},
        {"event": "progress", "stage": "finetune", "done": 1, "total": 4, "seconds_left": None, "loss": 2.0},
        {"event": "progress", "stage": "finetune", "done": 2, "total": 4, "seconds_left": 8.0, "loss": float("nan")},
        {"event": "score", "mean_dice": 0.7},
        {"event": "estimate", "memory_bytes": 1_000_000_000, "free_bytes": 9_000_000_000},
        {"event": "case", "case": "case-01", "state": "failed", "message": "unreadable"},
        {"event": "case", "case": None, "state": 3},
        {"event": "finished", "job": "finetune", "model": "m"},
    ):
        progress.apply(event)
    assert progress.device == "cpu"
    assert progress.device_reason == "Computing on the CPU."
    assert progress.memory == (1_000_000_000, 9_000_000_000)
    assert (progress.done, progress.total, progress.seconds_left, progress.fraction) == (2, 4, 8.0, 0.5)
    assert progress.loss == [(1.0, 2.0)]
    assert progress.finished is not None


def test_a_guess_about_what_was_labeled_is_said_in_words_of_the_panel() -> None:
    case = ExportedCase("case-01", "Liver 7", ("volume",), None)
    said = "case case-01: labels end abruptly; the rest counts as background, unless classes.json says so: {}."
    message = in_words(said, Path("cases"), [case])
    (finding,) = findings_of({"check": "region", "case": "case-01", "message": message}, [case])
    assert finding.sentence == '"Liver 7": labels end abruptly; the rest counts as background' + say("unless button")
    assert finding.part


def test_each_training_begins_a_curve() -> None:
    progress = JobProgress()
    for stage, done in (("pre-training", 7), ("finetune", 1), ("finetune", 2)):
        progress.apply({"event": "progress", "stage": stage, "done": done, "total": 2, "loss": float(done)})
    assert progress.loss == [(1.0, 1.0), (2.0, 2.0)]


def test_a_long_curve_keeps_its_ends_and_stays_short() -> None:
    progress = JobProgress()
    for step in range(10_000):
        progress.apply({"event": "progress", "stage": "finetune", "done": step, "total": 10_000, "loss": float(step)})
    assert len(progress.loss) <= CURVE_POINTS
    assert progress.loss[0] == (0.0, 0.0)
    assert progress.loss[-1] == (9999.0, 9999.0)
    assert progress.loss == sorted(progress.loss)


@pytest.mark.parametrize(
    ("event", "status", "log", "key", "words"),
    [
        (("MemoryError", "there is not enough memory"), 1, (), "memory", ""),
        (("StorageError", "x: the disk is full; free some space"), 1, (), "disk full", ""),
        (("ScanError", "case-01 is damaged; load it again"), 2, (), "ScanError", "case-01 is damaged"),
        (("RequestError", "device 'cuda' cannot be used (old)"), 2, (), "gpu", ""),
        (("Unforeseen", "x"), 2, (), "failed", "X."),
        (("ModelError", "it has no weights or model.json; copy it"), 2, (), "ModelError", "weights or model.json."),
        (None, 1, ["ModuleNotFoundError: No module named 'monai.losses'"], "package missing", "monai"),
        (None, 1, ["torch.OutOfMemoryError: CUDA out of memory."], "gpu memory", ""),
        (None, 1, ["RuntimeError: CUDA error: no kernel image is available"], "gpu", ""),
        (None, 1, ["OSError: [Errno 28] No space left on device"], "disk full", ""),
        (None, None, ["one", "two"], "killed", ""),
        (None, 137, ["Killed"], "killed", ""),
        (None, 139, [], "crashed", "139"),
    ],
)
def test_failures(event: Any, status: int | None, log: list[str], key: str, words: str) -> None:
    fields = None if event is None else {"event": "failed", "name": event[0], "message": event[1]}
    failure = failure_of(fields, status, log)
    assert failure.key == key
    assert words in failure.cause
    assert "{" not in failure.sentence


@pytest.mark.parametrize(
    ("number", "file", "key", "named"),
    [
        (errno.ENOSPC, "/media/stick/liver.glmae.zip", "disk full", "/media/stick/liver.glmae.zip could not"),
        (errno.EACCES, "/home/ü/GLMAE/jobs/20260131-101500-1/job.json", "StorageError", "/home/ü/GLMAE/jobs could not"),
    ],
)
def test_a_disk_that_refuses_is_named_and_no_file_of_a_job(number: int, file: str, key: str, named: str) -> None:
    failure = failure_of_error(OSError(number, os.strerror(number), file))
    assert failure.key == key
    assert failure.cause.startswith(named)
    assert failure.remedy == failure_texts(key)[2]
    assert "choose" not in failure.sentence  # where jobs are kept cannot be chosen


def test_memory_that_is_short_on_a_gpu_is_the_gpus() -> None:
    short = {"event": "failed", "name": "MemoryError", "message": "there is not enough memory"}
    assert failure_of(short, 1, (), "cuda:0").key == "gpu memory"
    assert failure_of(short, 1, (), "cpu").key == "memory"


def test_the_queue() -> None:
    queue = SegmentationQueue([QueuedScan("1", "a", case="case-01"), QueuedScan("2", "b", case="case-02")])
    queue.case_event("case-01", "running", "")
    queue.case_event("case-01", "failed", "unreadable")
    queue.update("2", state="canceled")
    queue.case_event("case-02", "running", "")  # the engine has not heard of it yet
    queue.case_event("case-09", "running", "")
    assert [(scan.state, scan.note) for scan in queue.scans] == [("failed", "unreadable"), ("canceled", "")]
    counts = [say(f"segment {state}", count=1) for state in ("failed", "canceled")]
    assert queue.sentence == " ".join([say("segmented", done=0, total=2), *counts])


def test_messages_name_the_scan_and_a_remedy_of_the_panel() -> None:
    """As the engine wrote them about a scan that has the same value everywhere."""
    cases = (ExportedCase("case-02", "DOE JANE T1", ("volume",), None),)
    folder = Path("/Größe μ/jobs/20260131-101500-1/cases")
    said = "{file} has the same value, 7, everywhere; export the scan again"
    for file in (folder / "images" / "case-02.nrrd", "cases/images/case-02.nrrd", "case case-02", "case-02"):
        message = in_words(said.format(file=file), folder, cases)
        failure = failure_of({"name": "ScanError", "message": message}, None, [])
        assert failure.reason.startswith('"DOE JANE T1" has the same value, 7, everywhere. ')
        assert failure.remedy == failure_texts("ScanError")[2]
        assert failure.lasting
    assert in_words("case-022 and case-02: x", folder, cases) == 'case-022 and "DOE JANE T1": x'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Computing on the CPU (2 threads), as asked.", "Computing on the CPU (2 threads)."),
        (
            "it is full; close other programs and go on with --resume, or choose another --device",
            "it is full; close other programs",
        ),
        ("device 'cuda' cannot be used (old); choose --device auto or cpu", "device 'cuda' cannot be used (old)"),
        (
            "nothing is learned about it; where it is absent, list it under `annotated` in classes.json.",
            "nothing is learned about it",
        ),
        ("it holds the value 9; correct it or classes.json.", "it holds the value 9; correct it"),
        (
            "unforeseen KeyError ('x'); please report it with the command and the kind of your files",
            "unforeseen KeyError ('x')",
        ),
    ],
)
def test_advice_for_the_command_line_is_left_out(said: str, shown: str) -> None:
    assert for_the_panel(said) == shown


def test_scores_of_a_card() -> None:
    scores = {
        "mean_dice": 0.81,
        "sd": 0.06,
        "classes": {"liver": {"dice": 0.9, "sd": None}, "spleen": {"dice": None}, "x": 0.5},
    }
    found = model_scores({"scores": scores})
    assert [(score.name, score.text) for score in found] == [
        (say("all structures"), "0.81 ± 0.06"),
        ("liver", "0.90"),
    ]
    assert advice({"scores": scores}) == ""
    failed = "training failed: nothing is found; train longer (--minutes), look at the labels, or try another --seed"
    said = "Training failed: nothing is found; train longer, look at the labels."
    assert advice({"scores": scores | {"failure": failed}}) == said
    without = {"mean_dice": None, "failure": None, "not_checked": "Not checked."}
    assert advice({"scores": without}) == "Not checked. " + say("not scored")
    assert model_scores({"scores": None}) == model_scores({"scores": without}) == []
    assert advice({}) == say("not scored")
    cases = [{"alias": "a"}, {"alias": "b"}]
    assert origin({"training_cases": cases, "pretrained": None}) == say("origin scratch", n=2)
    assert origin({"training_cases": cases[:1], "pretrained": "tiny"}) == say("origin", n=1, name="tiny")
    assert origin({}) == ""
    assert license_note({"pretrained": "tiny"}) == say("license")
    assert license_note({"pretrained": None}) == license_note({}) == ""
    went_on = {"training_cases": cases, "pretrained": None, "from": "5f1c"}
    assert (origin(went_on), license_note(went_on)) == (say("origin from", n=2), say("license from"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "5 seconds"), (42, "40 seconds"), (70, "1 minute"), (1200, "20 minutes"), (7200, "2.0 hours")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == f"about {words}"


def test_long_lists_are_shortened() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdef"), most=2) == "a, b and 4 more"
