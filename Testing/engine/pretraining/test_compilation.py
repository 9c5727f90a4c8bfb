import pytest
import torch
from sample_scans import small_config

from glmae.backbone.vision_transformer import Block
from glmae.events import recorded, silent
from glmae.pretraining import compilation
from glmae.pretraining.compilation import LEAST_MINUTES, LEAST_STEPS, compile_blocks
from glmae.pretraining.gl_mae import GLMAE

CUDA = torch.device("cuda")


@pytest.fixture
def model():
    return GLMAE(small_config())


@pytest.mark.parametrize(
    ("device", "steps", "minutes"),
    [("cpu", LEAST_STEPS, None), ("cuda", LEAST_STEPS - 1, None), ("cuda", None, LEAST_MINUTES / 2)],
)
def test_short_runs_and_other_devices_are_left_alone(model, device, steps, minutes, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    assert not compile_blocks(model, torch.device(device), steps, minutes, silent())


def test_where_compiling_fails_the_run_goes_on_without(model, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Cannot find a working triton installation.")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(Block, "compile", lambda *_, **__: pytest.fail("compiled"))
    heard: list[dict] = []
    assert not compile_blocks(model, CUDA, LEAST_STEPS, None, recorded(heard))
    assert "does not work here (Cannot find a working triton installation)" in heard[0]["message"]


def test_long_runs_on_a_gpu_are_compiled_block_by_block(model, monkeypatch):
    monkeypatch.setattr(compilation, "_problem", lambda *_: None)
    compiled: list[Block] = []
    monkeypatch.setattr(Block, "compile", lambda block, dynamic: compiled.append(block))
    assert compile_blocks(model, CUDA, None, LEAST_MINUTES, silent())
    assert compiled == [*model.student.blocks, *model.decoder.decoder_blocks, *model.teacher.blocks]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_computes_the_same_compiled(model):
    model = model.to(CUDA)
    views = torch.randn(2, 2, 1, 32, 32, 32, device=CUDA), torch.randn(2, 3, 1, 16, 16, 16, device=CUDA)

    def loss():
        return model.eval()(*views, [torch.Generator().manual_seed(n) for n in range(2)]).total

    before, names = loss(), list(model.state_dict())
    assert compile_blocks(model, CUDA, LEAST_STEPS, None, silent())
    torch.testing.assert_close(loss(), before, rtol=0.02, atol=0.02)
    assert list(model.state_dict()) == names
