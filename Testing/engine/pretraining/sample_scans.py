"""Real scans and a very small configuration for the tests of pre-training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from glmae.backbone.presets import BackboneConfig
from glmae.pretraining.configuration import PretrainConfig, pretrain_config

FOLDER = Path(__file__).resolve().parents[3] / "GLMAESegmentation" / "Resources" / "SampleScans" / "images"


class ScanList(list):
    """Scans in memory, [C, I, J, K] each."""

    image = list.__getitem__


def sample_scans(count=3):
    """The first bundled scans, in RAS order with mean 0 and deviation 1."""
    arrays = []
    for path in sorted(FOLDER.glob("*.nii.gz"))[:count]:
        image = sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "RAS")
        values = np.transpose(sitk.GetArrayFromImage(image))
        arrays.append(((values - values.mean()) / values.std())[None].astype(np.float16))
    return ScanList(arrays)


def small_backbone(**changes):
    content = {
        "name": "test",
        "channels": 1,
        "patch_size": (8, 8, 8),
        "width": 48,
        "depth": 2,
        "heads": 2,
        "grid": (2, 2, 2),
        "global_view": 32,
        "local_view": 16,
        "decoder_width": 24,
        "decoder_depth": 1,
        "decoder_heads": 2,
    }
    return BackboneConfig(**(content | changes))


def small_config(**changes) -> PretrainConfig:
    heads = {"hidden": 32, "bottleneck": 16, "prototypes": 40}
    small = {"backbone": small_backbone(), "batch": 2, "local_views": 3, "learning_rate": 1e-3}
    return replace(pretrain_config("tiny"), **(heads | small | changes))
