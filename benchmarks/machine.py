"""The machine that a benchmark ran on, and the memory that a process took."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import monai
import SimpleITK as sitk
import torch


def use(threads: int, cores: Sequence[int]) -> None:
    """Compute with so many threads, tied to `cores` where any are named; before anything else is computed."""
    if cores:
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, threads and versions; with the GPU if that is the device."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
    }


def peak_rss_mb() -> float | None:
    """The most main memory this process, or one of its children, held so far, in MB of 10^6 bytes.

    None where the system does not tell.
    """
    if sys.platform == "win32":
        return None
    import resource

    # Bytes on macOS, kibibytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return round(max(_own_peak() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, children) / 1e6, 1)


def _own_peak() -> int | None:
    """Bytes, on Linux: there `getrusage` counts what the program that started this one held, too."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), None)
    except OSError:
        return None


def peak_device_mb(device: str) -> float | None:
    """The most GPU memory that tensors held so far, in MB; None on other devices."""
    return round(torch.cuda.max_memory_allocated() / 1e6, 1) if device == "cuda" else None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
