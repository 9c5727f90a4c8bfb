"""Which device computes, in which precision, and in how much memory."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import torch
from torch import nn

from .errors import RequestError
from .files import last_line
from .ram import free_ram

DEVICES = ("cuda", "mps", "cpu")
CPU = torch.device("cpu")


def choose_device(request: str = "auto") -> tuple[torch.device, str]:
    """The device to compute on, and why, in one sentence.

    A device counts as usable only if a small 3D convolution, forward and backward, ran on it: drivers that are too old
    and 3D operations that are missing show only then.

    Args:
        request: auto (the first usable of CUDA, MPS, CPU), cpu, cuda or mps.

    Raises:
        RequestError: the device that was asked for cannot be used.
    """
    if request == "auto":
        # A Mac has no NVIDIA GPU, and nothing else has an Apple one.
        name = "mps" if sys.platform == "darwin" else "cuda"
        problem = _problem(name)
        if problem is None:
            return torch.device(name), f"Computing on {_called(name)}."
        return torch.device("cpu"), f"Computing on {_called('cpu')}: {problem}."
    if request not in DEVICES:
        raise RequestError(f"there is no device '{request}'; choose one of auto, {', '.join(DEVICES)}")
    problem = _problem(request)
    if problem is not None:
        raise RequestError(f"device '{request}' cannot be used ({problem}); choose --device auto or cpu")
    return torch.device(request), f"Computing on {_called(request)}, as asked."


def precision(device: torch.device) -> torch.dtype:
    """The type of matrix products: bfloat16 where the hardware multiplies it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_multiplies_bfloat16() else torch.float32
    return torch.float32


def autocast(device: torch.device, half: bool = False) -> AbstractContextManager[None]:
    """The context in which networks are run on `device`, with the type of `precision`.

    Args:
        half: use bfloat16 even where it is slow, because it takes half of the memory.
    """
    dtype = torch.bfloat16 if half and device.type in ("cpu", "cuda") else precision(device)
    return torch.autocast(device.type, dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32)


def _problem(name: str) -> str | None:
    """Why the device cannot be used; None if it can."""
    if name == "cuda" and not torch.cuda.is_available():
        return "no NVIDIA GPU was found, or PyTorch is installed without CUDA"
    if name == "mps" and not torch.backends.mps.is_available():
        return "no Apple GPU was found, or PyTorch is installed without MPS"
    try:
        x = torch.ones(1, 1, 4, 4, 4, device=name)
        nn.Conv3d(1, 2, kernel_size=3).to(name)(x).sum().backward()
        x.sum().item()  # waits until the device has really done it
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        return last_line(error)
    return None


def _called(name: str) -> str:
    if name == "cuda":
        return f"the GPU {torch.cuda.get_device_name()}"
    if name == "mps":
        return "the Apple GPU"
    threads = torch.get_num_threads()
    return f"the CPU ({threads} thread{'s' if threads > 1 else ''})"


def has_matrix_units() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 in units of their own (AMX)."""
    return _cpu_has("_is_amx_tile_supported")


def _cpu_multiplies_bfloat16() -> bool:
    return has_matrix_units() or _cpu_has("_is_avx512_bf16_supported")


def _cpu_has(query: str) -> bool:
    # Both need AVX-512, which PyTorch can be told not to use (ATEN_CPU_CAPABILITY). The queries, which look at the
    # hardware alone, are young and private; without them the answer is the safe one.
    try:
        return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(getattr(torch.cpu, query)())
    except (AttributeError, RuntimeError):
        return False


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
