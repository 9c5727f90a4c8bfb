"""What a command carries: its device and the reason for it are told, and a wish to stop is one exception."""

import pytest
import torch

from glmae.errors import RequestError, Stopped
from glmae.events import recorded
from glmae.job import begin


def test_it_tells_that_it_begins_and_where():
    events: list[dict] = []
    job = begin("segment", "cpu", recorded(events), lambda: False, "run it again", cases=3)
    assert job.device == torch.device("cpu")
    assert events[0] == {"event": "started", "job": "segment", "cases": 3, "device": "cpu"}
    assert "CPU" in events[1]["message"]
    job.check()


def test_a_device_that_cannot_be_used_begins_nothing():
    events: list[dict] = []
    with pytest.raises(RequestError, match="quantum"):
        begin("segment", "quantum", recorded(events), lambda: False, "run it again")
    assert events == []


def test_the_wish_to_stop_is_one_exception_with_the_way_on():
    wishes = iter([False, True])
    job = begin("finetune", "cpu", recorded([]), lambda: next(wishes), "add --resume to go on")
    job.check()
    with pytest.raises(Stopped, match="add --resume to go on"):
        job.check()
