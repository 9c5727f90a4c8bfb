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
from ..scene.class_overview import drawn_classes
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
from .questions import question_before
from .review import Review
from .sentences import listed
from .state import PanelState, Parts


class Panel:
    """One panel on one scene.

    Args:
        scene: the vtkMRMLScene.
        parameter_node: gives the module's parameter node; asked each time, because closing a scene replaces it.
        folder: for models and jobs, outside of any scene; made when needed.
        start: starts a process. Raises OSError if it cannot.
        environment: folder of the engine's own Python; None: in `folder`.
    """

    def __init__(
        self,
        scene: Any,
        parameter_node: Callable[[], Any],
        folder: Path,
        start: Callable[[EngineCommand], EngineProcess],
        environment: Path | None = None,
    ) -> None:
        self.scene = scene
        self.library = ModelLibrary(Path(folder) / "models")
        self.jobs = Path(folder) / "jobs"
        self.selected = ""
        self.state = PanelState()
        self._parameter_node = parameter_node
        self._drawing = ("", "")  # IDs of the segmentation that is open for drawing and of its volume
        self._set_up = SetUp(start, environment or Path(folder) / "engine", Path(folder) / "engine.json")
        start = self._set_up.start
        self._job = CurrentJob(scene, self.jobs, self.library, start, self._trained)
        self._labels = LabelCheck(scene, self.jobs, start)
        self._suggestions = Suggestions(scene, self.jobs, start)
        self._improved = False  # a training has ended, whose model is to replace the proposals
        self._counts, self._aliases = OnceAChange(voxel_counts), Aliases()
        self._review = Review(scene, lambda: self.choices)
        self._failure: Failure | None = None
        self._note = ""
        self._interrupted = InterruptedJobs(self.jobs, self.library)
        self._model = ChosenModel(self.library, lambda: self.choices)
        self._actions: dict[str, Callable[[Any], str | None]] = {  # they may give a sentence to show
            action.SUGGEST: lambda value: self._suggestions.toggle(self.choices),
            action.LABEL: self._label,
            action.START_TRAINING: self._train,
            action.CHECK_LABELS: lambda value: self._labels.begin(training_scans(self.state.scans), self.choices),
            action.STATE_PART: lambda value: state_part(self.scene, self._scan(None)),
            action.PREVIEW: self._preview,
            action.PAUSE: lambda value: self._job.stop(),
            action.STOP: lambda value: self._job.stop(keep=True),
            action.CONTINUE: lambda value: self._job.resume(self._interrupted.take()),
            action.KEEP: lambda value: self._job.resume(self._interrupted.take(), finish=True),
            action.DISCARD: self._interrupted.discard,
            action.START_SEGMENTING: self._segment,
            action.CANCEL: lambda value: self._job.stop(),
            action.CANCEL_SCAN: lambda value: self._job.cancel(self.selected),
            action.RETRY: self._retry,
            action.UNDO: self._undo,
            action.ACCEPT: self._accept,
            action.CORRECT: lambda value: self._draw(self._scan(value).result_id, self._scan(value).volume_id),
            action.END_DRAWING: lambda value: self._draw("", ""),
            action.NEXT: lambda value: self._step(1),
            action.PREVIOUS: lambda value: self._step(-1),
            action.VOLUMES: self._volumes,
            action.IMPORT: self._model.import_file,
            action.EXPORT: self._model.export,
            action.RENAME: self._model.rename,
            action.DELETE: self._model.delete,
            action.INSTALL: self._set_up.install,
            action.CANCEL_INSTALL: self._set_up.cancel,
            action.REMOVE_ENGINE: self._set_up.remove,
            action.CHOOSE_ENGINE: self._set_up.choose,
            action.CHECK_SET_UP: self._set_up.check,
        }
        self.refresh()

    @property
    def choices(self) -> PanelChoices:
        """What the user chose, in the scene as it is now."""
        return PanelChoices(self._parameter_node())

    @property
    def log(self) -> str:
        """The whole log of the job under way or the last one, or of a failed installation; scans have aliases in it."""
        failed = [part.log for part in (self._set_up, self._job, self._suggestions) if part.failure is not None]
        return self._aliases.hide([*failed, self._job.log][0])

    @property
    def busy(self) -> bool:
        """Whether a job is under way, or the engine's Python is being installed."""
        return self._job.folder is not None or self._set_up.installing

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
        self._note, self._failure = "", None
        self._set_up.clear()
        self._job.note, self._job.failure, self._suggestions.failure = "", None, None
        try:
            if name in action.HEAVY:
                self._labels.leave()
            if name in action.OF_THE_ENGINE:
                self._suggestions.leave()
            self._note = self._actions[name](value) or ""
        except (GLMAEError, OSError) as error:
            self._failure = failure_of_error(error)
        self.refresh()

    def question(self, name: str) -> tuple[str, Any]:
        """What to ask before UNDO, DISCARD or DELETE, and what the question is about, to be given to `do`."""
        undoable = self._review.removable(self._job.segmentation.results)
        return question_before(name, undoable, self._interrupted.newest, self.state.model)

    def tick(self, watched: bool = True) -> None:
        """Move on by one small piece. Called several times a second while a job is under way, else once a second.

        Args:
            watched: whether the panel is on the screen and nothing is being drawn; else labels are left alone.
        """
        if self.busy:
            self._job.segmentation.drawn = self._drawing[0]
            self._job.tick()
            if not self.busy:
                self._interrupted.look(self._own, at_once=True)
                self._improve()
        looking = watched and (self._suggestions.on or not self.busy)
        if looking and not self._review.look(self._counts) and self.state.can_compute and not self.at_work:
            self._labels.look(training_scans(self.state.scans), self.choices)
        if self._suggestions.on:
            self.refresh()  # what was corrected is a label now
            self._suggestions.tick(self.state.scans, self.choices, self.selected, self._drawing[0], watched)
        self._set_up.tick()
        self.refresh()

    def refresh(self) -> PanelState:
        """Decide anew what to show, from the scene and the job as they are now."""
        self._interrupted.look(self._own)
        choices = self.choices
        self._model.read()
        cases = find_cases(self.scene, choices.labels, choices.channels)
        scans = scan_table(
            cases, choices, self._counts, {**self._suggestions.failures, **self._job.segmentation.failures}
        )
        self._aliases.see(scan.name for scan in scans)
        if self.selected not in {scan.volume_id for scan in scans}:
            self.selected = ""
        if self._drawing[1] != self.selected or (self._drawing[0] and not self.scene.GetNodeByID(self._drawing[0])):
            self._drawing = ("", "")
        training = training_scans(scans)
        parts = Parts(
            choices=choices,
            library=self.library,
            job=self._job,
            labels=self._labels,
            suggestions=self._suggestions,
            set_up=self._set_up,
            model=self._model,
            interrupted=self._interrupted,
            scans=tuple(scans),
            classes=tuple(drawn_classes(training, self.scene)),
            checked=self._labels.holds(training, choices),
            results=len(self._review.left(self._job.segmentation.results)),
            selected=self.selected,
            drawing=self._drawing[0],
            failure=self._failure,
            note=self._note,
        )
        self.state = PanelState.of(parts)
        return self.state

    def volumes_as_csv(self) -> str:
        """The volumes of all structures, to be pasted into a spreadsheet."""
        return as_csv(volume_rows(self.state.scans, self.scene))

    def choose_label(self, volume_id: str, segmentation_id: str) -> None:
        """Where a scan has several segmentations, train on this one."""
        self.choices.choose_label(segmentation_id, [node for node, _name in self._scan(volume_id).candidates])
        self.refresh()

    def set_channels(self, volume_ids: Sequence[str], together: bool) -> None:
        """Make scans the channels of one scan, or the channels of a scan scans of their own again."""
        volumes = [volume for scan in self.state.scans if scan.volume_id in volume_ids for volume in scan.channels]
        self.choices.set_channels(volumes, together)
        self.refresh()

    def place_region(self, region: Any) -> None:
        """Put a new region of interest around the selected scan, else around the first; without a scan it stays."""
        scan = self.selected or next((scan.volume_id for scan in self.state.scans), "")
        volume = self.scene.GetNodeByID(scan) if scan else None
        if volume is not None:
            put_around(region, volume)

    def packages_changed(self) -> None:
        """Look again what is installed: the user comes to the panel."""
        self._set_up.look()
        self.refresh()

    def scene_closed(self) -> None:
        """The scene was closed: what spoke of its nodes is gone."""
        self._job.scene_closed()
        self._labels.leave()
        self._suggestions.leave()
        self._suggestions.failure = None
        self.selected, self._note, self._failure, self._drawing = "", "", None, ("", "")
        self.refresh()

    def leave(self) -> None:
        """Slicer quits or the module is reloaded: a running job is stopped and offered again the next time."""
        self._job.leave()
        self._labels.leave()
        self._suggestions.leave()
        self._set_up.leave()

    # Clicks

    def _train(self, value: Any) -> None:
        title = self.library.free_name(listed([row.name for row in self.state.classes], most=3))
        self._job.train(training_scans(self.state.scans), self.choices, title, self.state.start)

    def _segment(self, value: Any) -> None:
        self._review.adopt_corrected()
        self.refresh()
        self._job.segment(scans_to_segment(self.state.scans, self.state.model), self.choices)

    def _retry(self, value: Any) -> None:
        again = {scan.volume_id for scan in self._job.segmentation.queue.with_state("failed", "canceled")}
        self._job.segment([scan for scan in self.state.scans if scan.volume_id in again], self.choices)

    def _preview(self, value: Any) -> None:
        scan = scan_to_preview(self.state.scans, value or self.selected)
        self._job.ask_for_preview(scan, self.choices.region)

    def _undo(self, identifiers: Sequence[str]) -> None:
        self._review.remove(self._job.segmentation.results, identifiers)
        self._job.segmentation.forget()

    def _accept(self, value: Any) -> str:
        scan = self._scan(value)
        self.selected = self._review.accept(self.state.scans, scan)
        return say("accepted", scan=scan.name)

    def _draw(self, segmentation_id: str, volume_id: str) -> None:
        self._drawing = segmentation_id, volume_id

    def _step(self, by: int) -> None:
        self.selected = self._review.step(self.state.scans, self.selected, by)

    def _volumes(self, value: Any) -> str:
        table = add_table(volume_rows(self.state.scans, self.scene), self.scene, say("volumes"))
        return say("volumes added", name=table.GetName())

    def _label(self, value: Any) -> None:
        scan = self._scan(value)
        volume = self.scene.GetNodeByID(scan.volume_id)
        drawn = self.scene.GetNodeByID(scan.segmentation_id) if scan.segmentation_id else None
        self._draw(segmentation_to_draw(volume, drawn, self._structures).GetID(), scan.volume_id)

    # What the scene and the disk say

    def _trained(self, name: str) -> None:
        self._model.choose(name)
        self._improved = self._suggestions.on

    def _improve(self) -> None:
        """After a training beside Suggest: the results of its model replace the proposals."""
        improved, self._improved = self._improved, False
        targets = scans_to_propose(self.refresh().scans)
        if improved and targets:
            try:
                self._job.segment(targets, self.choices)
            except GLMAEError as error:
                self._failure = failure_of_error(error)

    @property
    def _own(self) -> tuple[JobFolder | None, ...]:
        return self._job.folder, self._labels.folder, self._suggestions.folder

    @property
    def _structures(self) -> ClassTable:
        """To draw: those of the scans to train on, and of the chosen model."""
        nodes = [self.scene.GetNodeByID(scan.segmentation_id) for scan in training_scans(self.state.scans)]
        return merge([*map(class_table, nodes), *self._model.classes])

    def _scan(self, volume_id: str | None) -> Scan:
        wanted = volume_id or self.selected
        return next(scan for scan in self.state.scans if scan.volume_id == wanted)
