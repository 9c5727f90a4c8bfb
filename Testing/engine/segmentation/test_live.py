"""`glmae live`: real processes, asked on their standard input."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from coarse_scans import write_coarse_scans

from glmae.cli import main
from glmae.events import Events, recorded
from glmae.scans.cases import find_cases
from glmae.segmentation.batch import segment
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.live import live

LABELED = ["hippocampus_207", "hippocampus_039"]
NEW = ["hippocampus_003", "hippocampus_057", "hippocampus_097"]
# A head that is fitted badly and fast, and several windows a scan.
SETTINGS = {"start_steps": 20, "start_crops": 1, "crop": [16, 24, 16]}
SECONDS = 240


class Process:
    """One `glmae live`, and all that it has said."""

    def __init__(self, folder: Path, temporary: Path, *words: object) -> None:
        settings = [word for name, value in SETTINGS.items() for word in ("--setting", f"{name}={json.dumps(value)}")]
        command = [sys.executable, "-m", "glmae", "live", "--images", folder / "images", "--labels", folder / "labels"]
        temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [str(word) for word in (*command, "--device", "cpu", *settings, *words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)),
        )
        self.events: list[dict[str, Any]] = []
        self._coming: queue.Queue[dict[str, Any]] = queue.Queue()
        self._number = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(json.loads(line))
        self._coming.put({"event": "end of the output"})

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, kind: str, **fields: object) -> int:
        self._number += 1
        self.say(json.dumps({"request": kind, "id": self._number, **fields}))
        return self._number

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            event = self._coming.get(timeout=SECONDS)
            self.events.append(event)
            assert event["event"] != "end of the output", self.events[-2:]
            if wanted(event):
                return event

    def answer(self, number: int) -> dict[str, Any]:
        return self.until(lambda event: event.get("id") == number and event["event"] != "progress")

    def asked(self, kind: str, **fields: object) -> dict[str, Any]:
        """The answer to a request, which is not refused."""
        answer = self.answer(self.ask(kind, **fields))
        assert answer["event"] == "answered", answer
        return answer

    def features(self, number: int) -> list[tuple[str, int, int]]:
        """Of which scans maps were made for a request: case, window, number of windows."""
        return [
            (event["case"], event["done"], event["total"])
            for event in self.events
            if event.get("stage") == "features" and event["id"] == number
        ]

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(SECONDS)
        while not self.events or self.events[-1]["event"] != "finished":
            self.events.append(self._coming.get(timeout=SECONDS))
        return status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scans, of which two are labeled, in a folder whose name has a space and other alphabets."""
    made = tmp_path / "Köpfe и 頭"
    write_coarse_scans(made, [*LABELED, *NEW], LABELED)
    (made / "out").mkdir()
    return made


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*words: object) -> Process:
        started.append(Process(folder, tmp_path / "temporary", *words))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


def test_results_are_those_of_no_steps_and_segmenting(start, folder, tmp_path):
    live = start()
    began = live.until(lambda event: event["event"] == "started")
    assert (began["job"], began["device"]) == ("live", "cpu")
    fit = live.asked("fit", cases=LABELED)
    assert fit["cases"] == sorted(LABELED)
    assert len(fit["classes"]) == 2
    assert 0 < fit["dice"] < 1
    answers = {}
    for ending in ("seg.nrrd", "nii.gz"):
        for name in (NEW[0], LABELED[0]):
            answers[name] = live.asked("segment", case=name, out=str(folder / "out" / f"{name}.{ending}"))
    assert live.end() == 0
    assert list((tmp_path / "temporary").glob("glmae*")) == [], "nothing stays"

    words = {"images": folder / "images", "labels": folder / "labels", "device": "cpu"}
    finetune(**words, cases=LABELED, out=tmp_path / "model", steps=0, settings=SETTINGS)
    images = [folder / "images" / f"{name}.nii.gz" for name in answers]
    for ending in ("seg.nrrd", "nii.gz"):
        told: list[dict] = []
        out = tmp_path / ending
        segment(
            model=tmp_path / "model", images=images, out=out, file_format=ending, device="cpu", events=recorded(told)
        )
        for name in answers:
            assert (out / f"{name}.{ending}").read_bytes() == (folder / "out" / f"{name}.{ending}").read_bytes()
    cases = {event["case"]: event for event in told if event["event"] == "case" and event["state"] == "done"}
    for name, answer in answers.items():
        for key in ("volumes_ml", "uncertainty", "flags"):
            assert answer[key] == cases[name][key], (name, key)
        assert max(answer["volumes_ml"].values()) > 0


