"""Pictures of a run: that they are written, whole, and show what they say."""

import errno
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from sample_scans import sample_scans, small_config

from glmae.errors import Stopped, StorageError
from glmae.pretraining import pretrain as job
from glmae.pretraining.pictures import LOSSES, RECONSTRUCTIONS, draw_losses, draw_pictures, reconstructed
from glmae.pretraining.pretrain import pretrain
from glmae.pretraining.run import COLUMNS, Run
from glmae.schedule import Schedule


@pytest.fixture
def run():
    return Run(small_config(), torch.device("cpu"), Schedule(4, None), checkpoint=None)


def test_pictures_are_drawn_during_the_run_and_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "PICTURE_SECONDS", 0.0)
    monkeypatch.setattr(job, "PICTURE_SHARE", 0)
    out = tmp_path / "Lauf 1"
    with pytest.raises(Stopped):
        pretrain(
            small_config(), sample_scans(), out, steps=3, device="cpu", pictures=True, should_stop=iter([0, 1]).__next__
        )
    for name in (LOSSES, RECONSTRUCTIONS):
        picture = imread(out / "unfinished" / name)
        assert picture.ndim == 3
        assert picture[..., :3].std() > 0.02, "it is not empty"
    pretrain(small_config(), sample_scans(), out, steps=3, device="cpu", pictures=True, resume=True)
    assert {LOSSES, RECONSTRUCTIONS} <= {path.name for path in out.iterdir()}


def test_drawing_changes_nothing_in_the_run(tmp_path):
    folders = [
        pretrain(small_config(), sample_scans(), tmp_path / str(drawn), steps=2, device="cpu", pictures=drawn)
        for drawn in (False, True)
    ]
    plain, drawn = (folder.joinpath("weights.safetensors").read_bytes() for folder in folders)
    assert plain == drawn
    assert not (folders[0] / LOSSES).exists()


def test_what_is_visible_is_the_original_and_what_is_masked_is_predicted(run):
    original, masked, filled = reconstructed(run, sample_scans())
    assert original.shape == masked.shape == filled.shape == (2, 32, 32, 32)
    hidden = masked == 0
    assert 0.5 < hidden.mean() < 0.7
    np.testing.assert_array_equal(filled[~hidden], original[~hidden])
    assert not np.array_equal(filled[hidden], original[hidden])
    again = reconstructed(run, sample_scans())
    np.testing.assert_array_equal(again[2], filled)


def test_curves_hold_the_terms_that_were_computed(tmp_path, monkeypatch):
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (figures.append(self), path.touch()))
    rows = [[step, 3.0, 1 / step, 2 / step, math.nan, 4.0, math.nan, 5.0, 1e-3, 0.99] for step in range(1, 1001)]
    assert len(rows[0]) == len(COLUMNS)
    draw_losses(tmp_path / LOSSES, rows)
    curves = {line.get_label(): line.get_xydata() for axes in figures[0].axes for line in axes.lines}
    assert set(curves) == {"local-reconstruction", "global-reconstruction", "global-local", "further"}
    first = curves["local-reconstruction"][0]
    np.testing.assert_allclose(first, [2.0, (1 + 1 / 2 + 1 / 3) / 3])


def test_a_full_disk_leaves_the_last_picture(tmp_path, run, monkeypatch):
    draw_pictures(run, sample_scans(), tmp_path)
    before = (tmp_path / RECONSTRUCTIONS).read_bytes()

    def full(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(StorageError, match="the disk is full"):
        draw_pictures(run, sample_scans(), tmp_path)
    assert (tmp_path / RECONSTRUCTIONS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [RECONSTRUCTIONS]
