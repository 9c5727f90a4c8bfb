"""The mean teacher: it follows the student, sees scans without labels, and its weight rises."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCANS = BENCHMARKS.parent / "GLMAESegmentation" / "Resources" / "SampleScans" / "images"
NAMES = ("hippocampus_039", "hippocampus_207")


@pytest.fixture
def teacher(monkeypatch, tmp_path):
    """A tiny student and its teacher, on the bundled scans as a pool without labels."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from data_set import DataSet
    from peers.mean_teacher import MeanTeacher, MeanTeacherConfig
    from peers.training import Prepared, Shape
    from task import Task

    from glmae.scans.preparation import Normalisation, Preparation

    data = DataSet("bundled", SCANS.parent, {})
    monkeypatch.setattr(Task, "data", data)
    task = Task(
        set_folder="",
        labels=1,
        seed=0,
        method="dynunet_mean_teacher",
        minutes=1,
        device="cpu",
        threads=1,
        labelled=NAMES[:1],
        pool=NAMES,
        test=(),
        work=str(tmp_path),
    )
    preparation = Preparation((1.0, 1.0, 1.0), (Normalisation("zscore"),))
    prepared = Prepared(preparation, Shape(1, 3, (16, 24, 16), (1.0,) * 3), MeanTeacherConfig(), torch.device("cpu"))
    torch.manual_seed(0)
    student = LevelsOfLogits()
    return student, MeanTeacher(task, student, prepared)


class LevelsOfLogits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 3, 3, padding=1)

    def forward(self, x):
        return [self.layer(x)]


def test_the_teacher_is_the_average_of_the_student(teacher):
    student, beside = teacher
    weights = [student.layer.weight.detach().clone()]
    expected = weights[0]
    for step in range(1, 200):
        with torch.no_grad():
            student.layer.weight += 0.1
        beside.follow(student, step)
        decay = min(1 - 1 / (step + 1), 0.99)
        expected = decay * expected + (1 - decay) * student.layer.weight.detach()
    torch.testing.assert_close(beside.network.layer.weight, expected)
    assert not beside.network.layer.weight.requires_grad


def test_the_student_learns_to_agree_and_the_teacher_is_left_alone(teacher):
    from glmae.schedule import Schedule

    student, beside = teacher
    with torch.no_grad():
        student.layer.weight.mul_(-3)
    before = beside.network.layer.weight.clone()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    schedule = Schedule(steps=40)
    schedule.done = 39  # the same crops throughout, with the full weight
    losses = []
    for _ in range(30):
        loss = beside.loss(student, schedule)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert torch.equal(beside.network.layer.weight, before)


def test_no_label_is_looked_at(teacher):
    _, beside = teacher
    batch = beside._sampler.batch(0)
    assert set(np.unique(batch.target.numpy())) == {255}
    assert not batch.annotated.any()


def test_the_weight_rises(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers.mean_teacher import MeanTeacherConfig, ramped

    config = MeanTeacherConfig(consistency=2.0, ramp_up=0.5)
    assert ramped(config, 0.0) == pytest.approx(2 * math.exp(-5))
    assert ramped(config, 0.25) == pytest.approx(2 * math.exp(-1.25))
    assert ramped(config, 0.5) == ramped(config, 1.0) == 2.0


def test_unetr_is_built_with_the_package_of_the_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers.training import PeerConfig, Shape
    from peers.unetr import VisionTransformerUNet

    network = VisionTransformerUNet(Shape(1, 3, (32, 16, 16), (1.0,) * 3), PeerConfig(features=4))
    with torch.no_grad():
        (logits,) = network.eval()(torch.zeros(1, 1, 32, 16, 16))
    assert logits.shape == (1, 3, 32, 16, 16)
    assert "einops" in sys.modules
