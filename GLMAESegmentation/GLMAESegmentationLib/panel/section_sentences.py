"""What each section of the panel says: what is missing before it can be used, or what it will do."""

from __future__ import annotations

from ..scene.choices import BUDGET_MINUTES
from ..scene.choices import SEGMENT as SEGMENT_ROLE
from ..scene.choices import TRAIN as TRAIN_ROLE
from ..scene.class_overview import partial_sentence
from ..scene.scan_choice import FEWEST_SCANS, scans_to_segment, training_scans
from ..scene.scan_table import SEGMENTED
from ..translation import tr as _
from .sentences import duration, listed, progress_sentence, stage_name
from .situation import Situation

# Peak memory of training in GB before the engine was asked: the network and a batch of crops, which do not depend on
# how many or how large the scans are. 1.2 were measured on the CPU with scans of 128 x 128 x 128 voxels.
TRAINING_GB = 1.5
# The engine estimates the network and its crops; the programs themselves take this.
PROGRAM_GB = 0.6


def next_step(now: Situation) -> str:
    """The one sentence at the top of the panel: what to do now."""
    if now.job:
        return job_sentence(now)
    if not now.can_compute:
        return ""  # the frame below says why
    if now.failure is not None:
        return ""
    if now.note:
        return now.note
    if now.interrupted:
        return _('"{title}" was interrupted. Continue it or discard it.').format(title=now.interrupted[0])
    if not now.scans:
        return _("Step 1: load the scans.")
    training, models = training_scans(now.scans), now.models
    if len(training) < FEWEST_SCANS and not models:
        left = FEWEST_SCANS - len(training)
        return (
            _("Step 2: label two scans: select one and press Label this one.")
            if left > 1
            else _("Step 2: label one more scan: select it and press Label this one.")
        )
    if now.model not in models:
        return _("Step 3: press Train.") if len(training) >= FEWEST_SCANS else _("Choose a model below.")
    if any(scan.result_id for scan in now.scans):
        return _("Look at the results: accept those that are right, correct the others, then train again.")
    if scans_to_segment(now.scans, now.model):
        return _("Step 4: press Segment.")
    return _("All scans are labelled. Load more scans to segment them.")


def scans_sentence(now: Situation) -> str:
    """What the section Scans has to say."""
    if not now.scans:
        return _("No scans yet. Load two or more scans of the same kind.")
    roles = {role: sum(scan.role == role for scan in now.scans) for role in (TRAIN_ROLE, SEGMENT_ROLE)}
    text = _("{train} to train on, {segment} to segment.").format(train=roles[TRAIN_ROLE], segment=roles[SEGMENT_ROLE])
    unusable = [scan.name for scan in now.scans if scan.role == TRAIN_ROLE and not scan.trainable]
    if unusable:
        text += " " + _("Without a label, and so not trained on: {scans}.").format(scans=listed(unusable))
    doubtful = [scan.name for scan in now.scans if scan.doubts and scan.state == SEGMENTED]
    if doubtful:
        text += " " + _("Look at {scans}: doubtful.").format(scans=listed(doubtful))
    return text


def classes_sentence(now: Situation) -> str:
    """What the section Classes has to say."""
    if not now.classes:
        return _("No structures yet. They appear here when you have drawn them in a scan to train on.")
    empty = [(scan.name, name) for scan in now.scans if scan.role == TRAIN_ROLE for name in scan.empty]
    text = partial_sentence(now.classes)
    if empty and not text:
        text = _("{name} has no voxels in {scan}.").format(scan=empty[0][0], name=empty[0][1])
    text = text or _("Every structure was drawn in every scan to train on.")
    if now.checking_labels:
        text += " " + _("The labels are being checked.")
    elif now.checked and not now.findings and not now.problem:
        text += " " + _("The labels were checked: nothing odd was found.")
    elif now.findings:
        text += " " + _("Odd in the labels; select a line to go there:")
    return text


def part_question(now: Situation) -> str:
    """What can be said of the part of the selected scan that was labelled; "" where the question does not arise."""
    scan = next((scan for scan in now.scans if scan.volume_id == now.selected), None)
    if scan is None:
        return ""
    if scan.partly:
        return _("All of {scan} was labelled").format(scan=scan.name)
    if any(finding.part and finding.volume_id == scan.volume_id for finding in now.findings):
        return _("Only the labelled part of {scan} counts").format(scan=scan.name)
    return ""


def train_sentence(now: Situation) -> str:
    """What Train needs, or what it will do."""
    if not now.can_compute:
        return ""  # the frame at the top says why
    training = training_scans(now.scans)
    if len(training) < FEWEST_SCANS:
        if training:
            return _("Training needs two labelled scans; there is one.")
        return _("Training needs two labelled scans; there is none yet.")
    length = duration(60 * BUDGET_MINUTES[now.budget], exact=True)
    if now.steps:
        length = _("{steps} steps").format(steps=now.steps)
    parts = [_("Trains on {n} scans for {length}, {start}.").format(n=len(training), length=length, start=_start(now))]
    if now.region:
        parts.append(_("Only inside {region}.").format(region=now.region))
    if now.memory is None:
        parts.append(_("Needs about {gb:.1f} GB of memory.").format(gb=TRAINING_GB))
    else:
        need, free = (size / 1e9 for size in now.memory)
        parts.append(
            _("Needs about {gb:.1f} GB of memory; {free:.1f} GB are free.").format(gb=need + PROGRAM_GB, free=free)
        )
    return " ".join(part for part in (*parts, now.device_reason, now.problem) if part)


def _start(now: Situation) -> str:
    if now.backbone:
        return _("starting from the pre-trained backbone {name}").format(name=now.backbone)
    return _("from scratch") if now.shipped else _("from scratch (no pre-trained backbone is installed)")


def segment_sentence(now: Situation) -> str:
    """What Segment needs, or what it will do."""
    if not now.can_compute:
        return ""  # the frame at the top says why
    if not now.models:
        return _("There is no model yet. Train one above, or import one.")
    if now.model not in now.models:
        return _("Choose a model.")
    targets = scans_to_segment(now.scans, now.model)
    if not targets:
        return _("No scan has the role segment; choose it in the table of scans.")
    done = [scan for scan in targets if scan.result_id and scan.result_model == now.model]
    if done:
        return _("All have a result of this model. Segment makes new ones beside them.")
    if len(targets) == 1:
        return _("Segments {scan}. The result is a new segmentation.").format(scan=targets[0].name)
    return _("Segments {n} scans. Results are new segmentations; nothing is overwritten.").format(n=len(targets))


def job_stage(now: Situation) -> str:
    """What the job under way is at; "" without one."""
    if now.preparing is not None:
        return _("Preparing the scans")
    return stage_name(now.progress.stage) if now.job and now.progress is not None else ""


def job_sentence(now: Situation) -> str:
    """How far the job under way is; "" without one."""
    if not now.job:
        return ""
    if now.stopping:
        return _("Stopping. What is done is kept.")
    if now.finishing:
        return _("The model of what was learnt so far is being made.")
    if now.preparing is not None:
        return _("Preparing scan {n} of {total}.").format(
            n=min(now.preparing[0] + 1, now.preparing[1]), total=now.preparing[1]
        )
    return progress_sentence(now.progress) if now.progress is not None else ""
