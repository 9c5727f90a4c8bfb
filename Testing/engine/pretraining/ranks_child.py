"""One of several processes of pre-training runs, one after another: KILLED, and for each run OUT STEPS DENSE.

KILLED is RANK:STEP or none, DENSE the weight of the dense consistency.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
from sample_scans import sample_scans, small_config

from glmae import devices
from glmae.errors import GLMAEError
from glmae.events import json_lines
from glmae.pretraining.configuration import PretrainConfig
from glmae.pretraining.pretrain import pretrain
from glmae.pretraining.ranks import joined, left
from glmae.stop_signals import StopSignals
from research.dense_consistency import DenseConsistency

BATCH = 3  # one process gets one volume, the other two


def ranks_config() -> PretrainConfig:
    """The paper's four terms."""
    return small_config(batch=BATCH)


def dense(weight: float) -> partial[DenseConsistency] | None:
    """The dense consistency, a term from outside with weights of its own, where it is asked for."""
    return partial(DenseConsistency, weight=weight, side=32, places=64) if weight else None


def exact() -> None:
    """Compute in float32, where a smaller batch means another order of sums and nothing else."""
    devices.precision = lambda device: torch.float32


class Killed:
    """Asked after each step, it ends its process as a lack of memory would."""

    def __init__(self, when: str) -> None:
        rank, _, step = when.partition(":")
        self.steps_left = int(step) if rank == os.environ["RANK"] else -1

    def __call__(self) -> bool:
        self.steps_left -= 1
        if self.steps_left == 0:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return False


if __name__ == "__main__":
    torch.set_num_threads(1)
    exact()
    events = json_lines()
    with StopSignals():  # as the command line: torchrun asks the others to end when one is lost
        try:
            with joined("cpu") as ranks:
                for out, steps, weight in zip(*(sys.argv[first::3] for first in (2, 3, 4)), strict=True):
                    pretrain(
                        ranks_config(),
                        sample_scans(),
                        Path(out),
                        steps=int(steps),
                        device="cpu",
                        should_stop=Killed(sys.argv[1]),
                        checkpoint_seconds=0.0,
                        events=events,
                        ranks=ranks,
                        further=dense(float(weight)),
                    )
        except GLMAEError as error:
            if not error.told:
                events.failed(type(error).__name__, str(error))
            sys.exit(error.exit_status)
    left(0)
