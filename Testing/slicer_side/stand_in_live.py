"""`glmae live` as the panel knows it: requests on standard input, events of docs/events.md on standard output.

As strict as the engine, and stricter: a request with a field too many or too few, or one that comes while another is
under way, ends it. Each request is written to `requests.jsonl` beside this file, with the labels as they were then.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIELDS = {"fit": {"cases"}, "segment": {"case", "out"}, "ahead": {"cases"}, "stop": set()}


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def behavior() -> str:
    return (HERE / "behavior").read_text(encoding="utf-8")


class Live:
    def __init__(self, words: list[str]) -> None:
        options = dict(zip(words[1::2], words[2::2], strict=False))
        assert set(options) - {"--events", "--backbone"} == {"--images", "--labels", "--cache", "--device"}, words
        self.images, self.labels = Path(options["--images"]), Path(options["--labels"])
        self.fitted = False
        self.ahead: tuple[Any, list[str]] | None = None

    def names(self) -> set[str]:
        return {path.name.removesuffix(".nrrd") for path in self.images.iterdir()}

    def answer(self, request: dict[str, Any]) -> bool:
        """Answer one request; whether the process goes on."""
        kind, number = request["request"], request["id"]
        assert set(request) == {"request", "id"} | FIELDS[kind], request
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.labels.iterdir())
            if path.name.endswith(".seg.nrrd")
        }
        with (HERE / "requests.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**request, "labels": digests}) + "\n")
        if kind == "stop":
            return False
        if kind == "ahead":
            self.ahead = number, request["cases"]
            return True
        if behavior() == "slow":
            time.sleep(0.5)
        if behavior() == "die":
            print("Killed", file=sys.stderr, flush=True)
            os._exit(137)
        try:
            self.fit(request) if kind == "fit" else self.segment(request)
        except Exception as error:
            say("request_failed", request=kind, id=number, name=type(error).__name__, message=str(error))
        return True

    def fit(self, request: dict[str, Any]) -> None:
        say("progress", stage="fit", done=0, total=3, seconds_left=None, request="fit", id=request["id"])
        if behavior() == "gpu full":
            raise MemoryError("there is not enough memory for this request; close other programs or use a smaller scan")
        assert request["cases"]
        for case in request["cases"]:
            assert case in self.names(), case
            assert (self.labels / f"{case}.seg.nrrd").is_file(), case
        self.fitted = True
        say("answered", request="fit", id=request["id"], seconds=0.1, cases=request["cases"], classes=["A"], dice=0.9)

    def segment(self, request: dict[str, Any]) -> None:
        case, out = request["case"], Path(request["out"])
        assert self.fitted
        assert case in self.names(), case
        assert out.parent.is_dir()
        if behavior() == f"fail {case}":
            raise ValueError(f"cases/images/{case}.nrrd has the same value, 7, everywhere; export the scan again")
        shutil.copy(HERE / "result.seg.nrrd", out)
        flags = [{"class": "Anterior", "kind": "unsure", "message": "the model is unsure about Anterior"}]
        say(
            "answered",
            request="segment",
            id=request["id"],
            seconds=0.1,
            case=case,
            file=str(out),
            volumes_ml={"Anterior": 1.0},
            uncertainty={"Anterior": 0.1, "Posterior": 0.2},
            flags=flags if behavior() == "flags" else [],
        )


def live(words: list[str]) -> int:
    """Answer until the input ends."""
    session = Live(words)
    full = behavior() == "gpu full"
    say("started", job="live", device="cuda:0" if full else "cpu")
    say("info", message="Computing on the GPU." if full else "Computing on the CPU.")
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=0.05 if session.ahead is not None and behavior() != "never ahead" else None)
        except queue.Empty:
            assert session.ahead is not None
            number, cases = session.ahead
            session.ahead = None
            say("answered", request="ahead", id=number, seconds=0.1, cases=cases, failed=[])
            continue
        if not line or not session.answer(json.loads(line)):
            say("finished", job="live", message="")
            return 0
