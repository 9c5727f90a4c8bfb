"""Free memory, and the errors that say that it was not enough."""

import psutil
import pytest
import torch

from glmae import devices, ram

CPU = torch.device("cpu")


def test_free_memory_of_the_cpu_is_what_the_system_says():
    free = devices.free_memory(CPU)
    assert 0 < free <= psutil.virtual_memory().total


def test_the_limit_of_a_container_counts_and_cached_files_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(ram, "_GROUP", tmp_path)
    without = devices.free_memory(CPU)
    for name, text in (("memory.max", "3000000\n"), ("memory.current", "2500000\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "memory.stat").write_text("anon 5\nactive_file 1000000\ninactive_file 500000\n", encoding="utf-8")
    assert devices.free_memory(CPU) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert devices.free_memory(CPU) == pytest.approx(without, rel=0.2)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 80000 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_errors_that_mean_it(error):
    assert devices.is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory"), KeyboardInterrupt()])
def test_errors_that_do_not(error):
    assert not devices.is_out_of_memory(error)


def test_a_real_allocation_that_is_too_large_is_recognized():
    with pytest.raises(Exception) as raised:  # noqa: PT011 which one depends on the system
        torch.empty(2**62, dtype=torch.uint8)
    assert devices.is_out_of_memory(raised.value)
