"""What goes wrong while installing has a name, leaves nothing half done that is taken for done, and is repaired."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installer_process import InstallerProcess

from GLMAESegmentationLib.engine.command import clean_environment
from GLMAESegmentationLib.setup.computer import Computer
from GLMAESegmentationLib.setup.environment import EngineEnvironment, State
from GLMAESegmentationLib.setup.installer import Ended, Installer, remove

NOWHERE = "http://127.0.0.1:9/simple"  # nobody listens there


class Small(Computer):
    """A computer for which no space is asked beforehand."""

    disk_bytes = 0


def ending(environment: EngineEnvironment, variables: dict[str, str], **words: object) -> tuple[str, str]:
    """Install in this process; how it ends."""
    computer = Small("linux", "x86_64")
    installer = Installer(environment, computer, clean_environment(os.environ | variables), **words)  # type: ignore[arg-type]
    with pytest.raises(Ended) as ended:
        installer.install()
    return ended.value.args[0], "".join(ended.value.args[1:])


def with_uv(root: Path, engine: EngineEnvironment, lock: Path) -> EngineEnvironment:
    """An environment that uv was fetched for already."""
    shutil.copytree(engine.uv.parents[1], root / "uv")
    return EngineEnvironment(root, lock)


@pytest.fixture
def small_lock(engine: EngineEnvironment, tmp_path: Path) -> Path:
    """One package of the lock."""
    lock = tmp_path / "lock.txt"
    text = engine.lock.read_text(encoding="utf-8")
    begins = text.index("\ntqdm==") + 1
    lock.write_text(text[begins : text.index("\ntyping-extensions==")] + "\n", encoding="utf-8")
    return lock


def test_killed_at_three_points_it_is_never_taken_for_done(killed: tuple[Path, list[State]]) -> None:
    """That the next installation goes on is seen by the fixture `engine`."""
    _root, states = killed
    assert states[0] in ("absent", "unfinished")
    assert states[1:] == ["unfinished", "unfinished"]


def test_two_at_once_and_a_parent_that_is_gone(tmp_path: Path, begin: Callable[..., InstallerProcess]) -> None:
    first = begin(tmp_path / "engine")
    first.when('"step": "uv"')
    assert begin(tmp_path / "engine").wait() == ("busy", "")
    first.leave()
    assert first.wait(30) == ("canceled", "")
    assert EngineEnvironment(tmp_path / "engine").state in ("absent", "unfinished")


def test_no_network_for_pip(tmp_path: Path, begin: Callable[..., InstallerProcess]) -> None:
    process = begin(tmp_path / "engine", PIP_INDEX_URL=NOWHERE, PIP_RETRIES="0")
    assert process.wait(60)[0] == "offline"


@pytest.mark.parametrize(("proxy", "name"), [("", "offline"), ("http://127.0.0.1:9", "proxy")])
def test_no_network_for_uv(
    tmp_path: Path, engine: EngineEnvironment, small_lock: Path, variables: dict[str, str], proxy: str, name: str
) -> None:
    environment = with_uv(tmp_path / "engine", engine, small_lock)
    index = {"HTTPS_PROXY": proxy} if proxy else {"UV_DEFAULT_INDEX": NOWHERE}
    assert ending(environment, variables | index | {"UV_HTTP_RETRIES": "0"})[0] == name


def test_a_wrong_hash(tmp_path: Path, engine: EngineEnvironment, small_lock: Path, variables: dict[str, str]) -> None:
    text = re.sub("sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, small_lock.read_text(encoding="utf-8"))
    small_lock.write_text(text, encoding="utf-8")
    environment = with_uv(tmp_path / "engine", engine, small_lock)
    name, detail = ending(environment, variables)
    assert name == "wrong hash"
    assert "tqdm" in detail
    assert environment.state == "unfinished"


def test_too_small_a_disk_is_known_beforehand(tmp_path: Path, begin: Callable[..., InstallerProcess]) -> None:
    huge = type("Huge", (Computer,), {"disk_bytes": 10**15})("linux", "x86_64")
    environment = EngineEnvironment(tmp_path / "engine")
    with pytest.raises(Ended, match="no space"):
        Installer(environment, huge, clean_environment(os.environ)).install()
    assert not environment.root.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_meanwhile(small_disk: Path, engine: EngineEnvironment, variables: dict[str, str]) -> None:
    environment = with_uv(small_disk / "engine", engine, engine.lock)
    name, detail = ending(environment, variables)
    assert name == "no space"
    assert int(detail.split()[0]) < 50_000_000
    assert environment.state == "unfinished"


def test_without_internet_from_a_folder(
    tmp_path: Path, wheels: Path, engine: EngineEnvironment, begin: Callable[..., InstallerProcess]
) -> None:
    """The whole way, with every server out of reach; then all of it is removed."""
    away = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "UV_FIND_LINKS": ""}
    process = begin(tmp_path / "engine", "--wheels", str(wheels), **away)
    assert process.wait() == ("installed", "")
    environment = EngineEnvironment(tmp_path / "engine")
    assert environment.state == "ready"
    with pytest.raises(Ended, match="removed"):
        remove(environment)
    assert not environment.root.exists()


def test_a_folder_without_wheels(
    tmp_path: Path, engine: EngineEnvironment, small_lock: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "usb").mkdir()
    environment = with_uv(tmp_path / "engine", engine, small_lock)
    assert ending(environment, variables, wheels=tmp_path / "usb") == ("wheel missing", "uv")
    (tmp_path / "usb" / "uv-1-py3-none-any.whl").touch()
    given = variables | {"UV_FIND_LINKS": ""}
    assert ending(environment, given, wheels=tmp_path / "usb") == ("wheel missing", "tqdm")
