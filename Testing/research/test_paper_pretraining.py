"""The paper's pre-training: its configuration, its intensities, and a step of it on stand-ins for CT."""

from __future__ import annotations

import json

import numpy as np
import SimpleITK as sitk
from engine.published_sets import scan

from glmae.pretraining.configuration import pretrain_config
from glmae.scans.geometry import Geometry
from glmae.scans.preparation import Preparation, prepare_image
from research.paper import main
from research.paper_pretraining import PRESET, paper_preparation, paper_settings, paper_steps


def test_what_the_paper_and_its_lineage_state():
    config = pretrain_config(PRESET, seed=3).changed(paper_settings())
    backbone = config.backbone
    assert (backbone.name, backbone.patch_size, backbone.width, backbone.depth) == ("base", (16, 16, 16), 768, 12)
    assert (backbone.global_view, backbone.local_view) == (160, 96)
    assert (config.global_views, config.local_views, config.mask_ratio) == (2, 8, 0.6)
    assert (config.betas, config.weight_decay, config.seed) == ((0.9, 0.95), 0.05, 3)
    assert config.learning_rate == 1.5e-4 * config.batch / 256
    assert config.warm_up == 40 / 1600
    assert paper_steps(746) == 1600 * 94, "TCIA Covid-19 and BTCV, eight volumes a step"


def test_the_foreground_is_kept_and_hounsfield_units_are_scaled():
    image, _ = scan(0, (1, 2), side=32)
    image = sitk.Cast(sitk.Clamp(image, lowerBound=-1024, upperBound=3000), sitk.sitkInt16)
    voxels = sitk.GetArrayFromImage(image)
    voxels[voxels < -500] = -1000  # air without noise
    voxels[2, :, :] = -1024
    voxels[16, 16, 16] = 2500
    air = sitk.GetImageFromArray(voxels)
    air.SetSpacing((1.5, 1.5, 1.5))
    prepared, grid = prepare_image([air], paper_preparation())
    body = np.argwhere(voxels > -1000)[:, ::-1]
    sides = tuple(body.max(axis=0) - body.min(axis=0) + 1)
    assert prepared.shape[1:] == sides == grid.size
    assert max(sides) < 32
    assert (prepared.min(), prepared.max()) == (0, 1)
    # 20 HU lies at (20 + 1000) / 2000; each voxel is still where it was in the patient.
    assert np.median(prepared[prepared > 0]) == np.float32(0.51)
    brightest = np.unravel_index(prepared[0].argmax(), prepared.shape[1:])
    np.testing.assert_allclose(grid.point(brightest), Geometry.of(air).point((16, 16, 16)), atol=1e-4)


def test_nothing_but_air_is_kept_whole():
    voxels = np.full((16, 16, 16), -1000, dtype=np.int16)
    voxels[0, 0, 0] = -1001
    image = sitk.GetImageFromArray(voxels)
    prepared, _ = prepare_image([image], paper_preparation())
    assert prepared.shape == (1, 11, 11, 11)


def test_the_foreground_survives_json():
    assert Preparation.from_json(json.loads(json.dumps(paper_preparation().to_json()))) == paper_preparation()


def test_a_step_on_a_small_network(tmp_path):
    (tmp_path / "CT").mkdir()
    for number in range(2):
        sitk.WriteImage(scan(number, (1, 2))[0], str(tmp_path / "CT" / f"{number}.nii.gz"))
    words = ["--preset", "tiny", "--steps", "1", "--device", "cpu"]
    assert main(["pretrain", "--images", str(tmp_path / "CT"), "--out", str(tmp_path / "backbone"), *words]) == 0
    card = json.loads((tmp_path / "backbone" / "model.json").read_text(encoding="utf-8"))
    assert card["pretraining"]["prototypes"] == 65536
    assert card["preprocessing"] == json.loads(json.dumps(paper_preparation().to_json()))
