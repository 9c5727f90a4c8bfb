"""Compiling the transformer blocks where that pays: in long runs on an NVIDIA GPU."""

from __future__ import annotations

import torch

from ..devices import autocast
from ..events import Events
from ..files import last_line
from .gl_mae import GLMAE

# Compiling takes about a minute; shorter runs do not earn it back.
LEAST_STEPS, LEAST_MINUTES = 2000, 20.0
# Programs for one piece of code: encoder, teacher and decoder share that of a block, each with some numbers of tokens.
PROGRAMS = 64


def compile_blocks(
    model: GLMAE, device: torch.device, steps: int | None, minutes: float | None, events: Events
) -> bool:
    """Let torch fuse the element-wise work within each block of encoder, decoder and teacher.

    Names of parameters stay. Where compiling fails (no compiler, no Triton on this system), everything is computed as
    before, and the user is told.

    Returns:
        Whether blocks are compiled.
    """
    long_enough = (steps or 0) >= LEAST_STEPS or (minutes or 0.0) >= LEAST_MINUTES
    if device.type != "cuda" or not long_enough:
        return False
    parts = [model.student.blocks, model.decoder.decoder_blocks]
    if model.teacher is not None:
        parts.append(model.teacher.blocks)
    problem = _problem(parts[0][0], model.config.backbone.width, device)
    if problem is not None:
        events.info(f"Computing without compiling, which does not work here ({problem}).")
        return False
    settings = torch._dynamo.config
    limit = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"  # its name before 2.7
    setattr(settings, limit, max(PROGRAMS, getattr(settings, limit)))
    for blocks in parts:
        for block in blocks:
            # Each of the few numbers of tokens gets its own program.
            block.compile(dynamic=False)
    return True


def _problem(block: torch.nn.Module, width: int, device: torch.device) -> str | None:
    """Compile and run one block, forwards and backwards, so that failures show before the run begins."""
    try:
        with autocast(device):
            torch.compile(block, dynamic=False)(torch.zeros(1, 8, width, device=device)).sum().backward()
    except Exception as error:  # of many kinds: no compiler, no Triton, an operating system without either
        return last_line(error)
    finally:
        block.zero_grad(set_to_none=True)
    return None
