"""A look at a training under way: a scan goes to the engine, and comes back as a segmentation that is not kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError
from glmae.files import write_json

from ..engine.failures import sentence
from ..messages import say
from ..scene.scene_cases import PREVIEW_ATTRIBUTE, SceneCase
from ..scene.segment_voxels import segment_arrays
from ..scene.segmentation_import import RESULT_ATTRIBUTE, import_segmentation
from .case_folder import CaseFolder, ExportedCase, in_words
from .case_writing import boxes_of
from .folder import JobFolder

# In this stage the engine answers between two steps.
STAGE = "finetune"


class TrainingPreview:
    """At most one preview at a time, of one job.

    Attributes:
        asked: whether an answer is still to come.
        sentence: what there is to say about it; "" for nothing.
        node_id: of the segmentation that shows it, and `volume_id` of its scan; "" while there is none.
    """

    def __init__(self) -> None:
        self.asked, self.sentence, self.node_id, self.volume_id = False, "", "", ""
        self._case: ExportedCase | None = None
        self._folder = Path()  # of the case

    def ask(self, job: JobFolder, volumes: tuple[Any, ...], region: Any | None) -> None:
        """Write a scan for the engine and ask for its segmentation.

        Raises:
            GLMAEError: the scan cannot be written, or lies outside of the region.
        """
        self._folder = job.folder / "preview"
        shutil.rmtree(self._folder, ignore_errors=True)
        cases = CaseFolder(self._folder)
        self._case = cases.add(SceneCase(volumes), boxes_of(region, volumes))
        write_json(job.out / "unfinished" / "preview.json", {"image": str(cases.image(self._case.name))})
        self.asked = True
        self.sentence = say("preview asked", scan=volumes[0].GetName())

    def take(self, event: Mapping[str, Any], scene: Any) -> None:
        """Show what came of it, instead of the preview before."""
        case, self._case, self.asked, self.sentence = self._case, None, False, ""
        if case is None:
            return
        if not event.get("file"):
            message = str(event.get("message") or "")
            self.sentence = sentence(in_words(message, self._folder, [case]))
            return
        volume = scene.GetNodeByID(case.volumes[0])
        if volume is None:
            return
        self._remove_node(scene)
        try:
            name = say("preview name", scan=volume.GetName())
            node = import_segmentation(Path(str(event["file"])), volume, name)
        except GLMAEError:  # the training ended meanwhile, and its files are gone
            return
        node.SetAttribute(PREVIEW_ATTRIBUTE, "1")
        node.RemoveAttribute(RESULT_ATTRIBUTE)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        self.node_id, self.volume_id = node.GetID(), volume.GetID()
        found = any(segment.mask.any() for segment in segment_arrays(node))
        self.sentence = say("preview" if found else "preview empty", scan=volume.GetName(), step=event.get("step"))

    def remove(self, scene: Any) -> None:
        """Nothing of it stays."""
        self._remove_node(scene)
        self._case, self.asked, self.sentence = None, False, ""

    def _remove_node(self, scene: Any) -> None:
        node = scene.GetNodeByID(self.node_id) if self.node_id else None
        self.node_id = self.volume_id = ""
        if node is not None and node.GetAttribute(PREVIEW_ATTRIBUTE):
            scene.RemoveNode(node)
