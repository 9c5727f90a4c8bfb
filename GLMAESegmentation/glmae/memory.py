"""How much memory is free on a device, and which errors say that it was not enough."""

from __future__ import annotations

import torch

from .ram import free_ram


def free_memory(device: torch.device) -> int:
    """Bytes that a job may still take on `device`; for the CPU, the RAM that is free or can be made so."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What this process holds and does not use is free for it, too.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    # An Apple GPU shares the RAM.
    return free_ram()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy or torch, on any device, means that memory was not enough."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    causes = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    return any(cause in text for cause in causes)


def release(device: torch.device) -> None:
    """Give back what torch keeps for later use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def gigabytes(number: float) -> str:
    """For people: `3.2 GB`."""
    return f"{number / 1e9:.1f} GB"