def test_nothing_is_computed_twice(start, folder):
    live = start()
    first = live.ask("fit", cases=LABELED)
    live.answer(first)
    assert {case for case, _, _ in live.features(first)} == set(LABELED)
    ahead = live.ask("ahead", cases=[NEW[1], LABELED[0], NEW[0]])
    answer = live.answer(ahead)
    assert answer["cases"] == [NEW[1], LABELED[0], NEW[0]]
    assert answer["failed"] == []
    assert list(dict.fromkeys(case for case, _, _ in live.features(ahead))) == [NEW[1], NEW[0]], "in this order"
    number = live.ask("segment", case=NEW[0], out=str(folder / "out" / "a.nii.gz"))
    assert live.answer(number)["event"] == "answered"
    assert live.features(number) == []

    # Another label, and a further one.
    before = (folder / "out" / "a.nii.gz").read_bytes()
    label = sitk.ReadImage(str(folder / "labels" / f"{LABELED[0]}.nii.gz"))
    sitk.WriteImage(sitk.BinaryDilate(label != 0, [2, 2, 2]) * 1, str(folder / "labels" / "new.nii.gz"))
    os.replace(folder / "labels" / "new.nii.gz", folder / "labels" / f"{LABELED[0]}.nii.gz")
    shutil.copy(folder / "out" / "a.nii.gz", folder / "labels" / f"{NEW[0]}.nii.gz")
    number = live.ask("fit", cases=[*LABELED, NEW[0]])
    assert live.answer(number)["event"] == "answered"
    assert live.features(number) == []
    live.asked("segment", case=NEW[0], out=str(folder / "out" / "a.nii.gz"))
    assert (folder / "out" / "a.nii.gz").read_bytes() != before, "the labels decide"


def test_the_folder_is_listed_once_for_all_scans_ahead(folder, monkeypatch):
    listed, done = [], threading.Event()

    def find(*words: Any) -> Any:
        listed.append(words)
        return find_cases(*words)

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "answered" and event["request"] == "ahead":
            assert (event["cases"], event["failed"]) == (NEW, ["nobody"])
            done.set()

    def requests() -> Iterator[bytes]:
        yield json.dumps({"request": "fit", "cases": LABELED}).encode()
        yield json.dumps({"request": "ahead", "cases": [*NEW, "nobody"]}).encode()
        assert done.wait(SECONDS)

    monkeypatch.setattr("glmae.segmentation.live.find_cases", find)
    images, labels = folder / "images", folder / "labels"
    live(images=images, labels=labels, device="cpu", settings=SETTINGS, requests=requests(), events=Events(hear))
    assert len(listed) == 2, "for the fit, and for what was computed ahead"


def test_any_request_interrupts_what_is_done_ahead(start, folder):
    live = start()
    live.asked("fit", cases=LABELED[:1])
    ahead = live.ask("ahead", cases=[*NEW, LABELED[1]])
    live.until(lambda event: event.get("stage") == "features" and event["id"] == ahead and event["done"] == 1)
    number = live.ask("segment", case=LABELED[0], out=str(folder / "out" / "a.seg.nrrd"))
    assert live.answer(number)["event"] == "answered"
    seen = live.features(ahead)
    assert len(seen) < 2 * seen[0][2], "it did not wait for the end"
    assert live.answer(ahead)["cases"] == [*NEW, LABELED[1]]
    windows = live.features(ahead)
    assert windows == sorted(set(windows), key=windows.index), "it went on where it was"
    assert len(windows) == sum({case: total for case, _, total in windows}.values())


