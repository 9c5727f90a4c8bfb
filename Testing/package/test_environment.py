"""The set-up: what stops it is said in one line with a remedy."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "development" / "environment.py"


@pytest.fixture
def environment(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("environment", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / ".venv")
    return module


def one_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def free(environment, monkeypatch, gigabytes: dict[Path, float]) -> None:
    """Let the file systems of these folders have that much space."""
    usage = shutil.disk_usage(environment.ROOT)
    monkeypatch.setattr(
        environment.shutil, "disk_usage", lambda folder: usage._replace(free=int(gigabytes[folder] * 1e9))
    )


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_too_little_disk(environment, tmp_path, monkeypatch, capsys, system):
    free(environment, monkeypatch, {tmp_path: 3.9})
    monkeypatch.setattr(environment.sys, "platform", system)
    assert environment.main() == 1
    line = one_line(capsys)
    assert "3.9 GB free" in line
    assert "free some space" in line
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("system", "gigabytes", "said"),
    [("linux", 4.1, True), ("linux", 8.9, True), ("linux", 9.1, False), ("darwin", 4.1, False)],
)
def test_space_for_torch_on_the_cpu(environment, tmp_path, monkeypatch, capsys, system, gigabytes, said):
    """Goes on, and says where torch's builds for GPUs would not fit."""
    free(environment, monkeypatch, {tmp_path: gigabytes})
    monkeypatch.setattr(environment.sys, "platform", system)

    def create(folder, **options):
        raise OSError("reached")

    monkeypatch.setattr(environment.venv, "create", create)
    assert environment.main() == 1
    printed = capsys.readouterr()
    assert "reached" in printed.err
    assert ("GPUs need about 9 GB" in printed.out) == said


def test_a_disk_that_fills_up(environment, tmp_path, monkeypatch, capsys):
    """The fuller of the two file systems that pip writes to is named."""
    temporary = tmp_path / "temporary"
    python = environment.interpreter()
    python.parent.mkdir(parents=True)
    python.touch()
    free(environment, monkeypatch, {tmp_path: 5.0, temporary: 0.2})
    monkeypatch.setattr(environment, "imports", lambda python, package: (True, ""))
    monkeypatch.setattr(environment.tempfile, "gettempdir", lambda: str(temporary))
    full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    monkeypatch.setattr(
        environment.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 1, stderr=full)
    )
    assert environment.main() == 1
    line = one_line(capsys)
    assert f"{temporary} has 0.2 GB free" in line
    assert "free some space" in line


def test_an_unsupported_python(environment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "SUPPORTED", ((3, 98), (3, 99)))
    assert environment.main() == 1
    assert "3.98 to 3.99" in one_line(capsys)
    assert not (tmp_path / ".venv").exists()


def test_a_missing_system_library(environment):
    works, message = environment.imports(Path(sys.executable), "ctypes; ctypes.CDLL('libEGL-of-no-system.so.1')")
    assert not works
    if sys.platform == "linux":
        assert "libegl1" in environment.remedy(message)


def test_a_package_that_does_not_install(environment):
    text = "WARNING: something\nERROR: No matching distribution found for glmae-nothing==1\nERROR: second\n"
    assert environment.cause(text) == "No matching distribution found for glmae-nothing==1"
