"""All that the panel says, by keys that are the same in every language. What its buttons say is in the .ui file.

Texts are shown in the user's language where Slicer has a translation, else in English.
"""

from __future__ import annotations

from collections.abc import Mapping

try:
    from slicer.i18n import tr
except ImportError:  # another front end, or slicer-core, which has no translations

    def tr(text: str) -> str:
        """The text itself."""
        return text


def _(text: str) -> str:
    """Marks a text for the translators' tool; it is translated when it is shown."""
    return text


# A text, or two: for one thing, and for `n` of them.
MESSAGES: dict[str, str | tuple[str, str]] = {
    # What to do now, by `section_sentences.step`.
    "step load": _("Step 1: load the scans."),
    "step label": _("Step 2: select a scan to label, and press Label selected scan."),
    "step draw": _("Draw or correct the structures below the table, then press Done."),
    "step suggest": _("Step 3: press Suggest."),
    "step review": _("Step 4: press Next to review the results."),
    "step segment": _("Press Segment."),
    "step train": _("Press Train."),
    "step load more": _("Load more scans of the same kind."),
    "step done": _("All scans are labeled. Load more scans to segment them."),
    # Scans.
    "no scans": _("No scans yet. Load two or more scans of the same kind."),
    "roles": _("{train} for training, {segment} for segmentation."),
    "no label yet": _("No label yet: {scans}."),
    "another kind": _("Ignored as another kind of image: {scans}."),
    "several segmentations": _("Several segmentations; choose the label in the table: {scans}."),
    "status unlabeled": _("no label"),
    "status partly labeled": _("partly labeled"),
    "status labeled": _("labeled"),
    "status segmented": _("segmented"),
    "status corrected": _("accepted"),
    "status failed": _("failed"),
    "status waiting": _("waiting"),
    "status running": _("segmenting"),
    "status proposal": _("proposal"),
    "status doubtful": _("needs review"),
    "role train": _("Training"),
    "role segment": _("Segmentation"),
    "role leave out": _("Ignore"),
    "role tip": _("What to use this scan for. Select several rows to change all of them."),
    "label tip": _("Which of its segmentations is the label of this scan."),
    "join channels": _("Channels of one scan"),
    "separate channels": _("Separate the channels"),
    # Labels.
    "no structures": _("No structures yet. They appear here once you label a scan."),
    "all labeled": _("Every structure is labeled in every scan used for training."),
    "partly labeled": _(
        "{name} is not labeled in {scans}, so nothing is learned about it there. Label it, or leave it out on purpose."
    ),
    "empty structure": _("{name} is empty in {scan}."),
    "labeled in": (_("{count} of 1 scan"), _("{count} of {n} scans")),
    "checking labels": _("Checking the labels..."),
    "labels good": _("Label check: no problems found."),
    "part counts": _("Only the labeled part of {scan} counts"),
    "all counts": _("All of {scan} was labeled"),
    "part counts now": _("Nothing is learned where {scan} is not labeled."),
    "all counts now": _("What is not labeled in {scan} counts as background."),
    "unless button": _(", unless you press the button below."),
    "outside region": _(
        '{scan} lies outside "{region}"; move the region over it, or set Advanced > Region (ROI) to Entire scan.'
    ),
    "gone": _("{scan} is no longer in the scene; load it again and segment it."),
    "gone from training": _("{scan} is no longer in the scene; press Train again."),
    # Suggest.
    "suggest label": _("Label one scan; Suggest then proposes a segmentation of the others."),
    "suggest": (
        _("Proposes a segmentation of one scan and renews it as you label."),
        _("Proposes segmentations of {n} scans and renews them as you label."),
    ),
    "suggest write": _("Preparing {scan}."),
    "suggest fit": _("Learning from the labels."),
    "suggest segment": _("Working on {scan}: {done} of {total} proposals are ready."),
    "suggested": (
        _("The proposal is up to date. Use it as training label, or edit it."),
        _("All {n} proposals are up to date. Use one as training label, or edit it, and the others follow."),
    ),
    "nothing to suggest": _("No scan is left that needs a proposal."),
    "proposal name": _("{scan} proposal (GLMAE)"),
    # Review.
    "results": (
        _("One result to review: press Next."),
        _("{n} results to review. Next shows the one the model is least sure of."),
    ),
    "result": _("{scan}: result {number} of {total}"),
    "accepted": _("{scan} is used for training now. Review more results, or press Train."),
    "volumes": _("Volumes of the structures"),
    "volumes added": _('The volumes are in the new table "{name}" (module Tables).'),
    "show volumes": _("Show as a table"),
    "copy volumes": _("Copy as CSV"),
    # Train.
    "train nothing": _("Training needs a labeled scan."),
    "train": (_("1 scan, {length}"), _("{n} scans, {length}")),
    "train steps": _("{steps} steps"),
    "train region": _("inside {region}"),
    "train from": _('going on from "{model}"'),
    "start model": _('Goes on from the model "{name}"; clear this choice under Advanced to start anew.'),
    "start pretrained": _("Starts from the pre-trained backbone {name}."),
    "start scratch": _("Starts from scratch."),
    "start without": _("Starts from scratch (no pre-trained backbone is installed)."),
    "memory": _("Needs about {need:.1f} GB of memory."),
    "memory free": _("Needs about {need:.1f} GB of memory; {free:.1f} GB are free."),
    "unfinished": _("Unfinished: {title}"),
    "trained": _('The model "{name}" is ready. Press Segment.'),
    "paused": _("Training paused. Progress is saved; press Continue to resume."),
    "nothing learned": _("Stopped before anything was learned. Press Continue to resume."),
    "loss": _("loss {value:.2f}"),
    "preview name": _("{scan} preview"),
    "preview asked": _("Making a preview of {scan}..."),
    "preview": _("Preview on {scan} (step {step}). Removed when training ends."),
    "preview empty": _("Nothing found in {scan} yet (step {step})."),
    # A job under way.
    "disk of jobs": _("The disk with the models and jobs is full."),
    "job stopping": _("Stopping. Finished work is kept."),
    "job finishing": _("Finishing: making a model from what was learned so far."),
    "job preparing": _("Preparing scan {number} of {total}."),
    "stage ": _("Starting"),
    "stage measure": _("Reading the scans"),
    "stage prepare": _("Preparing the scans"),
    "stage finetune": _("Training"),
    "stage segment": _("Segmenting"),
    "stage check": _("Checking the labels"),
    "stage count": _("({done} of {total})"),
    "time left": _("{time} left"),
    "about": _("about {time}"),
    "seconds": _("{count} seconds"),
    "minutes": (_("1 minute"), _("{n} minutes")),
    "hours": _("{count:.1f} hours"),
    "and more": _("{names} and {count} more"),
    # Segment.
    "segment no model": _("There is no model yet. Train one above, or import one."),
    "segment choose": _("Choose a model."),
    "segment nothing": _("No scan is set to Segmentation in the table above."),
    "segment again": _("All scans already have a result from this model. Segmenting again adds a second one."),
    "segment": (_("Segments {scan}."), _("Segments {n} scans.")),
    "segment title": _("Segmenting with {model}"),
    "segment none": _("No scan can be segmented. The tool tip of each scan in the table says why."),
    "segmented": _("Segmented {done} of {total} scans."),
    "segment failed": _("{count} failed."),
    "segment canceled": _("{count} canceled."),
    "segment review": _("Press Next to review them."),
    "result unreadable": _("The result of {scan} cannot be read; segment it again."),
    "undo": (
        _("Remove the result of the last run: {names}?\nWhat you corrected or accepted stays."),
        _("Remove {n} results of the last run: {names}?\nWhat you corrected or accepted stays."),
    ),
    "discard": _('Remove the unfinished job "{title}" and all that it has done? This cannot be undone.'),
    "job taken": _('Another Slicer goes on with "{title}", or has removed it.'),
    "job damaged": _("The files of this job are damaged; discard it and start again."),
    # Models.
    "model": _("Model"),
    "models": _("Models"),
    "model import": _("Import..."),
    "model export": _("Export..."),
    "model rename": _("Rename..."),
    "model delete": _("Delete..."),
    "import title": _("Import a model"),
    "export title": _("Export the model"),
    "rename title": _("Rename the model"),
    "rename label": _("Name:"),
    "replace file": _("{file} exists. Replace it?"),
    "delete model": _('Delete the model "{name}" from this computer? This cannot be undone.'),
    "model imported": _('The model "{name}" is ready to segment with.'),
    "model exported": _('The model "{name}" was written to {file}.'),
    "model unnamed": _("A model needs a name; type one."),
    "model gone": _('There is no model "{name}".'),
    "model foreign": _("{file} holds no GLMAE model; choose a file made with Export."),
    "model too large": _("{file} is too large for a GLMAE model; choose another file."),
    "model damaged": _(
        "{file} is damaged, or is not an exported model; export it again and choose the file that ends with {ending}."
    ),
    "model absent": _("{file} does not exist; choose an exported model."),
    "all structures": _("All structures"),
    "score": _("Accuracy on held-out scans (Dice, 1 = perfect): {score}"),
    "not scored": _("Its accuracy was not measured; check its results."),
    "license": _("It started from weights under CC BY-SA 4.0: share it under the same license, and credit them."),
    "license from": _("It went on from an earlier model, whose license also applies to it."),
    "origin from": (
        _("Trained on 1 scan, going on from an earlier model."),
        _("Trained on {n} scans, going on from an earlier model."),
    ),
    "origin": (
        _("Trained on 1 scan, from the pre-trained backbone {name}."),
        _("Trained on {n} scans, from the pre-trained backbone {name}."),
    ),
    "origin scratch": (_("Trained on 1 scan, from scratch."), _("Trained on {n} scans, from scratch.")),
    # Set-up.
    "set-up": _("Set-up"),
    "set-up needed": _("Set-up needed"),
    "button install": _("Install"),
    "button repair": _("Repair"),
    "button update": _("Update"),
    "check set-up": _("Check my set-up"),
    "checking set-up": _("Checking..."),
    "engine install": _(
        "GLMAE computes in a Python of its own with PyTorch: about {download} to download, {disk} on the disk, in "
        "{folder}. Slicer itself is not changed."
    ),
    "engine repair": _("The engine's environment is incomplete. Repair installs what is missing and keeps the rest."),
    "engine update": _("GLMAE was tested with newer packages than those installed; Update installs them."),
    "engine mac": _(
        "GLMAE cannot run on this Mac: the last PyTorch for Intel processors is 2.2, and 2.8 is needed. Use a Mac with "
        "an Apple processor, or another computer."
    ),
    "engine choose": _("Choose the interpreter to compute with, under Advanced."),
    "engine lacks": _(
        "{python} cannot run the engine: {lacks}. Install it there, or set Advanced > Compute with to Own environment."
    ),
    "engine inspected": _("Checking what this Python has"),
    "remove engine": _("Remove the engine's environment ({installed}) from this computer? Models stay."),
    "slicer's python": _("Slicer's Python"),
    "engine's python": _("The engine's Python"),
    "choose interpreter": _("The Python interpreter to compute with"),
    "choose wheels": _("A folder of wheels"),
    "not started": _("{program} did not start ({reason})."),
    "python not started": _("it cannot be started ({reason})"),
    "python none": _("it is not a Python, or is too old"),
    "python old": _("it is Python {found}, {needed} or later is needed"),
    "installing": _("Installing ({ending})"),
    "install starting": _("Starting..."),
    "install stopping": _("Stopping..."),
    "install download": _("Downloading {package}: about {done} of {total} MB"),
    "install uv": _("Getting the installer (uv)"),
    "install python": _("Getting Python"),
    "install packages": _("Installing the packages"),
    "install check": _("Trying it on this computer; the first time takes minutes"),
    "install remove": _("Removing the engine's environment"),
    "space": _("{needed:.1f} GB are needed and {free:.1f} GB are free"),
    # Sample Data.
    "module": _("Few-Label Segmentation (GL-MAE)"),
    "samples labeled": _("Hippocampus: 2 labeled MR scans"),
    "samples unlabeled": _("Hippocampus: 4 MR scans without labels"),
}


