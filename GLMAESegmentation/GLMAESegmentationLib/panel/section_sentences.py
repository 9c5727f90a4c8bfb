"""What each section of the panel says: what is missing before it can be used, or what it will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..messages import say
from ..scene.choices import BUDGET_MINUTES, SEGMENT, TRAIN
from ..scene.class_overview import partial_sentence
from ..scene.scan_choice import review_order, scans_to_propose, scans_to_segment, training_scans
from . import actions as action
from .sentences import duration, listed, progress_sentence

if TYPE_CHECKING:
    from .state import PanelState

# Peak memory of training in GB before the engine was asked: the network and a batch of crops, which do not depend on
# how many or how large the scans are. 1.2 were measured on the CPU with scans of 128 x 128 x 128 voxels.
TRAINING_GB = 1.5
# The engine estimates the network and its crops; the programs themselves take this.
PROGRAM_GB = 0.6


def step(now: PanelState) -> str:
    """What to do now, in a word that is the same in every language; "" where something else on the panel says it."""
    if not now.can_compute or now.failure is not None:
        return ""
    if now.note:
        return "note"
    if now.drawing:
        return "draw"
    if now.running:
        return ""
    if not now.scans:
        return "load"
    training, results = training_scans(now.scans), any(scan.result_id for scan in now.scans)
    if results:
        return "review"
    if not training and not now.models:
        return "label"
    if now.suggest.on:
        return ""
    if now.model and scans_to_segment(now.scans, now.model):
        return "segment"
    if action.SUGGEST in now.enabled:
        return "suggest"
    if now.model:
        return "done"
    return "train" if len(training) > 1 else "load more"  # one alone has nothing to be used for


def next_step(now: PanelState) -> str:
    """The one sentence at the top of the panel: what to do now."""
    found = step(now)
    return now.note if found == "note" else say(f"step {found}") if found else ""


def scans_sentence(now: PanelState) -> str:
    """What the section Scans has to say."""
    if not now.scans:
        return say("no scans")
    train, segment = (sum(scan.role == role for scan in now.scans) for role in (TRAIN, SEGMENT))
    named = {
        "no label yet": [scan.name for scan in now.scans if scan.role == TRAIN and not scan.trainable],
        "another kind": [scan.name for scan in now.scans if scan.unlike],
        "several segmentations": [scan.name for scan in now.scans if len(scan.candidates) > 1],
    }
    texts = [say("roles", train=train, segment=segment)]
    texts += [say(key, scans=listed(names)) for key, names in named.items() if names]
    return " ".join(texts)


def classes_sentence(now: PanelState) -> str:
    """What there is to say about the structures and their labels."""
    if not now.classes:
        return say("no structures")
    empty = [(scan.name, name) for scan in now.scans if scan.role == TRAIN for name in scan.empty]
    text = partial_sentence(now.classes)
    if empty and not text:
        text = say("empty structure", scan=empty[0][0], name=empty[0][1])
    text = text or say("all labeled")
    if now.checking_labels:
        text += " " + say("checking labels")
    elif now.checked and not now.findings and not now.problem:
        text += " " + say("labels good")
    return text


def part_question(now: PanelState) -> str:
    """What can be said of the part of the selected scan that was labeled; "" where the question does not arise."""
    scan = now.selected_scan
    if scan is None:
        return ""
    if scan.partly:
        return say("all counts", scan=scan.name)
    asked = any(finding.part and finding.volume_id == scan.volume_id for finding in now.findings)
    return say("part counts", scan=scan.name) if asked else ""


def suggest_sentence(now: PanelState) -> str:
    """What Suggest needs, will do or is at."""
    it = now.suggest
    if not now.can_compute:
        return ""  # the frame at the top says why
    if not it.on:
        wanted = len(scans_to_propose(now.scans))
        return "" if not wanted else say("suggest", n=wanted) if training_scans(now.scans) else say("suggest label")
    if it.problem:
        return it.problem
    if it.stage in ("write", "fit"):
        return say(f"suggest {it.stage}", scan=it.scan)
    if it.stage:
        return say("suggest segment", scan=it.scan, done=it.proposed, total=it.wanted)
    return say("suggested", n=it.wanted) if it.wanted else say("nothing to suggest")


def train_sentence(now: PanelState) -> str:
    """What Train needs, or what it will do."""
    if not now.can_compute:
        return ""  # the frame at the top says why
    training = len(training_scans(now.scans))
    if not training:
        return say("train nothing")
    length = duration(60 * BUDGET_MINUTES[now.budget], exact=True)
    parts = [say("train", n=training, length=say("train steps", steps=now.steps) if now.steps else length)]
    parts += [say("train region", region=now.region)] if now.region else []
    parts += [say("train from", model=now.start)] if now.start else []
    return " ".join((", ".join(parts) + ".", *([now.problem] if now.problem else [])))


def train_details(now: PanelState) -> str:
    """What else there is to know before a training: its start, its memory, its device; a line each."""
    start = "start pretrained" if now.backbone else "start scratch" if now.shipped else "start without"
    start = "start model" if now.start else start
    memory = say("memory", need=TRAINING_GB)
    if now.memory is not None:
        need, free = (size / 1e9 for size in now.memory)
        memory = say("memory free", need=need + PROGRAM_GB, free=free)
    return "\n".join(filter(None, (say(start, name=now.start or now.backbone), memory, now.device_reason)))


def segment_sentence(now: PanelState) -> str:
    """What Segment needs, or what it will do."""
    if not now.can_compute:
        return ""  # the frame at the top says why
    if not now.model:
        return say("segment choose" if now.models else "segment no model")
    targets = scans_to_segment(now.scans, now.model)
    if not targets:
        return say("segment nothing")
    if any(scan.result_id and scan.result_model == now.model for scan in targets):
        return say("segment again")
    return say("segment", n=len(targets), scan=targets[0].name)


def review_sentence(now: PanelState) -> str:
    """Which result is looked at and what is doubtful about it, a line each; how many there are, when none is."""
    order = review_order(now.scans)
    scan = now.selected_scan
    if scan is None or not scan.result_id:
        return say("results", n=len(order)) if order else ""
    place = next((number for number, one in enumerate(order, start=1) if one is scan), 0)
    head = say("result", scan=scan.name, number=place, total=len(order)) if place else scan.name
    return "\n".join((head, *scan.doubts))


def job_sentence(now: PanelState) -> str:
    """How far the job under way is; "" without one."""
    if not now.running:
        return ""
    if now.stopping or now.finishing:
        return say("job stopping" if now.stopping else "job finishing")
    if now.preparing is not None:
        return say("job preparing", number=min(now.preparing[0] + 1, now.preparing[1]), total=now.preparing[1])
    return progress_sentence(now.progress) if now.progress is not None else ""
