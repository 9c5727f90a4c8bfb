"""Installing what is missing: the order, what is asked, and every way it can end."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import slicer.util
from site_packages import GOOD, OWN, SitePackages
from standins.package_installers import Installers, pytorch_extension, slicer_5_10, slicer_5_12

from GLMAESegmentationLib.setup import installation
from GLMAESegmentationLib.setup.installation import Plan, install, offer_restart, plan_installation
from GLMAESegmentationLib.setup.installation_ending import Ending, failure_of
from GLMAESegmentationLib.setup.packages import installed_packages, requirements

OTHERS = " ".join(requirements())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    """A fresh Slicer: its own packages only."""
    site = SitePackages(tmp_path / "site packages")
    for name in ("SimpleITK", "numpy"):
        site.add(name, GOOD[name])
    monkeypatch.setattr(sys, "path", [str(site.folder)])
    monkeypatch.setattr(installation.sysconfig, "get_path", lambda name: str(site.folder))
    usage = shutil.disk_usage(site.folder)
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    return site


@pytest.fixture
def installers(site: SitePackages, monkeypatch: pytest.MonkeyPatch) -> Installers:
    """Slicer 5.12 with the PyTorch extension."""
    installers = Installers(site)
    slicer_5_12(installers, monkeypatch)
    pytorch_extension(installers, monkeypatch)

    def ask(text: str, windowTitle: str | None = None, parent: object = None) -> bool:
        installers.questions.append(text)
        return installers.answer

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", ask)
    return installers


def planned(wheels: Path | None = None) -> Plan:
    return plan_installation(installed_packages(), wheels)


def test_torch_first_then_the_rest_which_may_not_replace_it(installers: Installers) -> None:
    ending = install(planned())
    assert (ending.name, ending.restart) == ("installed", True)
    assert installers.asked == ["PyTorchUtils torch>=2.8", f"pip {OTHERS}"]
    (constraints,) = installers.constraints
    assert set(constraints.split()) == {"numpy==2.4.6", "SimpleITK==2.5.7", "torch==2.8.0+cu126"}
    (question,) = installers.questions
    assert "torch>=2.8" in question
    assert "Restart Slicer." in question
    assert planned().steps == ()
    assert install(planned()).name == "installed"
    assert len(installers.questions) == 1  # nothing to do, nothing to ask


def test_slicer_5_10(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    slicer_5_10(installers, monkeypatch)
    assert install(planned()).name == "installed"
    assert installers.asked == ["PyTorchUtils torch>=2.8", f"pip {OTHERS}"]
    assert "torch==2.8.0+cu126" in installers.constraints[0]


def test_only_what_is_missing(installers: Installers, site: SitePackages) -> None:
    for name in {"torch", *OWN} - {"monai"}:
        site.add(name, GOOD[name])
    ending = install(planned())
    assert (ending.name, ending.restart) == ("installed", False)
    assert installers.asked == ["pip monai>=1.6"]


def test_an_old_torch_is_removed_first(installers: Installers, site: SitePackages) -> None:
    site.add("torch", "2.5.1")
    assert install(planned()).name == "installed"
    assert installers.asked[:2] == ["PyTorchUtils remove", "PyTorchUtils torch>=2.8"]


def test_half_a_package_is_repaired(installers: Installers, site: SitePackages) -> None:
    for name, version in GOOD.items():
        site.add(name, version)
    (site.folder / "scipy" / "core.so").unlink()
    assert install(planned()).name == "installed"
    assert installers.asked == ["pip --force-reinstall --no-deps scipy>=1.11"]


def test_offline_from_a_folder_of_wheels(installers: Installers, tmp_path: Path) -> None:
    wheels = tmp_path / "USB Stick größe"
    wheels.mkdir()
    ending = install(planned(wheels))
    assert ending.name == "wheel missing"
    assert "torch, monai, scipy" in ending.cause
    assert 'pip download "torch>=2.8" "monai>=1.6"' in ending.remedy
    for name in ("torch", *OWN):
        (wheels / f"{name}-9-py3-none-any.whl").touch()
    assert install(planned(wheels)).name == "installed"
    options = f"--no-index --find-links {wheels}"
    assert installers.asked == [f"pip {options} torch>=2.8", f"pip {options} {OTHERS}"]


def test_refused(installers: Installers) -> None:
    installers.answer = False
    ending = install(planned())
    assert ending.name == "refused"
    assert installers.asked == []


def test_refused_in_the_pytorch_extension(installers: Installers) -> None:
    installers.torch = None
    assert install(planned()).name == "refused"
    assert len(installers.asked) == 1


def test_without_the_pytorch_extension(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    ending = install(planned())
    assert ending.name == "no PyTorch extension"
    assert "Extensions Manager" in ending.remedy


def test_no_space_is_known_beforehand(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage("/")._replace(free=int(1.5e9)) if sys.platform != "win32" else None
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda path: free)
    ending = install(planned())
    assert ending.name == "no space"
    assert "1.5 GB free" in ending.cause
    assert installers.questions == []


def test_interrupted_and_gone_on_with(installers: Installers) -> None:
    installers.failure = KeyboardInterrupt()
    assert install(planned()).name == "interrupted"
    installers.failure = None
    assert install(planned()).name == "installed"


def test_something_is_still_missing_afterwards(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installers, "pip", lambda requirements, constraints: None)
    ending = install(planned())
    assert ending.name == "interrupted"
    assert "monai" in ending.cause


def test_a_torch_that_pip_replaced_is_noticed(installers: Installers, site: SitePackages) -> None:
    site.add("torch", GOOD["torch"])
    installers.replaces_torch = "2.9.0"
    ending = install(planned())
    assert ending.name == "wrong torch"
    assert "2.9.0" in ending.cause
    assert ending.restart


# What pip prints (shortened), for each cause.
WORDS = {
    "offline": "WARNING: Retrying after connection broken by 'NewConnectionError: NameResolution: "
    "[Errno -2] Name or service not known'\nERROR: No matching distribution found for torch>=2.8",
    "proxy": "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication'))",
    "no space": "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    "wrong torch": "ERROR: No matching distribution found for torch>=2.8",
    "failed": "ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied: 'torch_cpu.dll'",
}


@pytest.mark.parametrize("name", WORDS)
def test_pips_words_are_understood(installers: Installers, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    installers.failure = WORDS[name]
    ending = install(planned())
    assert ending.name == name
    assert ending.cause.endswith(".")
    assert ending.remedy.endswith(".")
    assert WORDS[name].splitlines()[0] in capsys.readouterr().out  # still in Slicer's console
    if name != "no space":
        assert "torch" in ending.log or "Tunnel" in ending.log


def test_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(log: str) -> Ending:
        return failure_of(log, "torch>=2.8", 1, 2)

    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:8080"})
    assert ended(WORDS["offline"]).name == "proxy"
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert ended("SSLError: CERTIFICATE_VERIFY_FAILED: certificate verify failed").name == "proxy"
    other = ended("ERROR: Wheel is broken.\nmore")
    assert (other.name, other.cause) == ("failed", "The installation failed: Wheel is broken.")


def test_packages_of_slicer_are_never_installed(installers: Installers, site: SitePackages) -> None:
    site.remove("SimpleITK")
    assert install(planned()).name == "Slicer damaged"
    assert installers.asked == []


def test_restart_is_offered_not_done(installers: Installers, monkeypatch: pytest.MonkeyPatch) -> None:
    restarts: list[bool] = []
    monkeypatch.setattr(slicer.util, "restart", lambda: restarts.append(True))
    installers.answer = False
    assert not offer_restart()
    assert restarts == []
    installers.answer = True
    assert offer_restart()
    assert restarts == [True]
