"""A job's folder of cases exported from a scene, and the way back from a case's name to its nodes.

    FOLDER/images/case-01.nrrd           or images/case-01/channel-01.nrrd, channel-02.nrrd ...
    FOLDER/labels/case-01.seg.nrrd       for labeled cases
    FOLDER/labels/classes.json           which of them were labeled in part, where some were
    FOLDER/nodes.json                    which nodes each case came from

Files carry neutral names, because node names are often patients' names and may hold what a file name cannot.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from glmae.errors import RequestError
from glmae.files import write_json
from glmae.scans.class_file import CLASS_FILE
from glmae.scans.region import LABELED

from ..engine.failures import for_the_panel
from ..messages import say
from ..scene.region_box import Box
from ..scene.scene_cases import SceneCase, is_partly_labeled
from ..scene.segmentation_export import export_segmentation
from ..scene.volume_export import export_volume


@dataclass(frozen=True)
class ExportedCase:
    """One case of the folder.

    Attributes:
        name: the case's name for the engine, `case-01` and so on.
        title: the names of its volume nodes when it was exported, for messages to the user.
        volumes: IDs of its volume nodes, one a channel.
        segmentation: ID of its segmentation node, None for an unlabeled case.
        partly: whether only the slices, or the box, that hold labels were looked at.
    """

    name: str
    title: str
    volumes: tuple[str, ...]
    segmentation: str | None
    partly: bool = False


class CaseFolder:
    """Cases are added one at a time, so that a front end stays responsive between two of them.

    Attributes:
        images: the folder to give the engine as `--images`, and `labels` as `--labels`.
    """

    def __init__(self, folder: Path, cases: Iterable[ExportedCase] = ()) -> None:
        self.folder = Path(folder)
        self.images, self.labels = self.folder / "images", self.folder / "labels"
        self._cases = {case.name: case for case in cases}

    @classmethod
    def read(cls, folder: Path) -> CaseFolder:
        """The folder as an earlier session left it.

        Raises:
            RequestError: there is no readable `nodes.json` in it.
        """
        try:
            content = json.loads((Path(folder) / "nodes.json").read_text(encoding="utf-8"))
            cases = [ExportedCase(**{**entry, "volumes": tuple(entry["volumes"])}) for entry in content["cases"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(say("job damaged")) from error
        return cls(folder, cases)

    @property
    def cases(self) -> tuple[ExportedCase, ...]:
        """What was exported, in order."""
        return tuple(self._cases.values())

    def add(self, case: SceneCase, boxes: Sequence[Box | None] = ()) -> ExportedCase:
        """Write the files of `case` under the next free name; on failure nothing of it stays behind.

        Args:
            case: with one channel or several.
            boxes: the part of each channel to write, see `region_box`; None, or nothing: all of it.

        Raises:
            ScanError: a node of `case` cannot be exported; the message names the node.
            StorageError: the folder cannot be written.
        """
        exported = ExportedCase(
            name=f"case-{len(self._cases) + 1:02d}",
            title=" + ".join(volume.GetName() for volume in case.volumes),
            volumes=tuple(volume.GetID() for volume in case.volumes),
            segmentation=None if case.segmentation is None else case.segmentation.GetID(),
            partly=is_partly_labeled(case.segmentation),
        )
        image, label = self.images / exported.name, self._label_path(exported.name)
        images = [image / f"channel-{number:02d}.nrrd" for number in range(1, len(case.volumes) + 1)]
        if len(images) == 1:
            images = [image.with_suffix(".nrrd")]
        try:
            for volume, path, box in zip(case.volumes, images, boxes or [None] * len(images), strict=True):
                export_volume(volume, path, frame=case.volumes[0], box=box)
            if case.segmentation is not None:
                export_segmentation(case.segmentation, case.volumes[0], label)
            self._note((*self.cases, exported))
        except BaseException:
            for path in (*images, label):
                with suppress(OSError):  # the reason why it failed is the one to report
                    path.unlink(missing_ok=True)
            shutil.rmtree(image, ignore_errors=True)
            raise
        self._cases[exported.name] = exported
        return exported

    def label(self, name: str, volume: Any, segmentation: Any) -> None:
        """Write the label of a case that is there, or write it anew: whole, in the place of the one before.

        Raises:
            ScanError: the segmentation cannot be exported.
            StorageError: the folder cannot be written.
        """
        export_segmentation(segmentation, volume, self._label_path(name))
        case = replace(self._cases[name], segmentation=segmentation.GetID(), partly=is_partly_labeled(segmentation))
        self._cases[name] = case
        self._note(self.cases)

    def image(self, name: str) -> Path:
        """The file of a case, or the folder of its channels."""
        file = self.images / f"{name}.nrrd"
        return file if len(self._cases[name].volumes) == 1 else self.images / name

    def _note(self, cases: tuple[ExportedCase, ...]) -> None:
        """Write beside the cases what the engine and a later session must know of them."""
        partly = [case.name for case in cases if case.partly]
        if partly:
            write_json(self.labels / CLASS_FILE, {"region": dict.fromkeys(partly, LABELED)})
        else:
            (self.labels / CLASS_FILE).unlink(missing_ok=True)
        write_json(self.folder / "nodes.json", {"cases": [asdict(case) for case in cases]})

    def _label_path(self, name: str) -> Path:
        return self.labels / f"{name}.seg.nrrd"


def in_words(message: str, folder: Path, cases: Iterable[ExportedCase]) -> str:
    """A message of the engine in words of the panel: with the names of scans, and no advice for the command line.

    Args:
        message: of the engine.
        folder: of a `CaseFolder`, in the folder of a job, from which the engine may name files by relative paths.
        cases: what the neutral names stand for.
    """
    message = for_the_panel(message)
    for case in sorted(cases, key=lambda case: -len(case.name)):  # a name may begin another one
        title = f'"{case.title}"'
        for place in (folder, folder.name):
            for kind in ("images", "labels"):
                for end in (".seg.nrrd", ".nrrd", ""):
                    path = Path(place, kind, case.name + end)
                    message = message.replace(str(path), title).replace(path.as_posix(), title)
        message = title.join(re.split(rf"(?:\bcase )?(?<![\w-]){re.escape(case.name)}(?![\w-])", message))
    return message


def export_cases(cases: Iterable[SceneCase], folder: Path) -> CaseFolder:
    """Write all of `cases` into `folder`; see `CaseFolder.add`.

    Raises:
        RequestError: `folder` already holds cases.
    """
    if (Path(folder) / "nodes.json").exists():
        raise RequestError(f"{folder} already holds exported cases; choose an empty folder.")
    exported = CaseFolder(folder)
    for case in cases:
        exported.add(case)
    return exported
