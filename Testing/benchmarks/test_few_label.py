"""The few-label benchmark on bundled scans: its rows, going on after an interruption, the order of the grid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from coarse_scans import write_coarse_scans

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
Script = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ("hippocampus_039", "hippocampus_207", "hippocampus_003", "hippocampus_057")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two data sets: `tiny` with up to two labels, `tinier` with one."""
    for name, labels in (("tiny", 2), ("tinier", 1)):
        folder = tmp_path / "my sets" / name
        write_coarse_scans(folder, NAMES, step=2)
        files = [f"{scan}.nii.gz" for scan in NAMES]
        split = {
            "few_label": {str(n): files[:n] for n in range(1, labels + 1)},
            "pool": files[:3],
            "test": files[3:],
        }
        content = {"seeds": {"seed0": split, "seed1": split}}
        (folder / "split.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "my sets"


def run(script: Script, data: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    common = ("--data", data, "--out", out, "--device", "cpu", "--minutes", "0.03", "--labels", "1", "--seeds", "0")
    return script("few_label", *common, *words)


def test_rows_are_complete_and_made_once(
    script: Script, sets: Path, tmp_path: Path, rows_here: Callable[[str], AbstractContextManager[None]]
) -> None:
    out = tmp_path / "results" / "few_label.json"
    methods = ["glmae_scratch", "dynunet", "segresnet"]
    words = ["--sets", "tiny", "--threads", "1", "--keep", str(tmp_path / "kept")]
    if hasattr(os, "sched_getaffinity"):
        words += ["--cores", str(min(os.sched_getaffinity(0)))]
    words += ["--methods", *methods]
    first = run(script, sets, out, *words[:-2])
    assert first.returncode == 0, first.stdout + first.stderr
    with rows_here("few_label"):
        others = run(script, sets, out, *words)
    assert others.returncode == 0, others.stdout + others.stderr
    content = json.loads(out.read_text(encoding="utf-8"))
    machine = content["machine"]["cpu, 1 thread"]
    assert machine["threads"] == 1
    assert machine["cores_used"] == (1 if "--cores" in words else os.cpu_count())
    assert [row["method"] for row in content["rows"]] == methods
    for row in content["rows"]:
        assert (row["set"], row["labels"], row["seed"], row["minutes"]) == ("tiny", 1, 0, 0.03)
        assert (row["device"], row["threads"], row["test_scans"]) == ("cpu", 1, 1)
        assert (row["cases"], row["per_case"]) == ([NAMES[3]], [row["dice"]])
        assert 0 <= row["dice"] <= 1
        assert set(row["per_class"]) == {"hippocampus anterior", "hippocampus posterior"}
        assert row["hd95_mm"] is None or row["hd95_mm"] >= 0
        assert row["steps"] >= 1
        assert row["seconds"] > 0
        # Importing torch alone takes more than 100 MB.
        assert row["peak_mb"] is None or 100 < row["peak_mb"] < 8000

    # What is kept is enough to see how well flags find wrong results.
    kept = {folder.name.split(", ")[3]: folder for folder in (tmp_path / "kept").iterdir()}
    assert set(kept) == set(methods)
    assert all((folder / "predictions" / f"{NAMES[3]}.nii.gz").exists() for folder in kept.values())
    assert (kept["glmae_scratch"] / "model" / "model.json").exists()
    words_of_flags = ["--data", str(sets), "--kept", str(tmp_path / "kept"), "--out", str(tmp_path / "flags.json")]
    flags = script("flags", *words_of_flags)
    assert flags.returncode == 0, flags.stderr
    (scored,) = json.loads((tmp_path / "flags.json").read_text(encoding="utf-8"))["rows"]
    assert (scored["set"], scored["method"], scored["test_scans"]) == ("tiny", "glmae_scratch", 1)
    assert scored["classes"]["count"] == 2
    assert scored["dice"] == pytest.approx(content["rows"][0]["dice"], abs=1e-4)
    assert "all 1 rows: structures: " in flags.stdout

    # One row is lost: only that one is made again.
    lost = content["rows"].pop(0)
    out.write_text(json.dumps(content), encoding="utf-8")
    with rows_here("few_label"):
        again = run(script, sets, out, *words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("\n") == 1
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert rows[:2] == content["rows"]
    assert (rows[2]["method"], len(rows)) == (lost["method"], 3)

    page = script("few_label", "--table", "--out", out)
    line = page.stdout.splitlines()[-2]
    assert line.startswith("| tiny | 1 | 0.03 | ")
    assert all(f"| {row['dice']:.3f} |" in line for row in rows), page

    complete = out.read_bytes()
    nothing = run(script, sets, out, "--sets", "tiny", "--threads", "1", "--methods", "glmae_scratch", "dynunet")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert out.read_bytes() == complete


def test_a_wrong_request_is_one_line_and_runs_nothing(script: Script, sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "few_label.json"
    asked = (("--methods", "no such"), ("--sets", "missing"), ("--threads", "2", "--cores", "0", "1", "2"))
    for words in (*asked, ("--tuning", "--out", "")):
        words = words if words[-1] else ("--tuning", "--out", str(BENCHMARKS / "results" / "few_label.json"))
        result = run(script, sets, out, *words)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert not out.exists()


def test_it_is_a_script_too(sets: Path, tmp_path: Path) -> None:
    """As on the command line, in a process and a folder of its own."""
    command = [sys.executable, str(BENCHMARKS / "few_label.py"), "--data", str(sets), "--methods", "no such"]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr


def test_a_partial_grid_is_balanced(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from data_set import find_data_sets
    from few_label import planned

    rows = [
        (seed, labels, data.name, method)
        for data, labels, seed, method in planned(find_data_sets(sets, None), [1, 2, 4], [0, 1], ["dynunet", "atlas"])
    ]
    one = [("tinier", "dynunet"), ("tinier", "atlas"), ("tiny", "dynunet"), ("tiny", "atlas")]
    cells = [(0, 1, one), (0, 2, one[2:]), (1, 1, one), (1, 2, one[2:])]
    assert rows == [(seed, labels, *cell) for seed, labels, cell_rows in cells for cell in cell_rows]


def test_a_scan_to_test_on_is_never_trained_on(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from data_set import read_data_set
    from few_label import validation

    from glmae.errors import RequestError

    data = read_data_set(sets / "tiny")
    assert validation(data, 0, 1) == NAMES[1:3]
    content = json.loads((sets / "tiny" / "split.json").read_text(encoding="utf-8"))
    content["seeds"]["seed1"]["pool"].append("hippocampus_057.nii.gz")
    (sets / "tiny" / "split.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RequestError, match="seed1 trains and tests on hippocampus_057"):
        read_data_set(sets / "tiny")


def test_rows_of_two_processes_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from results_file import ResultsFile

    one, two = (ResultsFile(tmp_path / "rows.json", ("seed", "threads")) for _ in range(2))
    rows = [{"seed": seed, "device": "cpu", "threads": threads} for seed, threads in ((0, 1), (1, 2))]
    one.add(rows[0], {"cores": 1})
    assert rows[0] in two
    assert rows[0] | {"threads": 2} not in two
    two.add(rows[1], {"cores": 2})
    one.add(rows[0] | {"seed": 2}, {"cores": 3})
    content = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert [row["seed"] for row in content["rows"]] == [0, 1, 2]
    assert content["machine"] == {"cpu, 1 thread": {"cores": 3}, "cpu, 2 threads": {"cores": 2}}


def test_each_place_has_its_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import few_label

    from glmae.errors import RequestError

    monkeypatch.setattr(few_label.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(few_label.os, "sched_setaffinity", None, raising=False)
    assert few_label._places(None, 4) == [()]
    assert few_label._places([1, 3], 1) == [(1,), (3,)]
    assert few_label._places([0, 1, 2, 3], 2) == [(0, 1), (2, 3)]
    with pytest.raises(RequestError, match="--threads"):
        few_label._places([0, 1, 2], 2)
    monkeypatch.delattr(few_label.os, "sched_setaffinity")
    with pytest.raises(RequestError, match="leave --cores out"):
        few_label._places([0], 1)


def test_a_row_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time, never two in one place, nothing twice."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import few_label

    done: list[int] = []
    busy: set[tuple[int, ...]] = set()

    def row(data, test, row, cores, results, keep):
        assert cores not in busy
        busy.add(cores)
        done.append(row["seed"])
        busy.remove(cores)
        return row["seed"] != 1

    monkeypatch.setattr(few_label, "_run", row)
    jobs = [(None, (), {"seed": seed}) for seed in range(6)]
    assert not few_label._run_all(jobs, [(0,), (1,)], [{"seed": 3}])
    assert sorted(done) == [0, 1, 2, 4, 5]
    assert few_label._run_all(jobs[2:], [(0,), (1,)], [{"seed": 3}])


def test_what_cannot_be_run_is_left_out_unless_nothing_else_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import few_label

    from glmae.errors import RequestError

    monkeypatch.setattr(few_label, "interpreter", lambda: tmp_path / "python")
    assert few_label._possible(["dynunet", "nnunet"]) == ["dynunet"]
    assert "nnunet_environment.py" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"nnunet_environment\.py"):
        few_label._possible(["nnunet"])


def test_the_table_says_each_seed_mean_and_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import few_label

    row = {"set": "tiny", "labels": 1, "minutes": 3.0, "settings": {}, "seconds": 9.6}
    rows = [row | {"seed": seed, "method": "dynunet", "dice": dice} for seed, dice in ((1, 0.6), (0, 0.5), (2, 0.7))]
    rows += [
        row | {"seed": 0, "method": "glmae_instant", "dice": 0.8},
        rows[0] | {"settings": {"rate": 1}},
        rows[0] | {"set": "more", "dice": 0.2},
    ]
    assert few_label.table(rows).splitlines() == [
        "| set | labels | minutes | glmae_instant | dynunet |",
        "| --- | --- | --- | --- | --- |",
        "| more | 1 | 3 |  | 0.200 |",
        "| tiny | 1 | 3 | 0.800 (10 s) | 0.500, 0.600, 0.700: 0.600 ± 0.100 |",
        "| mean | 1 | 3 | 0.800 (1 sets) | 0.400 (2 sets) |",
    ]