def test_a_request_that_fails_ends_nothing(start, folder):
    live = start()
    out = str(folder / "out" / "a.seg.nrrd")

    def refused(kind: str | None, **fields: object) -> str:
        answer = live.answer(live.ask(str(kind), **fields))
        assert answer["event"] == "request_failed"
        assert answer["request"] == kind
        assert "unforeseen" not in answer["message"]
        return f"{answer['name']}: {answer['message']}"

    assert "fit first" in refused("segment", case=NEW[0], out=out)
    assert "RequestError" in refused("fit", cases=[])
    assert "hippocampus_999" in refused("fit", cases=[LABELED[0], "hippocampus_999"])
    assert f"{NEW[0]} has no label" in refused("fit", cases=[NEW[0]])
    assert "cases" in refused("fit", cases="all")
    assert "cases" in refused("ahead")
    (folder / "labels" / f"{NEW[0]}.nii.gz").write_bytes(b"no label")
    assert "ScanError" in refused("fit", cases=[NEW[0]])
    live.asked("fit", cases=LABELED[:1])
    assert "hippocampus_999" in refused("segment", case="hippocampus_999", out=out)
    assert "does not exist" in refused("segment", case=NEW[0], out=str(folder / "no" / "a.seg.nrrd"))
    assert "ending" in refused("segment", case=NEW[0], out=str(folder / "out" / "a.png"))
    label = folder / "labels" / f"{LABELED[0]}.nii.gz"
    content = label.read_bytes()
    assert "among the scans and labels" in refused("segment", case=NEW[0], out=str(label))
    assert label.read_bytes() == content
    for line in ("{", "7", "{}", '{"request": "dance"}'):
        live.say(line)
        answer = live.until(lambda event: event["event"] == "request_failed")
        assert answer["request"] is None
    (folder / "images" / f"{NEW[2]}.nii.gz").write_bytes(b"no scan")
    answer = live.answer(live.ask("ahead", cases=["hippocampus_999", NEW[1], NEW[2]]))
    while answer["event"] == "warning":
        answer = live.answer(answer["id"])
    assert answer["cases"] == [NEW[1]]
    assert answer["failed"] == ["hippocampus_999", NEW[2]]
    live.asked("segment", case=NEW[0], out=out)
    live.ask("stop")
    assert live.end() == 0
    assert [path.name for path in (folder / "out").iterdir()] == ["a.seg.nrrd"]


def test_a_kept_cache_serves_the_next_process_even_after_a_kill(start, folder, tmp_path):
    cache = tmp_path / "a cache"
    live = start("--cache", cache)
    live.asked("fit", cases=LABELED)
    live.asked("segment", case=NEW[0], out=str(folder / "out" / "a.seg.nrrd"))
    assert live.end() == 0
    live = start("--cache", cache)
    number = live.ask("fit", cases=LABELED)
    live.answer(number)
    assert live.features(number) == []
    for repeat in range(20):
        live.ask("segment", case=NEW[0], out=str(folder / "out" / f"b{repeat}.seg.nrrd"))
    live.until(lambda event: event["event"] == "answered" and event["request"] == "segment")
    live.process.kill()
    live.process.wait()
    written = list((folder / "out").glob("b*.seg.nrrd"))
    assert 1 <= len(written) < 20
    assert all(path.read_bytes() == (folder / "out" / "a.seg.nrrd").read_bytes() for path in written)
    live = start("--cache", cache)
    live.asked("fit", cases=LABELED)
    live.asked("segment", case=NEW[0], out=str(folder / "out" / "c.seg.nrrd"))
    assert (folder / "out" / "c.seg.nrrd").read_bytes() == (folder / "out" / "a.seg.nrrd").read_bytes()


def test_what_cannot_begin_says_so(tmp_path, capsys, monkeypatch):
    words = ["live", "--labels", str(tmp_path), "--images", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "glmae", *words, "--backbone", "none of these"], input=b"", capture_output=True
    )
    assert ended.returncode == 2
    assert json.loads(ended.stdout.splitlines()[-1])["event"] == "failed"
    assert b"Traceback" not in ended.stderr
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main([*words[:-1], str(tmp_path / "none")]) == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["event"] == "failed"
