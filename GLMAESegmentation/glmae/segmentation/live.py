"""`glmae live`: a process that answers a front end's requests, so that a label is worth a new proposal in seconds.

A request is a line of JSON, its answers are events (docs/events.md). Results are those of `finetune --steps 0` and
`segment`. For a label that is new or has changed the head alone is fitted again.
"""

from __future__ import annotations

import json
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from ..devices import gigabytes
from ..errors import RequestError, Stopped
from ..events import Events, silent
from ..files import last_line
from ..job import Job, begin, failure
from ..ram import free_ram
from ..scans.case import Case
from ..scans.cases import find_cases
from ..scans.fingerprint import Measured, gather
from ..scans.labels import case_images
from ..scans.lasting_plan import lasting_plan
from ..scans.measurement import measure_each
from ..scans.preparation import Preparation
from ..scans.scan_folder import check_folder
from ..scans.store import ScanStore
from .crop_maps import CropMaps
from .finetune_config import SCAN_VOXELS, FinetuneConfig
from .inference import PreparedScan, check_scan, segment_case
from .instant_start import plan_start, starting_backbone, told
from .map_store import MapMaker, MapStore
from .model import Model
from .report import Description
from .result import FORMATS, write_result

# Of the free memory and the free disk, features may take so much.
SHARE = 0.25
# The Dice of a fit is that of so many of the scans whose labels are new or have changed; each takes up to a second.
SCORED = 1
# While nothing is to be done, how often it is asked whether to stop.
IDLE_SECONDS = 0.2