def say(key: str, **values: object) -> str:
    """The message of a key in the user's language, with `values` in their places; `n` chooses between one and many."""
    text = MESSAGES[key]
    if isinstance(text, tuple):
        text = text[values.get("n") != 1]
    return tr(text).format(**values)


# Failures of jobs: name, cause, remedy. `{detail}` is what was said.
FAILURES: dict[str, tuple[str, str, str]] = {
    "package missing": (
        _("A Python package is missing"),
        _("The package {detail} is not installed."),
        _("Press Check my set-up under Advanced, then Repair."),
    ),
    "disk full": (
        _("No space on the disk"),
        "{detail}",
        _("Free some space and try again; for an unfinished training, press Continue."),
    ),
    "gpu memory": (
        _("Out of GPU memory"),
        "{detail}",
        _("Close other programs that use the graphics card, or set Advanced > Compute on to Processor (CPU)."),
    ),
    "memory": (
        _("Out of memory"),
        "{detail}",
        _("Close other programs, or limit the scans to a region: Advanced > Region (ROI)."),
    ),
    "gpu": (
        _("The GPU cannot be used"),
        _("The graphics card or its driver does not work with the installed PyTorch."),
        _("Set Advanced > Compute on to Processor (CPU), or update the driver."),
    ),
    "crashed": (
        _("The computation stopped unexpectedly"),
        _("Its exit code was {detail}."),
        _("Try again; if it happens again, press Copy log and report it."),
    ),
    "killed": (
        _("The computation was ended from outside"),
        _("The system does this when memory runs out."),
        _("Close other programs and try again; if it happens again, press Copy log and report it."),
    ),
    "not started": (
        _("The engine could not be started"),
        "{detail}",
        _("Press Check my set-up under Advanced, which finds what is damaged, then Repair."),
    ),
    "ScanError": (_("A scan cannot be used"), "{detail}", _("Load this scan again, or set it to Ignore in the table.")),
    "ModelError": (_("The model cannot be used"), "{detail}", _("Choose another model, or import it again.")),
    "RequestError": (_("This cannot be done as it is"), "{detail}", ""),
    "StorageError": (
        _("A result could not be written"),
        "{detail}",
        _("Look whether its folder is there, and whether you may write to it."),
    ),
    "Stopped": (_("Stopped"), "{detail}", ""),
    "failed": (_("The job failed"), "{detail}", _("If it happens again, press Copy log and report it.")),
}

