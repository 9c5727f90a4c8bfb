"""The set-up check: a real convolution in a process of its own, and a report that gives nobody away."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glmae
from glmae import set_up_check

ENGINE = Path(glmae.__file__).parents[1]


def test_the_command_prints_a_report_to_paste() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ENGINE)}
    done = subprocess.run(
        [sys.executable, "-m", "glmae.set_up_check"],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"GLMAE {glmae.__version__}, Python {sys.version.split()[0]}" in done.stdout
    assert "Device cpu: works, " in done.stdout
    assert "torch 2." in done.stdout
    assert "monai MISSING" not in done.stdout
    assert str(Path.home()) not in done.stdout
    if getpass.getuser() != "root":  # a word that may be in the text anyway
        assert getpass.getuser() not in done.stdout


def stand_in(tmp_path: Path, body: str) -> None:
    """A broken torch that a child process finds before the real one."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(body, encoding="utf-8")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os; os._exit(139)", "PyTorch ended the process with status 139"),
        ("raise OSError('libcudart.so: cannot open shared object file')", "does not load (libcudart.so"),
        ("raise ImportError('DLL load failed')", "does not load (DLL load failed"),
    ],
)
def test_a_torch_that_crashes_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    stand_in(tmp_path, body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = set_up_check.tried("cpu")
    assert answer["works"] is False
    assert message in answer["message"]


def test_a_torch_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(set_up_check, "ANSWER_SECONDS", 1)
    assert set_up_check.tried("cpu") == {"works": False, "message": "no answer within 1 s"}


def test_a_gpu_that_torch_does_not_use_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "cpu": {"works": True, "message": "x86_64"},
        "cuda": {"works": False, "message": "no NVIDIA GPU was found, or PyTorch is installed without CUDA"},
    }
    monkeypatch.setattr(set_up_check, "TRIED", tuple(answers))
    monkeypatch.setattr(set_up_check, "tried", answers.__getitem__)
    monkeypatch.setattr(set_up_check, "nvidia_driver", lambda: "NVIDIA RTX 4090, 535.1, 24564 MiB")
    text = set_up_check.as_text(set_up_check.report())
    assert "There is an NVIDIA GPU that PyTorch does not use" in text
    monkeypatch.setattr(set_up_check, "nvidia_driver", lambda: None)
    assert "does not use" not in set_up_check.as_text(set_up_check.report())


def test_the_exit_status_says_whether_anything_computes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(set_up_check, "tried", lambda device: {"works": False, "message": "no"})
    assert set_up_check.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)["devices"]["cpu"] == {"works": False, "message": "no"}


def test_an_error_with_a_home_folder_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmae.devices._problem", lambda name: f"{Path.home()}/lib/x.so is broken")
    answer = set_up_check.tried_here("cpu")
    assert answer["works"] is False
    assert "~/lib/x.so" in answer["message"].replace("\\", "/")


def test_memory_is_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    free, total = (float(number) for number in re.findall(r"[\d.]+", set_up_check.memory()))
    assert 0 < free <= total < 1e5
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert set_up_check.memory() == "unknown (psutil is missing)"
