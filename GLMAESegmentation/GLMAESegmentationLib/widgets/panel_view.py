"""The panel on the screen: shows a `PanelState`, passes clicks on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import qt

from ..jobs.folder import SEGMENT, TRAIN
from ..messages import say
from ..panel import actions as action
from ..panel.panel import Panel
from ..panel.state import PanelState
from ..scene.choices import DEVICES, NORMAL, QUICK, THOROUGH
from .class_rows import ClassRows
from .drawing import Drawing
from .questions import ask_export, ask_import, ask_name
from .scan_rows import ScanRows
from .set_up_view import SetUpView
from .slicer_application import SlicerApplication
from .tables import show_fraction
from .training_curve import draw_curve

_BUDGETS = (QUICK, NORMAL, THOROUGH)  # in the order of the list in the .ui file
# A click on the button of such an action does it; the others have a question, a dialog or a menu before it.
_AT_ONCE = (
    *(action.SUGGEST, action.LABEL, action.CHECK_LABELS, action.STATE_PART, action.END_DRAWING),
    *(action.NEXT, action.PREVIOUS, action.ACCEPT, action.CORRECT),
    *(action.START_TRAINING, action.PREVIEW, action.PAUSE, action.STOP, action.CONTINUE, action.KEEP),
    *(action.START_SEGMENTING, action.CANCEL, action.CANCEL_SCAN, action.RETRY),
    *(action.INSTALL, action.CANCEL_INSTALL, action.CHECK_SET_UP),
)
_REMOVING = (action.UNDO, action.DISCARD)  # asked before they are done
_OTHERS = (action.COPY_LOG, action.COPY_REPORT, action.SURFACES, action.VOLUMES, action.REMOVE_ENGINE)


class PanelView:
    """Connects the widgets of the .ui file with a `Panel`.

    Args:
        ui: the widgets by name.
        panel: what they show.
        application: Slicer around the panel.
        acted: called after a click, so that a job that it began is followed.
    """

    def __init__(self, ui: Any, panel: Panel, application: SlicerApplication, acted: Callable[[], None]) -> None:
        self.ui, self.panel = ui, panel
        self._application, self._acted = application, acted
        self._shown: PanelState | None = None
        self._scans = ScanRows(ui.scanTable, self._choose_role, self._choose_label)
        self.drawing = Drawing(ui.drawSection, ui.editor)
        self._viewed = ("", "")  # the scan in the views, and its segmentation
        self.menu: dict[str, Any] = {}  # the entries of the buttons with a menu
        self._models: tuple[str, ...] = ()
        self._classes = ClassRows(ui.classTable, ui.findingsList)
        self._set_up = SetUpView(ui, application, self._do, lambda: self.panel.state)
        self._connect()
        self.show_choices()
        self.show()

    def show(self) -> None:
        """Show the panel's state; what has not changed is not touched."""
        state, before = self.panel.state, self._shown
        if state == before:
            return
        self._shown = state
        ui = self.ui
        for name in (*_AT_ONCE, *_REMOVING, *_OTHERS):
            _button(ui, name).enabled = name in state.enabled
        ui.nextStepLabel.text = state.next_step
        ui.nextStepLabel.visible = bool(state.next_step)
        ui.failureFrame.visible = state.failure is not None
        ui.failureLabel.text = "" if state.failure is None else state.failure.sentence
        self._set_up.show(state)
        ui.interruptedFrame.visible = bool(state.interrupted) and not state.running
        ui.interruptedLabel.text = say("unfinished", title="".join(state.interrupted[:1]))
        self._show_scans(state)
        self._show_classes(state)
        self._show_suggesting(state)
        self._show_training(state, before)
        self._show_segmenting(state)
        self._show_review(state)

    def show_choices(self) -> None:
        """Show what is stored in the scene: at first, and after another scene was loaded."""
        choices, ui = self.panel.choices, self.ui
        for widget, name, value in (
            (ui.budgetSelector, "currentIndex", _BUDGETS.index(choices.budget)),
            (ui.deviceSelector, "currentIndex", DEVICES.index(choices.device)),
            (ui.stepsSelector, "value", choices.steps),
            (ui.goOnBox, "checked", choices.go_on),
            (ui.pretrainedBox, "checked", choices.pretrained),
        ):
            widget.blockSignals(True)
            setattr(widget, name, value)
            widget.blockSignals(False)
        region = choices.region
        ui.regionSelector.setCurrentNodeID("" if region is None else region.GetID())

    def _show_scans(self, state: PanelState) -> None:
        self.ui.scansLabel.text = state.scans_sentence
        self._scans.show(state.scans, state.queue)
        self._scans.select(state.selected)
        scan = state.selected_scan
        viewed = (state.selected, state.drawing or (scan.shown_id if scan is not None else ""))
        if viewed != self._viewed:
            self._viewed = viewed
            if scan is not None:
                self._application.show_scan(*viewed)
        self.drawing.show(state.drawing, state.selected)
        self._show_channels()

    def _show_channels(self) -> None:
        """Several selected rows can become one; one of several channels can be taken apart."""
        several = len(self._scans.selected) > 1
        scan = self.panel.state.selected_scan
        self.ui.channelsButton.visible = several or (scan is not None and len(scan.channels) > 1)
        self.ui.channelsButton.text = say("join channels" if several else "separate channels")

    def _set_channels(self) -> None:
        chosen = self._scans.selected
        self.panel.set_channels(chosen, len(chosen) > 1)
        self.show()

    def _show_classes(self, state: PanelState) -> None:
        self.ui.classesLabel.text = state.classes_sentence
        self._classes.show(state.classes, state.findings)
        self.ui.findingsLabel.visible = bool(state.findings)
        self.ui.checkLabelsButton.visible = bool(state.classes) and state.running != TRAIN
        self.ui.statePartButton.visible = bool(state.part) and state.running != TRAIN
        self.ui.statePartButton.text = state.part

    def _show_suggesting(self, state: PanelState) -> None:
        ui = self.ui
        ui.suggestButton.checked = state.suggest.on
        ui.suggestLabel.text = state.suggest_sentence
        ui.suggestProgress.visible = bool(state.suggest.stage)
        if state.suggest.stage:
            show_fraction(ui.suggestProgress, state.suggest.fraction)

    def _show_training(self, state: PanelState, before: PanelState | None) -> None:
        ui, training = self.ui, state.running == TRAIN
        ui.trainLabel.text = state.train_sentence
        ui.trainLabel.toolTip = state.train_details
        ui.trainLabel.visible = bool(state.train_sentence) and not training
        idle, busy = (ui.trainButton, ui.budgetSelector), (ui.previewButton, ui.pauseButton, ui.stopButton)
        for widget in idle if training else busy:  # hidden first: with all of them the panel would grow wide
            widget.visible = False
        for widget in busy if training else idle:
            widget.visible = True
        ui.budgetSelector.enabled = not state.steps
        ui.pretrainedBox.enabled = bool(state.shipped)
        ui.trainProgress.visible = ui.trainProgressLabel.visible = training
        if training:
            warnings = state.progress.warnings if state.progress is not None else []
            show_fraction(ui.trainProgress, state.fraction)
            ui.trainProgressLabel.text = " ".join(
                filter(None, (state.progress_sentence, state.preview, *warnings[-1:]))
            )
        if state.preview_of and (before is None or before.preview_of != state.preview_of):
            self._application.show_scan(state.preview_scan, state.preview_of)
        ui.curveLabel.visible = len(state.loss) > 1
        if len(state.loss) > 1 and (before is None or before.loss != state.loss):
            draw_curve(ui.curveLabel, state.loss)
        lines = [f"{score.name}: {score.text}" for score in state.scores]
        ui.scoresLabel.visible = bool(lines or state.advice) and not training
        ui.scoresLabel.text = say("score", score=lines[0]) if lines else state.advice
        ui.scoresLabel.toolTip = "\n".join([*lines, state.advice])

    def _show_segmenting(self, state: PanelState) -> None:
        ui, segmenting = self.ui, state.running == SEGMENT
        if state.models != self._models or ui.modelSelector.currentText != state.model:
            ui.modelSelector.blockSignals(True)
            ui.modelSelector.clear()
            ui.modelSelector.addItems(list(state.models))
            ui.modelSelector.currentIndex = state.models.index(state.model) if state.model in state.models else -1
            ui.modelSelector.blockSignals(False)
            self._models = state.models
        ui.modelSelector.enabled = not state.running
        ui.segmentLabel.text = state.progress_sentence if segmenting else state.segment_sentence
        ui.segmentLabel.visible = bool(ui.segmentLabel.text)
        ui.segmentProgress.visible = segmenting
        if segmenting:
            show_fraction(ui.segmentProgress, state.fraction)
        ui.cancelButton.visible = segmenting
        ui.cancelScanButton.visible = segmenting and len(state.queue) > 1
        ui.segmentButton.visible = not segmenting
        for name in (action.RETRY, action.UNDO):
            _button(ui, name).visible = name in state.enabled
        for name in (action.IMPORT, action.EXPORT, action.RENAME, action.DELETE):
            self.menu[name].enabled = name in state.enabled

    def _show_review(self, state: PanelState) -> None:
        ui = self.ui
        ui.reviewSection.visible = action.VOLUMES in state.enabled
        ui.reviewLabel.text = state.review
        ui.reviewLabel.visible = bool(state.review)
        for name in (action.PREVIOUS, action.NEXT, action.ACCEPT, action.CORRECT):
            _button(ui, name).visible = any(scan.result_id for scan in state.scans)

    def _connect(self) -> None:
        ui = self.ui
        for name in _AT_ONCE:
            _button(ui, name).connect("clicked(bool)", self._doing(name))
        for name in _REMOVING:
            _button(ui, name).connect("clicked(bool)", self._removing(name))
        ui.loadButton.connect("clicked(bool)", lambda checked=False: self._load())
        ui.dicomButton.connect("clicked(bool)", lambda checked=False: self._application.open_dicom())
        ui.surfacesButton.connect("clicked(bool)", lambda checked=False: self._show_surfaces())
        self._add_menu(
            ui.modelButton,
            {
                action.IMPORT: (say("model import"), self._import_model),
                action.EXPORT: (say("model export"), self._export_model),
                action.RENAME: (say("model rename"), self._rename_model),
                action.DELETE: (say("model delete"), self._removing(action.DELETE)),
            },
        )
        self._add_menu(
            ui.volumesButton,
            {
                action.VOLUMES: (say("show volumes"), self._doing(action.VOLUMES)),
                "copy volumes": (say("copy volumes"), lambda: self._application.copy(self.panel.volumes_as_csv())),
            },
        )
        ui.copyLogButton.connect("clicked(bool)", lambda checked=False: self._application.copy(self.panel.log))
        ui.scanTable.connect("itemSelectionChanged()", self._select)
        ui.scanTable.connect("cellClicked(int,int)", lambda row, column: self._view_again())
        ui.channelsButton.connect("clicked(bool)", lambda checked=False: self._set_channels())
        ui.findingsList.connect("currentRowChanged(int)", self._select_finding)
        ui.findingsList.connect(  # a second time on the same line
            "itemClicked(QListWidgetItem*)", lambda item: self._select_finding(ui.findingsList.currentRow)
        )
        ui.modelSelector.connect("currentIndexChanged(int)", self._choose_model)
        ui.budgetSelector.connect("currentIndexChanged(int)", lambda index: self._choose("budget", _BUDGETS[index]))
        ui.deviceSelector.connect("currentIndexChanged(int)", lambda index: self._choose("device", DEVICES[index]))
        ui.stepsSelector.connect("valueChanged(int)", lambda value: self._choose("steps", value))
        ui.goOnBox.connect("toggled(bool)", lambda checked: self._choose("go_on", checked))
        ui.pretrainedBox.connect("toggled(bool)", lambda checked: self._choose("pretrained", checked))
        ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.panel.place_region)
        ui.regionSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._choose("region", node))

    def _add_menu(self, button: Any, entries: dict[str, tuple[str, Callable[..., None]]]) -> None:
        menu = qt.QMenu(button)
        for name, (text, do) in entries.items():
            self.menu[name] = menu.addAction(text)
            self.menu[name].connect("triggered(bool)", lambda checked=False, do=do: do())
        button.setMenu(menu)

    def _doing(self, wanted: str) -> Callable[..., None]:
        return lambda checked=False: self._do(wanted)

    def _removing(self, wanted: str) -> Callable[..., None]:
        def ask(checked: bool = False) -> None:
            question, about = self.panel.question(wanted)
            if self._application.confirm(question):
                self._do(wanted, about)

        return ask

    def _do(self, wanted: str, value: Any = None) -> None:
        self.panel.do(wanted, value)
        self.show()
        self._acted()

    def _refresh(self) -> None:
        self.panel.refresh()
        self.show()

    def _choose(self, name: str, value: Any) -> None:
        setattr(self.panel.choices, name, value)
        self._refresh()

    def _choose_role(self, volume_ids: list[str], role: str) -> None:
        for volume_id in volume_ids:
            self.panel.choices.set_role(volume_id, role)
        self._refresh()

    def _choose_label(self, volume_id: str, segmentation_id: str) -> None:
        self.panel.choose_label(volume_id, segmentation_id)
        self.show()

    def _choose_model(self, index: int) -> None:
        if 0 <= index < len(self._models):
            self._choose("model", self._models[index])

    def _select(self) -> None:
        row, chosen = self.ui.scanTable.currentRow(), self._scans.selected
        self._show_channels()
        current = self._scans.ids[row] if 0 <= row < len(self._scans.ids) else ""
        self._select_volume(current if current in chosen else "".join(chosen[:1]))

    def _view_again(self) -> None:
        """A click on the scan that is selected already: the views may show something else by now."""
        if self.panel.state.selected_scan is not None:
            self._application.show_scan(*self._viewed)

    def _select_finding(self, row: int) -> None:
        if 0 <= row < len(self.panel.state.findings):
            self._select_volume(self.panel.state.findings[row].volume_id)

    def _select_volume(self, volume_id: str) -> None:
        if volume_id != self.panel.selected:
            self.panel.selected = volume_id
            self._refresh()

    def _load(self) -> None:
        self._application.load_scans()
        self._refresh()

    def _show_surfaces(self) -> None:
        scan = next(scan for scan in self.panel.state.scans if scan.volume_id == self.panel.selected)
        self._application.show_surfaces(scan.shown_id)

    def _import_model(self) -> None:
        file = ask_import()
        if file:
            self._do(action.IMPORT, file)

    def _export_model(self) -> None:
        model = self.panel.state.model
        file = ask_export(model)
        if file:
            self._do(action.EXPORT, (model, file))

    def _rename_model(self) -> None:
        model = self.panel.state.model
        name = ask_name(model)
        if name and name != model:
            self._do(action.RENAME, (model, name))


def _button(ui: Any, name: str) -> Any:
    """The button of an action is named after it: "check set-up" has `checkSetUpButton`."""
    first, *others = re.split("[ -]", name)
    return getattr(ui, first + "".join(map(str.capitalize, others)) + "Button")
