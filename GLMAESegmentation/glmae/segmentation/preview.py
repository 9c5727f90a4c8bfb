"""A look at a training under way: on request, one scan is segmented with the weights as they are at that step.

The request is a file, so that any front end can make it: `OUT/unfinished/preview.json` with `{"image": PATH}`. Between
two steps it is answered by `OUT/unfinished/preview/NAME.seg.nrrd` and the event `preview`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import GLMAEError, RequestError, Stopped
from ..job import Job
from ..scans.case import Case
from ..scans.cases import find_images
from .inference import segment_case
from .model import Model
from .network import SegmentationNetwork
from .result import write_result
from .training import Training

ASKED, ANSWERS = "preview.json", "preview"
# What a preview may take: a share of a training that has to end in time, and always so many seconds.
LARGEST_SHARE, LEAST_SECONDS = 0.1, 60.0


class Previews:
    """Answers the requests in one run folder.

    Args:
        folder: `OUT/unfinished`.
        model: what a training gives, with these weights, to segment scans with.
    """

    def __init__(self, folder: Path, model: Callable[[SegmentationNetwork, Training], Model], job: Job) -> None:
        self._folder, self._model, self._job = folder, model, job

    def answer(self, training: Training) -> None:
        """Answer a request, if there is one, with the weights of `training` as they are now."""
        if not (self._folder / ASKED).exists():
            return
        minutes, job = training.schedule.minutes, self._job
        limit = time.monotonic() + max(LEAST_SECONDS, LARGEST_SHARE * 60 * (minutes or 0.0))
        name, step = "", training.schedule.done
        try:
            case = self._request()
            name = case.name
            file = self._segment(case, training, lambda: job.should_stop() or time.monotonic() > limit)
        except Stopped:
            if not job.should_stop():
                job.events.emit("preview", case=name, step=step, message=f"a preview of {name} takes too long here")
        except (GLMAEError, MemoryError, RuntimeError) as error:  # a preview is not worth a run
            job.events.emit("preview", case=name, step=step, message=f"no preview of {name}: {error}")
        else:
            job.events.emit("preview", case=name, step=step, file=str(file))

    def _request(self) -> Case:
        path = self._folder / ASKED
        try:
            image = Path(json.loads(path.read_text(encoding="utf-8"))["image"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{path} names no image") from error
        finally:
            path.unlink(missing_ok=True)
        (case,) = find_images([image])
        return case

    def _segment(self, case: Case, training: Training, should_stop: Callable[[], bool]) -> Path:
        network = training.network if training.averaged is None else training.averaged.module
        assert isinstance(network, SegmentationNetwork)
        model = self._model(network, training)
        result = segment_case(model, case, training.device, should_stop=should_stop)
        file = self._folder / ANSWERS / f"{case.name}.seg.nrrd"
        write_result(file, result.labels, model.classes, case)
        return file
