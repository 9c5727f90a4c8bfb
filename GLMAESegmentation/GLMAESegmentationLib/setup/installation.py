"""Installing what is missing into Slicer's Python: PyTorch first, through the extension of that name, then the rest.

Called on a click only, on Slicer's main thread. Every way it can end has a name, a cause and a remedy (`Ending`).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..translation import tr as _
from .installation_ending import Ending, failure_of, no_space
from .packages import Package, installed_packages, space_needed

REQUESTER = "GLMAE"


@dataclass(frozen=True)
class Plan:
    """What will be done, in this order.

    Attributes:
        torch: the requirement to install PyTorch with; None when it is there.
        remove_torch: whether what is there of it must be removed first.
        repairs: the other requirements of which a part is there; pip would take them for installed.
        others: the other requirements.
        keep: NAME==VERSION of what must stay as it is.
        bytes_needed: free disk space.
        wheels: a folder to install from instead of the internet.
    """

    torch: str | None
    remove_torch: bool
    repairs: tuple[str, ...]
    others: tuple[str, ...]
    keep: tuple[str, ...]
    bytes_needed: int
    wheels: Path | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """Each step as a sentence, for the user to read beforehand."""
        source = "" if self.wheels is None else _(" from {folder}").format(folder=self.wheels)
        steps = []
        if self.torch is not None:
            if self.remove_torch:
                steps.append(_("Remove the PyTorch that is there."))
            how = _("with the PyTorch extension") if self.wheels is None else _("with pip")
            steps.append(_("Install {name} {how}{source}.").format(name=self.torch, how=how, source=source))
        if self.repairs or self.others:
            names = ", ".join((*self.repairs, *self.others))
            steps.append(_("Install {names}{source}.").format(names=names, source=source))
        if self.torch is not None:
            steps.append(_("Restart Slicer."))
        return tuple(steps)


def plan_installation(packages: Sequence[Package], wheels: Path | None = None) -> Plan:
    """What has to be done, given the state of the packages.

    Args:
        packages: as `installed_packages` gives them.
        wheels: a folder of wheels, for computers without internet.
    """
    lacking = [package for package in packages if package.state != "installed"]
    torch = next((package for package in lacking if package.name == "torch"), None)
    present = [package for package in packages if package.state == "installed" and package.found]
    return Plan(
        torch=None if torch is None else torch.requirement,
        remove_torch=torch is not None and torch.state in ("too old", "incomplete"),
        repairs=tuple(p.requirement for p in lacking if p.name != "torch" and p.state == "incomplete"),
        others=tuple(p.requirement for p in lacking if p.name != "torch" and p.state != "incomplete"),
        keep=tuple(f"{p.name}=={p.found}" for p in present if p.name.lower() in ("torch", "numpy", "simpleitk")),
        bytes_needed=space_needed(lacking),
        wheels=wheels,
    )


def install(plan: Plan) -> Ending:
    """Ask once, install, look again. Nothing is installed unless the user agrees.

    Returns:
        How it ended; it does not raise.
    """
    import slicer

    obstacle = _obstacle(plan)
    if obstacle is not None:
        return obstacle
    if not plan.steps:
        return Ending("installed", _("Everything that GLMAE needs is installed."))
    question = _("GLMAE will change Slicer's Python packages:") + "\n\n" + "\n".join(plan.steps)
    if not slicer.util.confirmOkCancelDisplay(question, REQUESTER):
        return Ending("refused", _("Nothing was installed."), _("Press Install when you are ready."))
    log = io.StringIO()
    try:
        with _copied_output(log):
            if plan.torch is not None:
                _install_torch(plan)
            if plan.repairs or plan.others:
                _install_others(plan)
    except KeyboardInterrupt:
        return Ending(
            "interrupted",
            _("The installation was interrupted."),
            _("Press Install again; it goes on and repairs what is incomplete."),
            restart=plan.torch is not None,
            log=log.getvalue(),
        )
    except ModuleNotFoundError as error:
        if error.name == "PyTorchUtils":
            return Ending(
                "no PyTorch extension",
                _("Slicer's extension PyTorch, which installs PyTorch, is not there."),
                _("Install it in the Extensions Manager, restart Slicer, and press Install again."),
            )
        return failure_of(f"{log.getvalue()}\n{error}", plan.torch or "PyTorch", plan.bytes_needed, _free_bytes())
    except _Refused:
        return Ending("refused", _("PyTorch was not installed."), _("Press Install when you are ready."))
    except Exception as error:  # whatever pip, Slicer or the PyTorch extension raise
        return failure_of(f"{log.getvalue()}\n{error}", plan.torch or "PyTorch", plan.bytes_needed, _free_bytes())
    return _looked_again(plan, log.getvalue())


def offer_restart() -> bool:
    """Ask whether to restart Slicer now, and do it.

    Returns:
        False when the user would rather not.
    """
    import slicer

    if not slicer.util.confirmYesNoDisplay(
        _("PyTorch was installed. Slicer should be restarted before it is used. Restart now?"), REQUESTER
    ):
        return False
    slicer.util.restart()
    return True


class _Refused(Exception):
    pass


def _install_torch(plan: Plan) -> None:
    if plan.wheels is not None:
        _pip_install(["--no-index", "--find-links", str(plan.wheels), str(plan.torch)])
        return
    logic = importlib.import_module("PyTorchUtils").PyTorchUtilsLogic()
    if plan.remove_torch:
        logic.uninstallTorch()
    version = str(plan.torch).removeprefix("torch")
    # The user was asked already. This call imports torch into Slicer's process: a restart is offered afterwards.
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=version) is None:
        raise _Refused


def _install_others(plan: Plan) -> None:
    torch = next((p for p in installed_packages() if p.name == "torch"), None)
    keep = [pin for pin in plan.keep if not pin.startswith("torch==")]
    if torch is not None and torch.found is not None:
        keep.append(f"torch=={torch.found}")  # with its CUDA build: pip must not replace it
    with tempfile.TemporaryDirectory(prefix="glmae-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(keep) + "\n", encoding="utf-8", newline="\n")
        options = [] if plan.wheels is None else ["--no-index", "--find-links", str(plan.wheels)]
        if plan.repairs:
            _pip_install(["--force-reinstall", "--no-deps", *options, *plan.repairs], constraints)
        if plan.others:
            _pip_install([*options, *plan.others], constraints)


def _pip_install(words: list[str], constraints: Path | None = None) -> None:
    """Slicer 5.12 has `slicer.packaging`; the only place that knows 5.10, which has not."""
    import slicer

    try:
        packaging: Any = importlib.import_module("slicer.packaging")
    except ModuleNotFoundError:
        pins = [] if constraints is None else ["--constraint", str(constraints)]
        slicer.util.pip_install([*pins, *words])
        return
    if words[0].startswith("-"):
        packaging.pip_install(words, constraints=constraints, requester=REQUESTER)
    else:
        packaging.pip_ensure(
            words, constraints=constraints, prompt_install=False, prompt_restart=False, requester=REQUESTER
        )


def _obstacle(plan: Plan) -> Ending | None:
    """What can be known beforehand."""
    if any(line.startswith(("SimpleITK", "numpy")) for line in (*plan.repairs, *plan.others)):
        return Ending(
            "Slicer damaged",
            _("Packages that Slicer brings along (SimpleITK, numpy) are missing or too old."),
            _("Install Slicer again, then press Install."),
        )
    if plan.wheels is not None:
        absent = _wheels_missing(plan)
        if absent:
            return Ending(
                "wheel missing",
                _("{folder} has no wheel of {names}.").format(folder=plan.wheels, names=", ".join(absent)),
                _(
                    "On a computer with internet and the same system and Python {version}, run: "
                    "pip download {requirements} -d FOLDER; copy that folder here."
                ).format(
                    version=".".join(map(str, sys.version_info[:2])),
                    requirements=" ".join(f'"{line}"' for line in _asked_for(plan)),
                ),
            )
    free = _free_bytes()
    return no_space(plan.bytes_needed, free) if free < plan.bytes_needed else None


def _free_bytes() -> int:
    return shutil.disk_usage(sysconfig.get_path("purelib")).free


def _asked_for(plan: Plan) -> list[str]:
    return [line for line in (plan.torch, *plan.repairs, *plan.others) if line]


def _wheels_missing(plan: Plan) -> list[str]:
    assert plan.wheels is not None
    files = list(plan.wheels.glob("*.whl")) if plan.wheels.is_dir() else []
    there = {re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower() for file in files}
    wanted = [line.split(">=")[0] for line in _asked_for(plan)]
    return [name for name in wanted if name.lower() not in there]


def _looked_again(plan: Plan, log: str) -> Ending:
    packages = installed_packages()
    torch = next(package for package in packages if package.name == "torch")
    before = next((pin.partition("==")[2] for pin in plan.keep if pin.startswith("torch==")), None)
    if torch.state == "too old" or (before is not None and torch.found != before):
        return Ending(
            "wrong torch",
            _("PyTorch is now {found}; {needed} or later is needed, as the PyTorch extension installs it.").format(
                found=torch.found or "?", needed=torch.needed
            ),
            _("Restart Slicer and press Install before anything else."),
            restart=True,
            log=log,
        )
    lacking = [package.name for package in packages if package.state != "installed"]
    if lacking:
        return Ending(
            "interrupted",
            _("Not everything was installed: {names}.").format(names=", ".join(lacking)),
            _("Press Install again; it goes on and repairs what is incomplete."),
            restart=plan.torch is not None,
            log=log,
        )
    return Ending(
        "installed",
        _("Everything that GLMAE needs is installed."),
        _("Restart Slicer.") if plan.torch is not None else "",
        restart=plan.torch is not None,
        log=log,
    )


class _Copy(io.TextIOBase):
    def __init__(self, shown: Any, kept: io.StringIO) -> None:
        self._shown, self._kept = shown, kept

    def write(self, text: str) -> int:
        self._kept.write(text)
        if self._shown is not None:
            self._shown.write(text)
        return len(text)

    def flush(self) -> None:
        if self._shown is not None and hasattr(self._shown, "flush"):
            self._shown.flush()


@contextlib.contextmanager
def _copied_output(kept: io.StringIO) -> Iterator[None]:
    """Slicer prints pip's words to its console, here too; its exception does not hold them."""
    with contextlib.redirect_stdout(_Copy(sys.stdout, kept)):
        yield
