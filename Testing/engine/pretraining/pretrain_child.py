"""A pre-training run in its own process that waits before its last step until it is killed: OUT STEPS."""

import itertools
import sys
from pathlib import Path

import torch
from sample_scans import sample_scans, small_config

from glmae.events import json_lines
from glmae.pretraining import pretrain as job

if __name__ == "__main__":
    torch.set_num_threads(1)
    job.EVENT_SECONDS = job.CHECKPOINT_SECONDS = 0.0  # each step is told, and kept
    steps, calls = int(sys.argv[2]), itertools.count(1)

    def never() -> bool:
        if next(calls) == steps - 1:
            sys.stdin.read()
        return False

    job.pretrain(
        small_config(),
        sample_scans(),
        Path(sys.argv[1]),
        steps=steps,
        device="cpu",
        should_stop=never,
        events=json_lines(),
    )
