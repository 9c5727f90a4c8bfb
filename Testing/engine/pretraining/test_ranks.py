"""Pre-training in several real processes, on the CPU."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ranks_child import dense, exact, ranks_config
from sample_scans import sample_scans

from glmae import devices
from glmae.checkpoint import load_checkpoint
from glmae.errors import GLMAEError, RequestError
from glmae.pretraining.pretrain import pretrain
from glmae.pretraining.ranks import RankLost, Ranks, joined, watched

HERE = Path(__file__).parent
STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def exactly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "precision", devices.precision)  # put back afterwards
        exact()
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory, exactly):
    """The history of the same run in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    pretrain(ranks_config(), sample_scans(), out, steps=STEPS, device="cpu")
    return history(out)


def history(out):
    return np.array(json.loads((out / "history.json").read_text(encoding="utf-8"))["rows"], dtype=float)


def environment(**more):
    paths = [HERE.parents[2] / "GLMAESegmentation", HERE.parents[2], HERE]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1", **more}


def events(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def both_processes(*words):
    """What two processes that share runs printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks_child.py"), "none", *map(str, words)],
            env=environment(**address, RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    heard = []
    for process in both:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        heard.append(events(output))
    return heard


def test_two_processes_have_the_losses_of_one(tmp_path, alone):
    """With the paper's four terms, and with the dense consistency, too."""
    # Three steps: from then on its instance norms of few voxels magnify the rounding of another order of sums.
    pretrain(ranks_config(), sample_scans(), tmp_path / "one", steps=3, device="cpu", further=dense(1.0))
    out = tmp_path / "two processes"
    heard = both_processes(out, STEPS, 0.0, tmp_path / "dense", 3, 1.0)
    np.testing.assert_allclose(history(out), alone, rtol=1e-4)
    np.testing.assert_allclose(history(tmp_path / "dense"), history(tmp_path / "one"), rtol=1e-4)
    assert heard[0], "the first process reports"
    assert not heard[1], "the other one does not"
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert card["processes"] == 2


def test_a_killed_process_ends_the_run_with_one_message_and_it_goes_on_from_the_checkpoint(tmp_path, alone):
    out = tmp_path / "killed"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    child = [str(HERE / "ranks_child.py"), "1:4", str(out), str(STEPS), "0"]
    ended = subprocess.run([*torchrun, *child], env=environment(), capture_output=True, encoding="utf-8", timeout=300)
    assert ended.returncode != 0
    failures = [event for event in events(ended.stdout) if event["event"] == "failed"]
    assert [event["name"] for event in failures] == ["RankLost"], ended.stderr
    assert "--resume" in failures[0]["message"]
    checkpoint = out / "unfinished" / "checkpoint.safetensors"
    assert load_checkpoint(checkpoint).state["schedule"]["done"] in (3, 4)

    pretrain(ranks_config(), sample_scans(), out, steps=STEPS, device="cpu", resume=True)
    np.testing.assert_allclose(history(out), alone, rtol=1e-4)


def test_a_batch_is_shared_without_remainder():
    shares = [list(Ranks(index, 3).share(8)) for index in range(3)]
    assert [volume for share in shares for volume in share] == list(range(8))
    assert {len(share) for share in shares} == {2, 3}
    with pytest.raises(RequestError, match=r"batch of 2 volumes cannot be shared by 3 processes.+--batch 3"):
        Ranks(0, 3).share(2)


def test_one_process_needs_no_others(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as ranks:
        assert (ranks.first, ranks.count) == (True, 1)
        assert ranks.decided(lambda: {"a": 1}) == {"a": 1}
        assert ranks.agreed([0.5, 2.0], stop=True) == ([0.5, 2.0], True)


def test_one_of_several_processes_ends_without_shutting_the_interpreter_down():
    ending = "import atexit; from glmae.pretraining.ranks import left; atexit.register(print, 'shut down'); "
    ending += "print('written'); print(left(3))"
    for count, said in (("1", ["written", "3", "shut down"]), ("2", ["written"])):
        ended = subprocess.run(
            [sys.executable, "-c", ending],
            env=environment(WORLD_SIZE=count),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (ended.stdout.split("\n")[:-1], ended.returncode) == (said, 0 if count == "1" else 3), ended.stderr


def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="torchrun"), joined("cpu"):
        pass


def test_only_failures_of_the_connection_are_taken_for_a_lost_process():
    with pytest.raises(RankLost), watched():
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), watched():
        raise RuntimeError("shapes do not fit")
    assert issubclass(RankLost, GLMAEError)
