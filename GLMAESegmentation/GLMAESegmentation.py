"""The Slicer module: learns to segment from a few labeled scans and segments others.

Only what Slicer needs to know about the module is here; the work is done in `GLMAESegmentationLib`.
"""

# ruff: noqa: PT009, PT027 (the test runs inside Slicer, which has unittest and no pytest)

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if TYPE_CHECKING:
    from GLMAESegmentationLib.jobs.case_folder import CaseFolder
    from GLMAESegmentationLib.panel.panel import Panel


class GLMAESegmentation(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Few-Label Segmentation (GL-MAE)")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["SlicerGLMAE contributors (SlicerGLMAE)"]
        self.parent.helpText = _(
            "Label one scan, and the others get a proposal; correct some, and the proposals get better. All on this "
            'computer. See the <a href="{url}">documentation</a>. Not a medical device: check every result.'
        ).format(url="https://github.com/SlicerGLMAE/SlicerGLMAE")
        self.parent.acknowledgementText = _(
            "The method is the Global-Local Masked Autoencoder (GL-MAE). The sample scans are part of the Medical "
            "Segmentation Decathlon (CC BY-SA 4.0). The pre-trained weights are licensed under CC BY-SA 4.0: whoever "
            "shares a model that was trained from them names them and shares it under the same license."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the bundled scans in the Sample Data module, when all modules are there."""
    from GLMAESegmentationLib.scene.sample_data import register_sample_data

    register_sample_data()


class GLMAESegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Puts the panel of Resources/UI/GLMAESegmentation.ui on the screen and keeps it moving."""

    # How often the panel looks for news, in milliseconds: while a job is under way, and else.
    BUSY_INTERVAL = 100
    IDLE_INTERVAL = 1000

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = GLMAESegmentationLogic()
        self.ui: Any = None
        self.panel: Any = None
        self.view: Any = None
        self.timer: Any = None
        self.root: Any = None

    def setup(self) -> None:
        """Called once, when the module is opened for the first time."""
        import qt

        from GLMAESegmentationLib.widgets.panel_view import PanelView
        from GLMAESegmentationLib.widgets.slicer_application import SlicerApplication

        ScriptedLoadableModuleWidget.setup(self)
        self.root = slicer.util.loadUI(self.resourcePath("UI/GLMAESegmentation.ui"))
        self.layout.addWidget(self.root)
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self.ui.exportButton.connect("clicked(bool)", self.onExport)
        self.ui.importButton.connect("clicked(bool)", self.onImport)
        self.panel = self.logic.newPanel()
        self.view = PanelView(self.ui, self.panel, SlicerApplication(), self.onTick)
        self.timer = qt.QTimer()
        self.timer.connect("timeout()", self.onTick)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneLoaded)
        self.timer.start(self.IDLE_INTERVAL)  # after Reload no enter() comes

    def enter(self) -> None:
        """The user comes to the module."""
        self.panel.packages_changed()
        self.view.drawing.enter()
        self.onTick()

    def exit(self) -> None:
        """The user leaves the module; a job under way goes on."""
        self.view.drawing.exit()
        if not self.panel.at_work:
            self.timer.stop()

    def cleanup(self) -> None:
        """Called when Slicer closes or the module is reloaded: nothing of this panel stays behind."""
        self.removeObservers()
        if self.root is None:
            return
        self.timer.stop()
        self.view.drawing.exit()
        self.panel.leave()
        self.root.setMRMLScene(None)
        self.root.deleteLater()  # its connections would keep all of this alive
        self.timer.deleteLater()
        self.root = self.ui = self.view = self.panel = self.timer = None

    def onTick(self) -> None:
        """A job or the panel moves on by one small piece; where nobody looks and nothing runs, it rests."""
        inside, was_busy = bool(self.parent.isEntered), self.panel.busy
        self.panel.tick(watched=inside and not self.view.drawing.active)
        self.view.show()
        if was_busy and not self.panel.busy and not inside:
            slicer.util.showStatusMessage(self.panel.state.ending, 10000)
        if self.panel.at_work or inside:
            quick = self.panel.at_work or self.panel.state.suggest.on
            self.timer.start(self.BUSY_INTERVAL if quick else self.IDLE_INTERVAL)
        else:
            self.timer.stop()

    def onSceneClosed(self, caller: Any = None, event: Any = None) -> None:
        """What the panel spoke of is gone with the scene."""
        self.ui.messageLabel.text = ""
        self.panel.scene_closed()
        self.onSceneLoaded()

    def onSceneLoaded(self, caller: Any = None, event: Any = None) -> None:
        """The choices that came with a scene are shown."""
        self.panel.refresh()
        self.view.show_choices()
        self.view.show()

    def onExport(self, checked: bool = False) -> None:
        """Write every labeled volume of the scene into the chosen folder."""
        with slicer.util.tryWithErrorDisplay(_("The labeled scans could not be exported."), waitCursor=True):
            folder = self.logic.exportLabeled(self.ui.exportFolder.currentPath)
            self.ui.messageLabel.text = _("{count} labeled scans were written to {folder}.").format(
                count=len(folder.cases), folder=folder.folder
            )

    def onImport(self, checked: bool = False) -> None:
        """Add the chosen result beside the chosen volume."""
        with slicer.util.tryWithErrorDisplay(_("The result could not be imported."), waitCursor=True):
            node = self.logic.importResult(self.ui.resultFile.currentPath, self.ui.volumeSelector.currentNode())
            self.ui.messageLabel.text = _('The result is the new segmentation "{name}".').format(name=node.GetName())


class GLMAESegmentationLogic(ScriptedLoadableModuleLogic):
    """What the panel can do, for scripts too. Knows nothing of the panel; failures are `glmae.errors.GLMAEError`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)

    def newPanel(self, folder: Path | None = None) -> Panel:
        """The panel's decisions and jobs on the current scene, to be shown by widgets or driven by a script.

        Args:
            folder: for models and jobs; None: the user's own.
        """
        from GLMAESegmentationLib.panel.panel import Panel
        from GLMAESegmentationLib.widgets.qt_process import QtProcess
        from GLMAESegmentationLib.widgets.slicer_application import data_folder

        where, environment = folder or data_folder(), data_folder() / "engine"
        return Panel(slicer.mrmlScene, self.getParameterNode, where, QtProcess, environment)

    def exportLabeled(self, folder: str) -> CaseFolder:
        """Export the volumes of the scene that have a drawn segmentation, as cases for `glmae finetune`."""
        from glmae.errors import RequestError
        from GLMAESegmentationLib.jobs.case_folder import export_cases
        from GLMAESegmentationLib.scene.choices import PanelChoices
        from GLMAESegmentationLib.scene.scene_cases import find_cases

        if not folder:
            raise RequestError(_("No folder is chosen; choose the folder to write to."))
        choices = PanelChoices(self.getParameterNode())
        cases = find_cases(slicer.mrmlScene, choices.labels, choices.channels)
        labeled = [case for case in cases if case.segmentation is not None]
        if not labeled:
            raise RequestError(_("No scan has a label; select one, and press Label selected scan."))
        return export_cases(labeled, Path(folder))

    def importResult(self, file: str, volume: Any) -> Any:
        """Add a `.seg.nrrd` made from `volume` to the scene as a new vtkMRMLSegmentationNode."""
        from glmae.errors import RequestError
        from GLMAESegmentationLib.scene.segmentation_import import import_segmentation

        if volume is None or not file:
            raise RequestError(_("Choose both the result file and the scan that it was made from."))
        return import_segmentation(Path(file), volume)


class GLMAESegmentationTest(ScriptedLoadableModuleTest):
    """Runs in Slicer (Reload and Test) on the sample scans that come with the extension."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """All tests, one after the other."""
        for test in (self.test_round_trip, self.test_suggest, self.test_train_and_segment, self.test_nothing_labeled):
            self.setUp()
            test()
        logging.info("GLMAESegmentation: all tests passed")

    def test_round_trip(self) -> None:
        """Two labeled scans leave the scene and come back as new segmentations, voxel for voxel."""
        import numpy as np

        logic = GLMAESegmentationLogic()
        labels = dict(self.loadSample(name) for name in ("hippocampus_003", "hippocampus_039"))
        with tempfile.TemporaryDirectory() as folder:
            cases = logic.exportLabeled(folder)
            self.assertEqual([case.name for case in cases.cases], ["case-01", "case-02"])
            for case in cases.cases:
                volume = slicer.mrmlScene.GetNodeByID(case.volumes[0])
                drawn = labels[volume.GetID()]
                result = logic.importResult(str(cases.labels / f"{case.name}.seg.nrrd"), volume)
                self.assertIsNot(result, drawn)
                for index in range(drawn.GetSegmentation().GetNumberOfSegments()):
                    identifier = drawn.GetSegmentation().GetNthSegmentID(index)
                    before, after = (
                        slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume) for node in (drawn, result)
                    )
                    self.assertGreater(int(before.sum()), 0)
                    self.assertTrue(np.array_equal(before, after))

    def test_suggest(self) -> None:
        """One scan is labeled, the other gets a proposal."""
        with tempfile.TemporaryDirectory() as folder:
            panel = GLMAESegmentationLogic().newPanel(Path(folder))
            if panel.state.engine.lacking:
                logging.warning("Not tested: %s", panel.state.engine.lacking)
                return
            self.loadSample("hippocampus_003")
            volume, drawn = self.loadSample("hippocampus_057")
            slicer.mrmlScene.RemoveNode(drawn)
            panel.tick()
            panel.do("suggest")
            self.assertTrue(panel.state.suggest.on)
            while panel.state.suggest.on and (panel.state.suggest.stage or not panel.state.suggest.labels):
                slicer.app.processEvents()
                panel.tick()
                time.sleep(0.05)
            self.assertIsNone(panel.state.failure, panel.log)
            self.assertEqual(panel.state.suggest.problem, "")
            self.assertEqual([scan.volume_id for scan in panel.state.scans if scan.proposal], [volume])
            panel.leave()

    def test_train_and_segment(self) -> None:
        """A few steps on two labeled scans, then a third is segmented: what the panel does on clicks."""
        with tempfile.TemporaryDirectory() as folder:
            panel = GLMAESegmentationLogic().newPanel(Path(folder))
            if panel.state.engine.lacking:
                logging.warning("Not tested: %s", panel.state.engine.lacking)
                return
            for name in ("hippocampus_003", "hippocampus_039"):
                self.loadSample(name)
            volume, drawn = self.loadSample("hippocampus_057")
            slicer.mrmlScene.RemoveNode(drawn)
            panel.choices.steps = 3
            self.click(panel, "train")
            self.assertEqual(len(panel.state.models), 1)
            self.click(panel, "segment")
            self.assertEqual([scan.state for scan in panel.state.queue], ["done"])
            result = slicer.mrmlScene.GetNodeByID(panel.state.queue[0].result_id)
            reference = result.GetNodeReferenceID(result.GetReferenceImageGeometryReferenceRole())
            self.assertEqual(reference, volume)
            panel.do("undo")
            self.assertIsNone(slicer.mrmlScene.GetFirstNodeByName("hippocampus_057 segmentation (GLMAE)"))
            panel.leave()

    def click(self, panel: Panel, action: str) -> None:
        """Do something in the panel and wait for the job that it begins."""
        panel.do(action)
        self.assertTrue(panel.busy, f"{action} did not begin: {panel.state.failure}")
        while panel.busy:
            slicer.app.processEvents()
            panel.tick()
            time.sleep(0.05)
        self.assertIsNone(panel.state.failure, panel.log)

    def test_nothing_labeled(self) -> None:
        """An empty scene is a sentence, not a traceback."""
        from glmae.errors import RequestError

        with tempfile.TemporaryDirectory() as folder, self.assertRaises(RequestError):
            GLMAESegmentationLogic().exportLabeled(folder)

    def loadSample(self, name: str) -> tuple[str, Any]:
        """Load a bundled scan and its label; the ID of the volume and its segmentation node."""
        samples = Path(__file__).parent / "Resources" / "SampleScans"
        volumes = slicer.modules.volumes.logic()
        volume = volumes.AddArchetypeVolume(str(samples / "images" / f"{name}.nii.gz"), name)
        labelmap = volumes.AddArchetypeVolume(str(samples / "labels" / f"{name}.nii.gz"), f"{name} label", 1)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} segmentation")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
        slicer.mrmlScene.RemoveNode(labelmap)
        return volume.GetID(), segmentation
