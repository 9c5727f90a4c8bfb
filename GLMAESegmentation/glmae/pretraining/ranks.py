"""Several processes that train one network together, as torchrun starts them, on one machine or on many.

torchrun numbers them ("rank") and tells each its number in the environment. The first one decides and writes; all
compute their share of each batch. Gradients are averaged over NCCL between GPUs, everything else over gloo on the CPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..errors import GLMAEError, RequestError

# The first process may prepare scans for hours while the others wait. A process that died is noticed at once all the
# same, because its connections close.
PATIENCE = timedelta(days=2)
TOLD = "told"


class RankLost(GLMAEError):
    """Another process of this run ended, so that this one cannot go on. What was saved can be resumed."""

    exit_status = 1


class Ranks:
    """The processes of a run, seen by one of them; a run in one process is its own first."""

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    @property
    def first(self) -> bool:
        """Whether this process decides and writes."""
        return self.index == 0

    def share(self, batch: int) -> range:
        """Which volumes of a batch this process computes.

        Raises:
            RequestError: there are more processes than volumes.
        """
        if batch < self.count:
            raise RequestError(
                f"a batch of {batch} volumes cannot be shared by {self.count} processes; start fewer, or give "
                f"--batch {self.count} or more"
            )
        return range(self.index * batch // self.count, (self.index + 1) * batch // self.count)

    def decided(self, decide: Callable[[], Any]) -> Any:
        """What `decide()` (JSON values) gives in the first process; the others are told.

        Raises:
            GLMAEError: `decide` did so.
            RankLost: another process ended.
        """
        if self.count == 1:
            return decide()
        failure: GLMAEError | None = None
        content: dict[str, Any] = {}
        if self.first:
            try:
                content = {"result": decide()}
            except GLMAEError as error:
                failure = error
                content = {"failure": str(error), "exit_status": error.exit_status}
        told = [content]
        with watched():
            dist.broadcast_object_list(told, device=torch.device("cpu"))
        content = told[0]
        if failure is not None:
            raise failure
        if "failure" in content:
            heard = GLMAEError(content["failure"])
            heard.exit_status = content["exit_status"]
            raise heard
        return content["result"]

    def agreed(self, values: Sequence[float], stop: bool) -> tuple[list[float], bool]:
        """The first process's values, and whether any process wants to stop. GPUs are not waited for.

        Raises:
            RankLost: another process ended.
        """
        if self.count == 1:
            return list(values), stop
        own = values if self.first else [0.0] * len(values)
        message = torch.tensor([*own, float(stop)], dtype=torch.float64)
        with watched():
            dist.all_reduce(message)
        *first, wishes = message.tolist()
        return first, wishes > 0

    def averaged(self, tensor: Tensor, weight: float) -> Tensor:
        """The sum over processes of `tensor` times its process's `weight`; the weights sum to 1."""
        if self.count == 1:
            return tensor
        with watched():
            weighted = tensor * weight
            dist.all_reduce(weighted)
        return weighted

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are averaged over the processes while they are computed."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started; without torchrun, this one alone.

    A failure is told to the user by one process: in the others the error that leaves the block is marked as `told`.

    Args:
        device: auto, cpu, cuda or mps, as the user said; each process takes the GPU of its number on its machine.

    Raises:
        RequestError: there are not enough GPUs, or the environment is not torchrun's.
    """
    if _processes() == 1:
        yield Ranks()
        return
    on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise RequestError(
                f"there are {torch.cuda.device_count()} GPUs on this machine and more processes; "
                "start as many with --nproc-per-node"
            )
        torch.cuda.set_device(local)
    try:
        store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise RequestError(f"the processes cannot find each other ({error}); start them with torchrun") from error
    try:
        yield Ranks(rank, count)
    except GLMAEError as error:
        error.told = _told_before(store)
        raise
    dist.destroy_process_group()


def left(status: int) -> int:
    """Exit status of a process whose work is done and written; one of several ends here and now.

    PyTorch's Reducer keeps the process group and its threads (2.13 still does). One that lets go of a tensor while the
    interpreter shuts down aborts the process, and torchrun would take a finished run for a failed one.
    """
    if _processes() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


@contextmanager
def watched() -> Iterator[None]:
    """Around everything that waits for other processes.

    Raises:
        RankLost: another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo throws plain RuntimeErrors that name their place in its source.
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error):
            raise RankLost(
                "another process of this run ended, so this one had to end, too; start again with --resume, it goes on "
                "from the last checkpoint"
            ) from error
        raise


def _processes() -> int:
    """How many torchrun started; without torchrun, this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _told_before(store: dist.Store) -> bool:
    """Whether another process tells the user already. The store is torchrun's and outlives the processes."""
    try:
        return int(store.add(TOLD, 1)) > 1
    except RuntimeError:
        return False
