"""What each section of the panel says: what is missing before it can be used, or what it will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..scene.choices import BUDGET_MINUTES
from ..scene.choices import SEGMENT as SEGMENT_ROLE
from ..scene.choices import TRAIN as TRAIN_ROLE
from ..scene.class_overview import partial_sentence
from ..scene.scan_choice import review_order, scans_to_propose, scans_to_segment, training_scans
from ..translation import tr as _
from . import actions as action
from .sentences import duration, listed, progress_sentence, stage_name

if TYPE_CHECKING:
    from .state import PanelState

# Peak memory of training in GB before the engine was asked: the network and a batch of crops, which do not depend on
# how many or how large the scans are. 1.2 were measured on the CPU with scans of 128 x 128 x 128 voxels.
TRAINING_GB = 1.5
# The engine estimates the network and its crops; the programs themselves take this.
PROGRAM_GB = 0.6


def step(now: PanelState) -> str:
    """What to do now, in a word that is the same in every language; "" where something else on the panel says it."""
    if now.running:
        return "job"
    if not now.can_compute or now.failure is not None:
        return ""  # the frame below says why
    if now.note:
        return "note"
    if now.interrupted:
        return "interrupted"
    if not now.scans:
        return "load"
    training, results = training_scans(now.scans), any(scan.result_id for scan in now.scans)
    if results:
        return "review"
    if not training and not now.models:
        return "label"
    if now.suggest.on:
        return "suggesting"
    if now.model and scans_to_segment(now.scans, now.model):
        return "segment"
    if action.SUGGEST in now.enabled:
        return "suggest"
    if now.model:
        return "done"
    return "train" if len(training) > 1 else "load more"  # one alone has nothing to be used for


def next_step(now: PanelState) -> str:
    """The one sentence at the top of the panel: what to do now."""
    return {
        "": lambda: "",
        "job": lambda: job_sentence(now),
        "note": lambda: now.note,
        "interrupted": lambda: _('"{title}" was interrupted. Continue it or discard it.').format(
            title=now.interrupted[0]
        ),
        "load": lambda: _("Step 1: load the scans."),
        "label": lambda: _("Step 2: label one scan: select it and press Label selected scan."),
        "suggest": lambda: _("Step 3: press Suggest."),
        "suggesting": lambda: now.suggest_sentence,
        "review": lambda: _("Step 4: review the results: press Next."),
        "segment": lambda: _("Press Segment."),
        "train": lambda: _("Press Train."),
        "load more": lambda: _("Load more scans of the same kind."),
        "done": lambda: _("All scans are labeled. Load more scans to segment them."),
    }[step(now)]()


def scans_sentence(now: PanelState) -> str:
    """What the section Scans has to say."""
    if not now.scans:
        return _("No scans yet. Load two or more scans of the same kind.")
    roles = {role: sum(scan.role == role for scan in now.scans) for role in (TRAIN_ROLE, SEGMENT_ROLE)}
    text = _("{train} for training, {segment} for segmentation.").format(
        train=roles[TRAIN_ROLE], segment=roles[SEGMENT_ROLE]
    )
    unusable = [scan.name for scan in now.scans if scan.role == TRAIN_ROLE and not scan.trainable]
    if unusable:
        text += " " + _("No label yet: {scans}.").format(scans=listed(unusable))
    unlike = [scan.name for scan in now.scans if scan.unlike]
    if unlike:
        text += " " + _("Ignored, because it looks like another kind of image: {scans}.").format(scans=listed(unlike))
    several = [scan.name for scan in now.scans if len(scan.candidates) > 1]
    if several:
        text += " " + _("Several segmentations; choose the label in the table: {scans}.").format(scans=listed(several))
    if now.findings:
        text += " " + _("Possible label problems (click to show):")
    return text


def classes_sentence(now: PanelState) -> str:
    """What the section Classes has to say."""
    if not now.classes:
        return _("No structures yet. They appear here once you label a scan.")
    empty = [(scan.name, name) for scan in now.scans if scan.role == TRAIN_ROLE for name in scan.empty]
    text = partial_sentence(now.classes)
    if empty and not text:
        text = _("{name} has no voxels in {scan}.").format(scan=empty[0][0], name=empty[0][1])
    text = text or _("Every structure is labeled in every scan used for training.")
    if now.checking_labels:
        text += " " + _("Checking the labels...")
    elif now.checked and not now.findings and not now.problem:
        text += " " + _("Label check: no problems found.")
    return text


def part_question(now: PanelState) -> str:
    """What can be said of the part of the selected scan that was labeled; "" where the question does not arise."""
    scan = now.selected_scan
    if scan is None:
        return ""
    if scan.partly:
        return _("All of {scan} was labeled").format(scan=scan.name)
    if any(finding.part and finding.volume_id == scan.volume_id for finding in now.findings):
        return _("Only the labeled part of {scan} counts").format(scan=scan.name)
    return ""


def suggest_sentence(now: PanelState) -> str:
    """What Suggest needs, will do or is at."""
    it = now.suggest
    if not now.can_compute:
        return ""  # the frame at the top says why
    if not it.on:
        wanted = scans_to_propose(now.scans)
        if not wanted:
            return ""
        if not training_scans(now.scans):
            return _("Label one scan; Suggest then proposes the others.")
        return _("Proposes {n} scans, and anew after each label.").format(n=len(wanted))
    if it.problem:
        return it.problem
    if it.stage == "write":
        return _("Preparing {scan}.").format(scan=it.scan)
    if it.stage == "fit":
        return _("Learning from the labels.")
    if it.stage:
        text = _("Proposing {scan}: {n} of {total} done.")
        return text.format(scan=it.scan, n=it.proposed, total=it.wanted)
    if it.wanted:
        return _("All {n} proposals are up to date. Accept or edit one, and the others follow.").format(n=it.wanted)
    return _("No scan is left to propose.")


def train_sentence(now: PanelState) -> str:
    """What Train needs, or what it will do."""
    if not now.can_compute:
        return ""  # the frame at the top says why
    training = training_scans(now.scans)
    if not training:
        return _("Training needs a labeled scan.")
    length = duration(60 * BUDGET_MINUTES[now.budget], exact=True)
    if now.steps:
        length = _("{steps} steps").format(steps=now.steps)
    text = _("1 scan, {length}") if len(training) == 1 else _("{n} scans, {length}")
    parts = [text.format(n=len(training), length=length)]
    if now.region:
        parts.append(_("inside {region}").format(region=now.region))
    return " ".join((", ".join(parts) + ".", *([now.problem] if now.problem else [])))


def train_details(now: PanelState) -> str:
    """What else there is to know before a training: its start, its memory, its device; a line each."""
    if now.memory is None:
        memory = _("Needs about {gb:.1f} GB of memory.").format(gb=TRAINING_GB)
    else:
        need, free = (size / 1e9 for size in now.memory)
        memory = _("Needs about {gb:.1f} GB of memory; {free:.1f} GB are free.").format(gb=need + PROGRAM_GB, free=free)
    start = _start(now)
    return "\n".join(filter(None, (start[:1].upper() + start[1:] + ".", memory, now.device_reason)))


def _start(now: PanelState) -> str:
    if now.backbone:
        return _("starting from the pre-trained backbone {name}").format(name=now.backbone)
    return _("from scratch") if now.shipped else _("from scratch (no pre-trained backbone is installed)")


def segment_sentence(now: PanelState) -> str:
    """What Segment needs, or what it will do."""
    if not now.can_compute:
        return ""  # the frame at the top says why
    if not now.models:
        return _("There is no model yet. Train one above, or import one.")
    if not now.model:
        return _("Choose a model.")
    targets = scans_to_segment(now.scans, now.model)
    if not targets:
        return _("No scan is set to Segmentation in the table above.")
    done = [scan for scan in targets if scan.result_id and scan.result_model == now.model]
    if done:
        return _("All scans already have a result from this model. Segmenting again adds a second one.")
    if len(targets) == 1:
        return _("Segments {scan}.").format(scan=targets[0].name)
    return _("Segments {n} scans.").format(n=len(targets))


def review_sentence(now: PanelState) -> str:
    """Which result is looked at and what is doubtful about it, a line each; how many there are, when none is."""
    order = review_order(now.scans)
    scan = now.selected_scan
    if scan is None or not scan.result_id:
        return _("{n} results to look at. Next shows the least sure one.").format(n=len(order)) if order else ""
    place = next((number for number, one in enumerate(order, start=1) if one is scan), 0)
    head = _("{scan}: result {n} of {total}").format(scan=scan.name, n=place, total=len(order)) if place else scan.name
    return "\n".join((head, *scan.doubts))


def job_stage(now: PanelState) -> str:
    """What the job under way is at; "" without one."""
    if now.preparing is not None:
        return _("Preparing the scans")
    return stage_name(now.progress.stage) if now.running and now.progress is not None else ""


def job_sentence(now: PanelState) -> str:
    """How far the job under way is; "" without one."""
    if not now.running:
        return ""
    if now.stopping:
        return _("Stopping. Finished work is kept.")
    if now.finishing:
        return _("Finishing: making the model of what was learned so far.")
    if now.preparing is not None:
        return _("Preparing scan {n} of {total}.").format(
            n=min(now.preparing[0] + 1, now.preparing[1]), total=now.preparing[1]
        )
    return progress_sentence(now.progress) if now.progress is not None else ""
