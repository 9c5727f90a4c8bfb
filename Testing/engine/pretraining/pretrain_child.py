"""A pre-training run in its own process, which a test kills: OUT resume|fresh STEPS."""

import sys
from pathlib import Path

import torch
from sample_scans import sample_scans, small_config

from glmae.events import json_lines
from glmae.pretraining.job import pretrain

if __name__ == "__main__":
    torch.set_num_threads(1)
    pretrain(
        small_config(),
        sample_scans(),
        Path(sys.argv[1]),
        steps=int(sys.argv[3]),
        resume=sys.argv[2] == "resume",
        device="cpu",
        checkpoint_seconds=0.0,
        events=json_lines(),
    )
