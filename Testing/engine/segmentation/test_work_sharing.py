"""Several processes on one list: no overlap, nothing lost, also when one of them dies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from threshold import batch_of, thresholded

from glmae.errors import RequestError, ScanError
from glmae.events import recorded
from glmae.segmentation.work_sharing import Claims, Rank


def test_alone():
    assert Rank.here({}) == Rank(0, 1)


ARRAY = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "10"}
STEP = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}


@pytest.mark.parametrize(
    ("environment", "number", "count"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, 3, 8),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "30"}, 2, 4),
        (STEP, 1, 2),
        (STEP | ARRAY | {"SLURM_ARRAY_TASK_ID": "20"}, 3, 8),
        # torchrun, started by SLURM, counts the processes of all its nodes.
        (STEP | {"RANK": "5", "WORLD_SIZE": "8"}, 5, 8),
    ],
)
def test_as_the_launcher_says(environment, number, count):
    assert Rank.here(environment) == Rank(number, count)


@pytest.mark.parametrize("environment", [{"RANK": "8", "WORLD_SIZE": "8"}, {"RANK": "one", "WORLD_SIZE": "2"}])
def test_a_wrong_number_is_refused(environment):
    with pytest.raises(RequestError, match="correct"):
        Rank.here(environment)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_each_case_is_in_one_share_and_in_every_order(count):
    cases = list(range(11))
    orders = [Rank(number, count).order(cases) for number in range(count)]
    assert sorted(case for order in orders for case, own in order if own) == cases
    for order in orders:
        assert sorted(case for case, _ in order) == cases
        assert [own for _, own in order] == sorted((own for _, own in order), reverse=True), "its own share first"


def test_a_claim_is_exclusive_and_leaves_nothing(tmp_path):
    first, second = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with first.claim("a", own=True) as mine:
        assert mine
        with second.claim("a", own=True) as also_mine:
            assert not also_mine
        with second.claim("b", own=False) as other:
            assert other
    with second.claim("a", own=False) as mine:
        assert mine
    with first.wait("report"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_just_removed(tmp_path, monkeypatch):
    claims = Claims(tmp_path / "claims")
    real, removed = Path.mkdir, []

    def mkdir_and_gone(self, **how):
        real(self, **how)
        if len(removed) < 2 and self.name == "claims":
            self.rmdir()
            removed.append(self)

    monkeypatch.setattr(Path, "mkdir", mkdir_and_gone)
    with claims.claim("a", own=True) as mine:
        assert mine
    assert len(removed) == 2


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(self, **_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    claims = Claims(tmp_path / "claims")
    with claims.claim("a", own=True) as mine, claims.claim("b", own=False) as other:
        assert (mine, other) == (True, False)


def started(rank: int, scans: Path, out: Path) -> subprocess.Popen[str]:
    here, engine = Path(__file__).parent, Path(__file__).parents[3] / "GLMAESegmentation"
    environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "PYTHONPATH": str(engine)}
    command = [sys.executable, str(here / "threshold.py"), str(scans), str(out), "0.1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment)


def cases_of(lines: list[str], state: str) -> list[str]:
    events = [json.loads(line) for line in lines]
    return [event["case"] for event in events if event["event"] == "case" and event["state"] == state]


def test_two_processes_one_of_them_killed(sample_scans, tmp_path):
    """One is killed in the middle of its last case; the next run finds that case left, whose lock died with it."""
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for path in sorted((sample_scans / "images").iterdir())[:6]:
        shutil.copy(path, scans)
    (scans / "hippocampus_003.nii.gz").rename(scans / "slow.nii.gz")
    names = sorted(path.name.removesuffix(".nii.gz") for path in scans.iterdir())
    share = names[1::2]
    assert share[-1] == "slow"
    first = started(1, scans, out)
    assert first.stdout is not None
    heard = []
    for line in first.stdout:
        heard.append(line)
        if cases_of(heard, "running")[-1:] == ["slow"]:
            break
    # Its own share is done but for the slow one, which it is at now.
    second = started(0, scans, out)
    output = second.communicate(timeout=120)[0].splitlines()
    assert second.returncode == 0
    assert first.poll() is None, "the first is still at work"
    assert "slow" not in cases_of(output, "running"), "a case that another process has is left to it"
    first.kill()
    heard += first.communicate()[0].splitlines()
    done = cases_of(heard, "done") + cases_of(output, "done")
    assert sorted(done) == sorted(set(names) - {"slow"}), "each once, by one of them"
    assert not (out / "slow.seg.nrrd").exists()
    assert list(out.rglob(".writing*")) == []
    events: list[dict] = []
    assert batch_of([scans], out, recorded(events)).run(thresholded) == []
    assert [event["case"] for event in events if event.get("state") == "done"] == ["slow"]
    report = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in report["cases"]] == names
    assert not (out / "report" / "claims").exists()


def test_a_slow_process_is_helped(sample_scans, tmp_path):
    """A process whose share is done takes cases of the other, from its end."""
    scans = sorted((sample_scans / "images").iterdir())[:4]
    events: list[dict] = []
    batch_of(scans, tmp_path / "out", recorded(events), rank=Rank(0, 2)).run(thresholded)
    done = [event["case"] for event in events if event.get("state") == "done"]
    names = [path.name.removesuffix(".nii.gz") for path in scans]
    assert done == [names[0], names[2], names[3], names[1]]


def test_a_failure_of_another_process_is_not_repeated_but_that_of_an_earlier_run_is(sample_scans, tmp_path):
    scans = sorted((sample_scans / "images").iterdir())[:2]
    names = [path.name.removesuffix(".nii.gz") for path in scans]

    def failing(case):
        if case.name == names[0]:
            raise ScanError(f"{case.name} is damaged; copy it again.")
        return thresholded(case)

    def second(into: list[dict]):
        return batch_of(scans, tmp_path / "out", recorded(into), rank=Rank(1, 2))

    tried: list[dict] = []

    def failing_beside(case):
        """While the second process has its first case, the first one fails with its own."""
        batch_of(scans, tmp_path / "out", recorded([]), rank=Rank(0, 2)).run(failing)
        return thresholded(case)

    second(tried).run(failing_beside)
    assert [event["case"] for event in tried if event.get("state") == "running"] == [names[1]]
    later: list[dict] = []
    time.sleep(0.05)  # the clocks of file systems are coarse
    second(later).run(thresholded)
    assert [event["case"] for event in later if event.get("state") == "done"] == [names[0]]