def live(
    *,
    images: Path,
    labels: Path,
    classes: Path | None = None,
    backbone: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    requests: Iterable[bytes],
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Answer requests until one says `stop` or they end; the same as `glmae live`.

    Args:
        images: folder of scans; scans may be added, and labels written, while it lives.
        labels: folder of labels with the same names.
        cache: where prepared scans and their features are kept; None: in a folder that is removed at the end.
        requests: lines, read in a thread of their own.

    Raises:
        RequestError: there is no folder of scans, or no such device, backbone or setting.
        Stopped: `should_stop` said so.
    """
    events = events or silent()
    check_folder(Path(images))
    FinetuneConfig(crop=(16, 16, 16)).changed(settings or {})
    starting_backbone(backbone)
    asked = _Asked(Path(images), Path(labels), classes, backbone, dict(settings or {}))
    with _folder(cache) as folder:
        job = begin("live", device, events, should_stop, "start it again")
        memory, disk = int(SHARE * free_ram()), int(SHARE * shutil.disk_usage(folder).free)
        events.info(f"Features take at most {gigabytes(memory)} of memory and {gigabytes(disk)} of {folder}.")
        maps = MapStore(folder / "maps", memory, disk)
        session = _Session(asked, folder, maps, job)
        import_module("torch._dynamo")  # the first step of an optimizer does, for seconds
        lines: queue.Queue[bytes | None] = queue.Queue()
        Thread(target=_read, args=(requests, lines), daemon=True).start()
        while not should_stop():
            try:
                line = lines.get(timeout=0 if session.busy else IDLE_SECONDS)
            except queue.Empty:
                session.compute_ahead()
                continue
            if line is None or not session.answer(line):
                break
        else:
            job.check()
        if cache is not None:
            maps.write()
    events.finished("live")


@dataclass
class _Ahead:
    """A request for features: `work` makes them step by step."""

    request: dict[str, Any]
    began: float
    work: Generator[None, None, None]
    done: list[str]
    failed: list[str]


@dataclass(frozen=True)
class _Asked:
    """What `live` was asked for, see there."""

    images: Path
    labels: Path
    classes: Path | None
    backbone: str | None
    settings: dict[str, Any]


class _Session:
    """What is kept between requests."""

    def __init__(self, asked: _Asked, folder: Path, maps: MapStore, job: Job) -> None:
        self._asked, self._folder, self._maps, self._job = asked, folder, maps, job
        self._measured: dict[str, Measured] = {}
        self._crops = CropMaps()
        self._model: Model | None = None
        self._maker: MapMaker | None = None
        self._fitted: dict[str, str] = {}  # the label of each scan at the last fit
        self._ahead: _Ahead | None = None

    @property
    def busy(self) -> bool:
        """Whether something is to be computed ahead."""
        return self._ahead is not None and self._model is not None

    def answer(self, line: bytes) -> bool:
        """Answer one request, or say why not; False: it was the last one."""
        began, request = time.monotonic(), dict[str, Any](request=None, id=None)
        try:
            _parse(line, request)
            if request["request"] == "stop":
                return False
            if request["request"] == "ahead":
                self._begin_ahead(request, began)
                return True
            answers = {"fit": self._fit, "segment": self._segment}
            fields = answers[request["request"]](request, self._marked(request))
            self._answered(request, began, fields)
        except Stopped:
            raise
        except Exception as error:
            name, message = failure(error, "request")
            kind, number = request["request"], request["id"]
            self._job.events.emit("request_failed", request=kind, id=number, name=name, message=message)
        return True

    def compute_ahead(self) -> None:
        """One step of what was asked for ahead, if anything was."""
        ahead = self._ahead
        if ahead is None or not self.busy:
            return
        try:
            next(ahead.work)
        except StopIteration:
            self._ahead = None
            self._answered(ahead.request, ahead.began, {"cases": ahead.done, "failed": ahead.failed})

    def _answered(self, request: dict[str, Any], began: float, fields: dict[str, Any]) -> None:
        seconds = round(time.monotonic() - began, 2)
        self._job.events.emit("answered", request=request["request"], id=request["id"], seconds=seconds, **fields)

    def _marked(self, request: dict[str, Any]) -> Events:
        """Events that say to which request they belong."""
        mark = {"request": request["request"], "id": request["id"]}
        return Events(lambda event: self._job.events.emit(**event | mark))

    def _fit(self, request: dict[str, Any], events: Events) -> dict[str, Any]:
        names = list(dict.fromkeys(request["cases"]))
        if not names:
            raise RequestError("a fit needs at least one labeled scan; name it in `cases`")
        asked, device = self._asked, self._job.device
        cases, table = find_cases(asked.images, asked.labels, names, asked.classes, events)
        each = measure_each(cases, table, events, known=self._measured)
        plan = lasting_plan(each, table, SCAN_VOXELS[device.type], names)
        store = ScanStore.prepare(self._folder / "scans", cases, plan.preparation, table, events)
        source, settings = starting_backbone(asked.backbone), asked.settings
        start = plan_start(source, store, plan, table, self._maps, device, settings, 0, events, self._crops)
        network = start.fit(range(len(store)), self._job.check)
        labels = {name: store.label_key(index) for index, name in enumerate(store.names)}
        changed = [index for index, name in enumerate(store.names) if labels[name] != self._fitted.get(name)]
        dice = start.own_dice(network, (changed or range(len(store)))[:SCORED], self._job.check)
        self._take(start.model(network, table, gather(each, table)))
        self._fitted = labels
        return {"cases": list(store.names), "classes": list(table.names), "dice": round(dice, 4)}

    def _take(self, model: Model) -> None:
        """Segment with this model from now on; what is computed ahead begins anew where the features are others."""
        before, self._model = self._model, model
        if before is None or (before.preparation, before.config) != (model.preparation, model.config):
            channels = model.preparation.normalization
            self._maker = MapMaker(model.config.crop, channels, self._maps, self._job.device)
            if self._ahead is not None:
                self._begin_ahead(self._ahead.request, self._ahead.began)

    def _segment(self, request: dict[str, Any], events: Events) -> dict[str, Any]:
        case, out = self._case(request["case"], self._scans()), Path(request["out"])
        if self._model is None or self._maker is None:
            raise RequestError("nothing was fitted yet, so no scan can be segmented; ask for a fit first")
        self._check_out(out)
        model, network = self._model, self._model.network
        check_scan(model, case)
        events.progress("segment", 0, 1, case=case.name)
        store = self._prepared(case, model.preparation, events)
        maps = self._maker.find(network, store.key(0))
        if maps is None:
            work = self._maker.make(network, store.key(0), store.image(0))
            maps = told(work, events, case.name, self._job.check)
        scan = PreparedScan(tuple(case_images(case, silent())), store.image(0), store.grid(0))
        result = segment_case(model, case, self._job.device, events, self._job.should_stop, scan=scan, maps=maps)
        fields = Description.of(result, model.classes, model.fingerprint).to_json()
        write_result(out, result.labels, model.classes, case)
        events.progress("segment", 1, 1, case=case.name)
        return {"case": case.name, "file": str(out), **fields}

    def _begin_ahead(self, request: dict[str, Any], began: float) -> None:
        ahead = _Ahead(request, began, iter(()), [], [])  # type: ignore[arg-type]
        ahead.work = self._work_ahead(ahead, self._marked(request))
        self._ahead = ahead
        if not request["cases"]:
            self._ahead = None
            self._answered(request, began, {"cases": [], "failed": []})

    def _work_ahead(self, ahead: _Ahead, events: Events) -> Generator[None, None, None]:
        assert self._model is not None
        assert self._maker is not None
        maker, network, preparation = self._maker, self._model.network, self._model.preparation
        scans: dict[str, Case] = {}
        for name in ahead.request["cases"]:
            try:
                scans = scans or self._scans()  # listed once: DICOM folders are slow to look through
                case = self._case(name, scans)
                check_scan(self._model, case)
                store = self._prepared(case, preparation, events)
                yield
                if not maker.has(network, store.key(0)):
                    for done, total in maker.make(network, store.key(0), store.image(0)):
                        events.progress("features", done, total, case=name)
                        yield
            except Stopped:
                raise
            except Exception as error:
                ahead.failed.append(name)
                events.warning(failure(error, "request")[1], case=name)
            else:
                ahead.done.append(name)

    def _scans(self) -> dict[str, Case]:
        """By their names, as they are now."""
        return {case.name: case for case in find_cases(self._asked.images, None)[0]}

    def _case(self, name: str, scans: dict[str, Case]) -> Case:
        if name not in scans:
            raise RequestError(f"case {name} has no image in {self._asked.images}; check the spelling")
        return scans[name]

    def _prepared(self, case: Case, preparation: Preparation, events: Events) -> ScanStore:
        """The scan alone, whether it has a label or not."""
        return ScanStore.prepare(self._folder / "scans", [case], preparation, None, events)

    def _check_out(self, out: Path) -> None:
        if not out.name.endswith(tuple(f".{ending}" for ending in FORMATS)):
            raise RequestError(f"{out} has no ending that can be written; choose one of {', '.join(FORMATS)}")
        if not out.parent.is_dir():
            raise RequestError(f"{out.parent} does not exist; make this folder, or choose another one for the result")
        for folder in (self._asked.images, self._asked.labels):
            if folder.resolve() in out.resolve().parents:
                raise RequestError(f"{out} lies among the scans and labels; choose another folder for the result")


def _read(requests: Iterable[bytes], lines: queue.Queue[bytes | None]) -> None:
    try:
        for line in requests:
            if line.strip():
                lines.put(line)
    finally:
        lines.put(None)


FIELDS: dict[str, dict[str, type]] = {
    "fit": {"cases": list},
    "segment": {"case": str, "out": str},
    "ahead": {"cases": list},
    "stop": {},
}


def _parse(line: bytes, request: dict[str, Any]) -> None:
    """Read the request in a line into `request`.

    Raises:
        RequestError: there is none; what is known of it is in `request`.
    """
    try:
        content = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise RequestError("this line is no JSON; send one request a line, as docs/events.md lists them") from error
    content = content if isinstance(content, dict) else {}
    request["id"], kind = content.get("id"), content.get("request")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise RequestError(f"this line holds no `request` of {', '.join(FIELDS)}; see docs/events.md")
    request["request"] = kind
    for name, wanted in FIELDS[kind].items():
        request[name] = value = content.get(name)
        if not isinstance(value, wanted) or (isinstance(value, list) and not all(isinstance(x, str) for x in value)):
            raise RequestError(f"the request {kind} has no `{name}` as docs/events.md has it; correct it")


@contextmanager
def _folder(cache: Path | None) -> Iterator[Path]:
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="glmae-live-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    try:
        Path(cache).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{cache} cannot be made ({last_line(error)}); choose another folder with --cache"
        ) from error
    yield Path(cache)
