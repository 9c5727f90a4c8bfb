"""The set-up: what stops it is said in one line with a remedy."""

import importlib.util
import shutil
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


def test_too_little_disk(environment, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage._replace(free=int(1.2e9)))
    assert environment.main() == 1
    line = one_line(capsys)
    assert "1.2 GB free" in line
    assert "free some space" in line
    assert not (tmp_path / ".venv").exists()


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
