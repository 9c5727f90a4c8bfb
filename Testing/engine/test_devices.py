import pytest
import torch

from glmae import devices
from glmae.devices import autocast, choose_device, precision
from glmae.errors import RequestError


def test_auto_gives_a_device_that_computes_and_a_reason():
    device, reason = choose_device("auto")
    assert reason.endswith(".")
    layer = torch.nn.Conv3d(1, 2, 3).to(device)
    with autocast(device):
        out = layer(torch.ones(1, 1, 4, 4, 4, device=device))
    assert out.shape == (1, 2, 2, 2, 2)
    assert out.dtype == precision(device)


def test_the_cpu_can_be_asked_for():
    device, reason = choose_device("cpu")
    assert device.type == "cpu"
    assert "as asked" in reason


def test_an_unknown_device_is_refused():
    with pytest.raises(RequestError, match="no device 'tpu'"):
        choose_device("tpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(name):
    there = torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()
    if there:
        assert choose_device(name)[0].type == name
        return
    with pytest.raises(RequestError, match=f"'{name}' .*--device auto or cpu"):
        choose_device(name)


def test_a_device_whose_convolution_fails_is_passed_over(monkeypatch):
    """A driver that is too old shows only when something is computed."""
    real = devices.nn.Conv3d.to
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def fails(self, *args, **kwargs):
        if "cuda" in args:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(devices.nn.Conv3d, "to", fails)
    monkeypatch.setattr(devices.torch, "ones", lambda *shape, device: torch.zeros(*shape))
    device, reason = choose_device("auto")
    assert device.type != "cuda"
    assert "no kernel image" in reason


@pytest.mark.parametrize(
    ("supported", "used", "dtype"),
    [(True, "AVX512", torch.bfloat16), (True, "AVX2", torch.float32), (False, "AVX512", torch.float32)],
)
def test_bfloat16_on_the_cpu_only_where_its_units_are_used(monkeypatch, supported, used, dtype):
    for query in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, query, lambda: supported, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    device = torch.device("cpu")
    assert precision(device) == dtype
    with autocast(device):
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype == dtype


def test_without_the_query_float32_is_used(monkeypatch):
    for query in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, query, raising=False)
    assert precision(torch.device("cpu")) == torch.float32
    assert precision(torch.device("mps")) == torch.float32
