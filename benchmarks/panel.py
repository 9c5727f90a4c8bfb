"""How the panel behaves while it works: stalls, seconds from Stop to stopped and from a label to proposals, memory.

    python benchmarks/panel.py [--scans 20]

Runs the real module file, .ui, scene and child processes in a window that is on no screen, with the stand-ins of
Testing/slicer_side for what exists in the Slicer application alone, and clicks as a user does. Writes
benchmarks/results/panel.json, as far as a row is not there. A stall is the time that one turn of the event loop takes:
by the clock, and, because other programs may hold the processor meanwhile, in processor time of the panel's thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "Testing" / "slicer_side"), str(HERE.parent / "GLMAESegmentation")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
from module_window import ModuleWindow  # noqa: E402
from mrml_scene import new_scene  # noqa: E402
from panel_scene import load_scan  # noqa: E402
from results_file import ResultsFile  # noqa: E402
from scene_content import SAMPLES  # noqa: E402

RESULTS = HERE / "results" / "panel.json"
LABELED = ("hippocampus_003", "hippocampus_039")
LARGE = (512, 512, 200)
JOBS = ("training", "preview", "pause", "stop", "segmentation", "memory")


class Stalls:
    """The longest turn of the event loop, in seconds."""

    def __init__(self) -> None:
        self.clock, self.processor = 0.0, 0.0

    def turn(self, work: Callable[[], Any]) -> None:
        """Do a piece of work and remember how long it took."""
        clock, processor = time.perf_counter(), time.thread_time()
        work()
        self.clock = max(self.clock, time.perf_counter() - clock)
        self.processor = max(self.processor, time.thread_time() - processor)

    def row(self) -> dict[str, float]:
        return {"stall_ms": round(1000 * self.clock, 1), "stall_processor_ms": round(1000 * self.processor, 1)}


def turn_until(window: ModuleWindow, over: Callable[[], bool], stalls: Stalls) -> float:
    """Turn the event loop until `over`; the seconds that it took."""
    began = time.monotonic()
    while not over():
        stalls.turn(window.qt.application.processEvents)
        time.sleep(0.005)
    return round(time.monotonic() - began, 2)


def measure(window: ModuleWindow, scans: int) -> Iterator[dict[str, Any]]:
    """Train, look, pause, go on, stop, segment."""
    panel, ui = window.panel, window.ui
    at_rest = memory_mb()
    for name in LABELED:
        load_scan(name)
    names = [path.name.removesuffix(".nii.gz") for path in sorted((SAMPLES / "images").iterdir())]
    others = [name for name in names if name not in LABELED]
    for number in range(scans):
        load_scan(others[number % len(others)], labeled=False).SetName(f"scan {number + 1}")
    window.settle(4)
    ui.stepsSelector.value = 10_000
    ui.deviceSelector.currentIndex = 1

    training = Stalls()
    window.click("trainButton")
    seconds = turn_until(window, lambda: len(panel.state.loss) > 5, training)
    yield {"what": "training", "scans": len(LABELED), "seconds_to_step_6": seconds, **training.row()}

    look = Stalls()
    window.click("previewButton")
    yield {"what": "preview", "seconds": turn_until(window, lambda: bool(panel.state.preview_of), look), **look.row()}

    stalls = Stalls()
    window.click("pauseButton")
    yield {"what": "pause", "seconds": turn_until(window, lambda: not panel.busy, stalls), **stalls.row()}

    window.click("discardButton")  # with few steps, so that there is something to keep as a model soon
    ui.stepsSelector.value = 60
    window.click("trainButton")
    turn_until(window, lambda: len(panel.state.loss) > 3, training)
    stalls = Stalls()
    window.click("stopButton")
    stopped = turn_until(window, lambda: panel.state.finishing or not panel.busy, stalls)
    made = turn_until(window, lambda: not panel.busy, stalls)
    yield {"what": "stop", "seconds": stopped, "seconds_to_model": round(stopped + made, 2), **stalls.row()}

    segmenting = Stalls()
    window.click("segmentButton")
    seconds = turn_until(window, lambda: not panel.busy, segmenting)
    done = sum(scan.state == "done" for scan in panel.state.queue)
    yield {"what": "segmentation", "scans": scans, "done": done, "seconds": seconds, **segmenting.row()}
    yield {"what": "memory", "at_rest_mb": at_rest, "peak_mb": memory_mb()}


def measure_suggest(window: ModuleWindow, scans: int) -> Iterator[dict[str, Any]]:
    """The sample scans are loaded, two of them with labels: Suggest, then accept one proposal after the other."""
    panel, stalls = window.panel, Stalls()
    for name in LABELED:
        load_scan(name)
    for path in sorted((SAMPLES / "images").iterdir()):
        if (name := path.name.removesuffix(".nii.gz")) not in LABELED:
            load_scan(name, labeled=False)
    window.settle(4)
    window.ui.deviceSelector.currentIndex = 1

    def proposals(labels: int, least: int) -> Callable[[], bool]:
        def there() -> bool:
            assert panel.state.failure is None, panel.log
            return panel.state.suggest.labels == labels and panel.state.suggest.proposed >= least

        return there

    window.click("suggestButton")
    first = turn_until(window, proposals(2, 1), stalls)
    wanted = panel.state.suggest.wanted
    every = first + turn_until(window, proposals(2, wanted), stalls)
    window.click("nextButton")
    waits = []
    for accepted in range(1, 4):
        window.click("acceptButton")  # the next one is shown, and renewed first
        waits.append(turn_until(window, proposals(2 + accepted, 1), stalls))
        turn_until(window, proposals(2 + accepted, wanted - accepted), stalls)
    window.click("suggestButton")
    row = {"what": "suggest", "scans": wanted, "seconds_to_first": first, "seconds_to_all": round(every, 2)}
    yield {**row, "seconds_from_accept_to_next": waits, **stalls.row()}


def measure_large(window: ModuleWindow, scans: int) -> Iterator[dict[str, Any]]:
    """A CT and its label, as they are written for a training: single calls of Slicer."""
    from GLMAESegmentationLib.jobs.case_folder import CaseFolder
    from GLMAESegmentationLib.scene.scene_cases import SceneCase

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    array = np.random.default_rng(0).integers(-1000, 1000, LARGE[::-1], dtype=np.int16)
    slicer.util.updateVolumeFromArray(volume, array)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "CT segmentation")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("liver", "liver")
    mask = np.zeros(LARGE[::-1], np.uint8)
    mask[50:150, 150:400, 150:400] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, volume)
    scan, label = Stalls(), Stalls()
    with tempfile.TemporaryDirectory() as folder:
        cases = CaseFolder(Path(folder))
        scan.turn(lambda: cases.add(SceneCase((volume,))))
        label.turn(lambda: cases.add(SceneCase((volume,), node)))
    row = {"what": "large scan", "size": list(LARGE), "scan_ms": scan.row()["stall_processor_ms"]}
    yield {**row, "scan_and_label_ms": label.row()["stall_processor_ms"]}


def memory_mb() -> float | None:
    """The most that this process held so far, in MB of 10^6 bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--scans", type=int, default=20, help="to segment (default: 20)")
    options = parser.parse_args()
    results = ResultsFile(RESULTS, ("what",))
    rows: list[dict[str, Any]] = []
    for whats, measured in ((("suggest",), measure_suggest), (JOBS, measure), (("large scan",), measure_large)):
        if any({"what": what} not in results for what in whats):
            with tempfile.TemporaryDirectory() as folder:
                new_scene()
                window = ModuleWindow(Path(folder) / "settings")
                rows += measured(window, options.scans)
                window.close()
    if not rows:
        print(f"{RESULTS} is whole; move it away to measure anew")
        return
    # Here, because it imports torch, which the panel's process must not have had.
    assert "torch" not in sys.modules
    from machine import describe_machine

    machine = describe_machine("cpu")
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    for row in rows:
        print(row)
        if {"what": row["what"]} not in results:
            results.add({"device": "cpu", "threads": machine["threads"], "load": load, **row}, machine)


if __name__ == "__main__":
    main()
