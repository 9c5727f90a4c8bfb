"""The panel without its widgets: what each click does, and what is shown after it.

A front end makes one `Panel`, calls `do` for clicks and `tick` several times a second, and shows `state`. Nothing here
waits: scans are written and results are read one at a time, one a tick, so that the front end stays responsive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError
from glmae.scans.classes import ClassTable, merge

from ..engine.command import EngineCommand
from ..engine.failures import Failure, failure_of_error
from ..engine.process import EngineProcess
from ..jobs.current import CurrentJob
from ..jobs.folder import JobFolder
from ..jobs.interrupted import InterruptedJobs
from ..jobs.label_check import LabelCheck
from ..jobs.suggestions import Suggestions
from ..messages import say
from ..models.chosen import ChosenModel
from ..models.library import ModelLibrary
from ..scene.choices import PanelChoices
from ..scene.class_overview import ClassRow, drawn_classes
from ..scene.labeling import segmentation_to_draw, state_part
from ..scene.region_box import put_around
from ..scene.scan_choice import scan_to_preview, scans_to_propose, scans_to_segment, training_scans
from ..scene.scan_table import Scan, scan_table
from ..scene.scene_cases import find_cases
from ..scene.segment_classes import class_table
from ..scene.segment_voxels import OnceAChange, voxel_counts
from ..scene.volume_table import add_table, as_csv, volume_rows
from ..setup.set_up import SetUp
from . import actions as action
from .aliases import Aliases
from .review import Review
from .sentences import listed
from .state import PanelState


class Panel:
    """One panel on one scene.

    Args:
        scene: the vtkMRMLScene.
        parameter_node: gives the module's parameter node; asked each time, because closing a scene replaces it.
        folder: for models and jobs, outside of any scene; made when needed.
        start: starts a process. Raises OSError if it cannot.
        environment: folder of the engine's own Python; None: in `folder`.

    Attributes:
        state: what is shown, as of the last `refresh`.
        scans: of the scene.
        classes: of the scans to train on.
        checked: whether the labels were checked as they are now.
        selected: ID of the volume of the scan that is selected in the table; "" for none.
        drawing: IDs of the segmentation that is open for drawing, and of its volume; "" for none.
        failure: of the last click; None for nothing.
        note: what the last click did, in a sentence.
    """

    def __init__(
        self,
        scene: Any,
        parameter_node: Callable[[], Any],
        folder: Path,
        start: Callable[[EngineCommand], EngineProcess],
        environment: Path | None = None,
    ) -> None:
        self.scene, self._parameter_node = scene, parameter_node
        self.library, self.jobs = ModelLibrary(Path(folder) / "models"), Path(folder) / "jobs"
        self.set_up = SetUp(start, environment or Path(folder) / "engine", Path(folder) / "engine.json")
        start = self.set_up.start
        self.job = CurrentJob(scene, self.jobs, self.library, start, self._trained)
        self.labels, self.suggestions = LabelCheck(scene, self.jobs, start), Suggestions(scene, self.jobs, start)
        self.interrupted = InterruptedJobs(self.jobs, self.library)
        self.model = ChosenModel(self.library, lambda: self.choices)
        self.review = Review(scene, lambda: self.choices)
        self.scans: tuple[Scan, ...] = ()
        self.classes: tuple[ClassRow, ...] = ()
        self.checked = False
        self.selected, self.drawing = "", ("", "")
        self.failure: Failure | None = None
        self.note = ""
        self.state = PanelState()
        self._improved = False  # a training has ended, whose model is to replace the proposals
        self._counts, self._aliases = OnceAChange(voxel_counts), Aliases()
        self._actions: dict[str, Callable[[Any], str | None]] = {  # they may give a sentence to show
            action.SUGGEST: lambda value: self.suggestions.toggle(self.choices),
            action.LABEL: self._label,
            action.START_TRAINING: self._train,
            action.CHECK_LABELS: lambda value: self.labels.begin(training_scans(self.scans), self.choices),
            action.STATE_PART: lambda value: state_part(self.scene, self._scan(None)),
            action.PREVIEW: lambda value: self.job.ask_for_preview(
                scan_to_preview(self.scans, value or self.selected), self.choices.region
            ),
            action.PAUSE: lambda value: self.job.stop(),
            action.STOP: lambda value: self.job.stop(keep=True),
            action.CONTINUE: lambda value: self.job.resume(self.interrupted.take()),
            action.KEEP: lambda value: self.job.resume(self.interrupted.take(), finish=True),
            action.DISCARD: self.interrupted.discard,
            action.START_SEGMENTING: self._segment,
            action.CANCEL: lambda value: self.job.stop(),
            action.CANCEL_SCAN: lambda value: self.job.cancel(self.selected),
            action.RETRY: self._retry,
            action.UNDO: self._undo,
            action.ACCEPT: self._accept,
            action.CORRECT: lambda value: self._draw(self._scan(value).result_id, self._scan(value).volume_id),
            action.END_DRAWING: lambda value: self._draw("", ""),
            action.NEXT: lambda value: self._step(1),
            action.PREVIOUS: lambda value: self._step(-1),
            action.VOLUMES: self._volumes,
            action.IMPORT: self.model.import_file,
            action.EXPORT: self.model.export,
            action.RENAME: self.model.rename,
            action.DELETE: self.model.delete,
            action.INSTALL: self.set_up.install,
            action.CANCEL_INSTALL: self.set_up.cancel,
            action.REMOVE_ENGINE: self.set_up.remove,
            action.CHOOSE_ENGINE: self.set_up.choose,
            action.CHECK_SET_UP: self.set_up.check,
        }
        self.refresh()

    @property
    def choices(self) -> PanelChoices:
        """What the user chose, in the scene as it is now."""
        return PanelChoices(self._parameter_node())

    @property
    def log(self) -> str:
        """The whole log of the job under way or the last one, or of a failed installation; scans have aliases in it."""
        failed = [part.log for part in (self.set_up, self.job, self.suggestions) if part.failure is not None]
        return self._aliases.hide([*failed, self.job.log][0])

    @property
    def busy(self) -> bool:
        """Whether a job is under way, or the engine's Python is being installed."""
        return self.job.folder is not None or self.set_up.installing

    @property
    def at_work(self) -> bool:
        """Whether something is under way that has to be followed: a job, a proposal or an installation."""
        return self.busy or bool(self.state.engine.working) or bool(self.state.suggest.stage)

    def do(self, name: str, value: Any = None) -> None:
        """Carry out an action of `panel.actions`; one that makes no sense now does nothing.

        Args:
            name: of the action.
            value: ACCEPT, CORRECT, LABEL, CANCEL_SCAN: the ID of a volume instead of the selected one; IMPORT: a path;
                EXPORT, RENAME: the name of a model, and a path or its new name; UNDO, DISCARD, DELETE: what
                `question` gave; None: what it would give now; INSTALL: a folder of wheels, or None; CHOOSE_ENGINE: the
                kind of Python, and the path of another interpreter.
        """
        if name in (action.LABEL, action.ACCEPT, action.CORRECT, action.CANCEL_SCAN) and value is not None:
            self.selected = value
        self.refresh()
        if name not in self.state.enabled:
            return
        if value is None and name in (action.UNDO, action.DISCARD, action.DELETE):  # a script asks nobody
            value = self.question(name)[1]
        self.note, self.failure = "", None
        self.set_up.clear()
        self.job.note, self.job.failure, self.suggestions.failure = "", None, None
        try:
            if name in action.HEAVY:
                self.labels.leave()
            if name in action.OF_THE_ENGINE:
                self.suggestions.leave()
            self.note = self._actions[name](value) or ""
        except (GLMAEError, OSError) as error:
            self.failure = failure_of_error(error)
        self.refresh()

    def question(self, name: str) -> tuple[str, Any]:
        """What to ask before UNDO, DISCARD or DELETE, and what the question is about, to be given to `do`."""
        if name == action.UNDO:
            nodes = self.review.removable(self.job.segmentation.results)
            names = listed([node.GetName() for node in nodes])
            return say("undo", n=len(nodes), names=names), [node.GetID() for node in nodes]
        if name == action.DISCARD:
            job = self.interrupted.newest
            return say("discard", title=job.record.title), job.folder
        return say("delete model", name=self.state.model), self.state.model

    def tick(self, watched: bool = True) -> None:
        """Move on by one small piece. Called several times a second while a job is under way, else once a second.

        Args:
            watched: whether the panel is on the screen and nothing is being drawn; else labels are left alone.
        """
        if self.busy:
            self.job.segmentation.drawn = self.drawing[0]
            self.job.tick()
            if not self.busy:
                self.interrupted.look(self._own, at_once=True)
                self._improve()
        looking = watched and (self.suggestions.on or not self.busy)
        if looking and not self.review.look(self._counts) and self.state.can_compute and not self.at_work:
            self.labels.look(training_scans(self.scans), self.choices)
        if self.suggestions.on:
            self.refresh()  # what was corrected is a label now
            self.suggestions.tick(self.scans, self.choices, self.selected, self.drawing[0], watched)
        self.set_up.tick()
        self.refresh()

    def refresh(self) -> PanelState:
        """Decide anew what to show, from the scene and the job as they are now."""
        self.interrupted.look(self._own)
        choices = self.choices
        self.model.read()
        cases = find_cases(self.scene, choices.labels, choices.channels)
        failures = {**self.suggestions.failures, **self.job.segmentation.failures}
        self.scans = tuple(scan_table(cases, choices, self._counts, failures))
        self._aliases.see(scan.name for scan in self.scans)
        if self.selected not in {scan.volume_id for scan in self.scans}:
            self.selected = ""
        if self.drawing[1] != self.selected or (self.drawing[0] and not self.scene.GetNodeByID(self.drawing[0])):
            self.drawing = ("", "")
        training = training_scans(self.scans)
        self.classes = tuple(drawn_classes(training, self.scene))
        self.checked = self.labels.holds(training, choices)
        self.state = PanelState.of(self)
        return self.state

    def volumes_as_csv(self) -> str:
        """The volumes of all structures, to be pasted into a spreadsheet."""
        return as_csv(volume_rows(self.scans, self.scene))

    def choose_label(self, volume_id: str, segmentation_id: str) -> None:
        """Where a scan has several segmentations, train on this one."""
        self.choices.choose_label(segmentation_id, [node for node, _name in self._scan(volume_id).candidates])
        self.refresh()

    def set_channels(self, volume_ids: Sequence[str], together: bool) -> None:
        """Make scans the channels of one scan, or the channels of a scan scans of their own again."""
        volumes = [volume for scan in self.scans if scan.volume_id in volume_ids for volume in scan.channels]
        self.choices.set_channels(volumes, together)
        self.refresh()

    def place_region(self, region: Any) -> None:
        """Put a new region of interest around the selected scan, else around the first; without a scan it stays."""
        scan = self.selected or next((scan.volume_id for scan in self.scans), "")
        volume = self.scene.GetNodeByID(scan) if scan else None
        if volume is not None:
            put_around(region, volume)

    def packages_changed(self) -> None:
        """Look again what is installed: the user comes to the panel."""
        self.set_up.look()
        self.refresh()

    def scene_closed(self) -> None:
        """The scene was closed: what spoke of its nodes is gone."""
        self.job.scene_closed()
        self.labels.leave()
        self.suggestions.leave()
        self.suggestions.failure = None
        self.selected, self.note, self.failure, self.drawing = "", "", None, ("", "")
        self.refresh()

    def leave(self) -> None:
        """Slicer quits or the module is reloaded: a running job is stopped and offered again the next time."""
        self.job.leave()
        self.labels.leave()
        self.suggestions.leave()
        self.set_up.leave()

    # Clicks

    def _train(self, value: Any) -> None:
        title = self.library.free_name(listed([row.name for row in self.state.classes], most=3))
        self.job.train(training_scans(self.scans), self.choices, title, self.state.start)

    def _segment(self, value: Any) -> None:
        self.review.adopt_corrected()
        self.refresh()
        self.job.segment(scans_to_segment(self.scans, self.state.model), self.choices)

    def _retry(self, value: Any) -> None:
        again = {scan.volume_id for scan in self.job.segmentation.queue.with_state("failed", "canceled")}
        self.job.segment([scan for scan in self.scans if scan.volume_id in again], self.choices)

    def _undo(self, identifiers: Sequence[str]) -> None:
        self.review.remove(self.job.segmentation.results, identifiers)
        self.job.segmentation.forget()

    def _accept(self, value: Any) -> str:
        scan = self._scan(value)
        self.selected = self.review.accept(self.scans, scan)
        return say("accepted", scan=scan.name)

    def _draw(self, segmentation_id: str, volume_id: str) -> None:
        self.drawing = segmentation_id, volume_id

    def _step(self, by: int) -> None:
        self.selected = self.review.step(self.scans, self.selected, by)

    def _volumes(self, value: Any) -> str:
        table = add_table(volume_rows(self.scans, self.scene), self.scene, say("volumes"))
        return say("volumes added", name=table.GetName())

    def _label(self, value: Any) -> None:
        scan = self._scan(value)
        volume = self.scene.GetNodeByID(scan.volume_id)
        drawn = self.scene.GetNodeByID(scan.segmentation_id) if scan.segmentation_id else None
        self._draw(segmentation_to_draw(volume, drawn, self._structures).GetID(), scan.volume_id)

    # What the scene and the disk say

    def _trained(self, name: str) -> None:
        self.model.choose(name)
        self._improved = self.suggestions.on

    def _improve(self) -> None:
        """After a training beside Suggest: the results of its model replace the proposals."""
        improved, self._improved = self._improved, False
        targets = scans_to_propose(self.refresh().scans)
        if improved and targets:
            try:
                self.job.segment(targets, self.choices)
            except GLMAEError as error:
                self.failure = failure_of_error(error)

    @property
    def _own(self) -> tuple[JobFolder | None, ...]:
        return self.job.folder, self.labels.folder, self.suggestions.folder

    @property
    def _structures(self) -> ClassTable:
        """To draw: those of the scans to train on, and of the chosen model."""
        nodes = [self.scene.GetNodeByID(scan.segmentation_id) for scan in training_scans(self.scans)]
        return merge([*map(class_table, nodes), *self.model.classes])

    def _scan(self, volume_id: str | None) -> Scan:
        wanted = volume_id or self.selected
        return next(scan for scan in self.scans if scan.volume_id == wanted)
