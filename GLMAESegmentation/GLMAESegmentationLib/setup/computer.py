"""What kind of computer this is, as far as it decides which Python and which PyTorch are installed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Computer:
    """One kind of computer.

    Attributes:
        system: its operating system.
        machine: its processor, whatever Slicer itself was built for.
        nvidia: whether there is an NVIDIA driver, for which PyTorch is ten times as large.
    """

    system: Literal["windows", "macos", "linux"]
    machine: Literal["x86_64", "aarch64"]
    nvidia: bool = False

    @property
    def has_torch(self) -> bool:
        """Whether there is a PyTorch that is new enough: the last one for Macs with Intel's processors is 2.2.2."""
        return (self.system, self.machine) != ("macos", "x86_64")

    @property
    def download_bytes(self) -> int:
        """About how much is downloaded, Python and all packages together."""
        return (3300 if self.nvidia and self.system != "macos" else 450) * MEGABYTE

    @property
    def disk_bytes(self) -> int:
        """About how much it takes on the disk; while it is installed as much is needed, and no more."""
        return {"windows": 5800, "linux": 8300, "macos": 1700}[self.system if self.nvidia else "macos"] * MEGABYTE


def this_computer() -> Computer:
    """The computer that this runs on."""
    system: Literal["windows", "macos", "linux"]
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")  # type: ignore[assignment]
    machine = platform.machine().lower()
    arm = machine in ("arm64", "aarch64") or (system == "macos" and _apple_processor())
    # Slicer for Windows runs emulated on ARM, and so does its Python: not every package has a wheel for it.
    return Computer(system, "aarch64" if arm and system != "windows" else "x86_64", system != "macos" and _nvidia())


def _apple_processor() -> bool:
    """Slicer for macOS is a program for Intel's processors: on Apple's, it is told that it runs on one."""
    try:
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-in", "hw.optional.arm64"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == "1"


def _nvidia() -> bool:
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