_AGAIN = _("Press {button}; it goes on where it was.")
# Ends of an installation, by the name that the installer gives: what happened, and what to do. `{button}` is what the
# button then says: Install, or Repair where something is installed already.
ENDINGS: dict[str, tuple[str, str]] = {
    "installed": (_("Everything that GLMAE needs is installed."), ""),
    "removed": (_("The engine's environment was removed."), ""),
    "canceled": (_("The installation was canceled."), _AGAIN),
    "interrupted": (_("The installation was interrupted."), _AGAIN),
    "busy": (
        _("Another Slicer is installing or removing the engine's environment."),
        _("Wait until it is done; this panel then finds it."),
    ),
    "offline": (
        _("The package servers could not be reached."),
        _("Connect to the internet and press {button}, or install from a folder of wheels."),
    ),
    "proxy": (
        _("The package servers could not be reached through the proxy of this network."),
        _(
            "Ask for its address and certificate, set HTTPS_PROXY and SSL_CERT_FILE before Slicer starts, or install "
            "from a folder of wheels."
        ),
    ),
    "no space": (_("The disk is too small: {detail}."), _("Free some space, then press {button}.")),
    "wrong hash": (
        _("A downloaded package is not the one that GLMAE was tested with: {detail}"),
        _("Press {button}; if it fails again, the network or the folder of wheels changes packages."),
    ),
    "wheel missing": (
        _("The folder of wheels has no {detail} for this computer."),
        _("Fill the folder again with the command in the documentation, for this system."),
    ),
    "no PyTorch": (
        _("There is no PyTorch that is new enough for this computer."),
        _("On a Mac it needs an Apple processor and macOS 14 or later: update macOS, or use another computer."),
    ),
    "in use": (
        _("Files of the engine's environment are in use or protected: {detail}"),
        _("Close other Slicers, look at what the virus scanner reports, and press {button}."),
    ),
    "does not work": (
        _("All is installed, but it does not compute: {detail}"),
        _("Press {button}; if it fails again, press Check my set-up under Advanced, and report what it says."),
    ),
    "failed": (
        _("The installation failed: {detail}"),
        _("Press {button}; if it fails again, press Copy log and report it."),
    ),
}


def failure_texts(key: str, detail: str = "", table: Mapping[str, tuple[str, ...]] = FAILURES) -> list[str]:
    """The texts of a failure, or of another `table`, in the user's language."""
    return [tr(text).replace("{detail}", detail) if text else "" for text in table[key]]
