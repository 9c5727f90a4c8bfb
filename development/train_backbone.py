"""Make the backbone that is shipped: GL-MAE on synthetic anatomy and on the open MR scans that may be used for it.

    python development/train_backbone.py --data DIR --out FOLDER [--minutes M] [--synthetic N] [--seed S] [--resume]

DIR holds `hippocampus_mr` and `sarcoma_mr` in the layout of the benchmarks; only images of their pools are read, never
a test scan and never a label. FOLDER gets model.json, history.json and weights.safetensors in half precision.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "GLMAESegmentation"), str(ROOT / "benchmarks")]

from data_set import read_data_set  # noqa: E402

from glmae.backbone.weights import WEIGHTS, read_weights, write_weights  # noqa: E402
from glmae.pretraining.configuration import pretrain_config  # noqa: E402
from glmae.pretraining.job import pretrain  # noqa: E402
from glmae.pretraining.synthetic_volumes import SyntheticScans  # noqa: E402
from glmae.scans.cases import find_images  # noqa: E402
from glmae.scans.fingerprint import measure  # noqa: E402
from glmae.scans.image import read_channels  # noqa: E402
from glmae.scans.preparation import plan_preparation, prepare_image  # noqa: E402
from glmae.terminal import terminal  # noqa: E402

# Scan voxels as in fine-tuning on a CPU. Few scans of a set are seen as often as many of another.
VOXELS, SEEN = 128**3, 90
SETS = ("hippocampus_mr", "sarcoma_mr")

Pictured = tuple[np.ndarray, ...]


class MixedScans:
    """Real scans, and synthetic ones in two appearances, all kept in memory in half precision."""

    channels = 1

    def __init__(self, scans: Sequence[Pictured]) -> None:
        self._scans = list(scans)

    def __len__(self) -> int:
        return len(self._scans)

    def image(self, index: int, /) -> np.ndarray:
        """[1, I, J, K] float32."""
        return self._scans[index][0].astype(np.float32)

    def appearances(self, index: int, /) -> tuple[np.ndarray, np.ndarray] | None:
        """Both pictures of a synthetic one; None for a real scan."""
        if len(self._scans[index]) == 1:
            return None
        first, second = self._scans[index]
        return first.astype(np.float32), second.astype(np.float32)


def real_scans(folder: Path) -> list[Pictured]:
    """The pool of a set, prepared as fine-tuning would, repeated to count alike."""
    data = read_data_set(folder)
    cases = find_images([data.image(name) for name in data.pool(0)])
    preparation = plan_preparation(measure(cases), VOXELS)
    scans = [prepare_image(read_channels(case.images), preparation)[0].astype(np.float16) for case in cases]
    return [(scan,) for scan in scans] * max(1, round(SEEN / len(scans)))


def main() -> int:
    """0: the backbone is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--synthetic", type=int, default=300, help="volumes of 96^3 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    made = SyntheticScans(options.synthetic, side=96, seed=options.seed)
    scans: list[Pictured] = [
        tuple(image.astype(np.float16) for image in made.appearances(number)) for number in range(len(made))
    ]
    real = {name: real_scans(options.data / name) for name in SETS}
    folder = pretrain(
        pretrain_config("tiny", seed=options.seed),
        MixedScans(scans + [scan for entries in real.values() for scan in entries]),
        options.out,
        minutes=options.minutes,
        resume=options.resume,
        card={"data": {"synthetic": len(scans)} | {name: len(entries) for name, entries in real.items()}},
        events=terminal(),
    )
    weights = read_weights(folder / WEIGHTS)
    write_weights(folder / WEIGHTS, {name: tensor.half() for name, tensor in weights.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
