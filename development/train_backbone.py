"""Make the backbone that is shipped: GL-MAE on synthetic anatomy and on the open MR scans that may be used for it.

    python development/train_backbone.py --data DIR --out FOLDER [--minutes M | --steps N] [--synthetic N]
                                         [--setting NAME=VALUE ...] [--device D] [--seed S] [--resume]

DIR holds `hippocampus_mr` and `sarcoma_mr` in the layout of the benchmarks; only images of their pools are read, never
a test scan and never a label. FOLDER gets model.json, history.json and weights.safetensors, in half precision and
without the decoder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "GLMAESegmentation"), str(ROOT / "benchmarks"), str(ROOT)]

from data_set import read_data_set  # noqa: E402

from glmae.backbone.weights import DECODER_NAMES, WEIGHTS, read_weights, write_weights  # noqa: E402
from glmae.pretraining.configuration import pretrain_config  # noqa: E402
from glmae.pretraining.pretrain import pretrain  # noqa: E402
from glmae.scans.cases import find_images  # noqa: E402
from glmae.scans.image import read_channels  # noqa: E402
from glmae.scans.measurement import measure  # noqa: E402
from glmae.scans.preparation import plan_preparation, prepare_image  # noqa: E402
from glmae.terminal import terminal  # noqa: E402
from research.dense_consistency import dense_consistency  # noqa: E402
from research.synthetic_volumes import SyntheticScans  # noqa: E402

# Scan voxels as in fine-tuning on a CPU; real scans are a quarter of what is seen, each set half of that.
VOXELS, SIDE, REAL = 128**3, 96, 0.25
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
        """[1, I, J, K], half precision."""
        return self._scans[index][0]

    def appearances(self, index: int, /) -> tuple[np.ndarray, np.ndarray] | None:
        """Both pictures of a synthetic one; None for a real scan."""
        return None if len(self._scans[index]) == 1 else (self._scans[index][0], self._scans[index][1])


def real_scans(folder: Path) -> list[Pictured]:
    """The pool of a set, prepared as fine-tuning would."""
    data = read_data_set(folder)
    cases = find_images([data.image(name) for name in data.pool(0)])
    preparation = plan_preparation(measure(cases), VOXELS)
    return [(prepare_image(read_channels(case.images), preparation)[0].astype(np.float16),) for case in cases]


def synthetic_scan(number: int, *, count: int, seed: int) -> Pictured:
    """One synthetic anatomy in two appearances."""
    made = SyntheticScans(count, side=SIDE, seed=seed)
    return tuple(image.astype(np.float16) for image in made.appearances(number))


def synthetic_scans(count: int, seed: int) -> list[Pictured]:
    """All of them, made by as many processes as there are cores."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come: as many threads in each would wait for one another
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        return list(pool.map(partial(synthetic_scan, count=count, seed=seed), range(count), chunksize=8))


def main() -> int:
    """0: the backbone is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--synthetic", type=int, default=300, help="volumes of 96^3 (default: %(default)s)")
    parser.add_argument("--setting", nargs="+", default=[], metavar="NAME=VALUE", help="of pre-training, as JSON")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    settings: dict[str, Any] = {
        name: json.loads(value) for name, _, value in (s.partition("=") for s in options.setting)
    }
    dense = settings.get("weights", {}).pop("dense", 0.0)
    made = synthetic_scans(options.synthetic, options.seed)
    scans, counts = list(made), {"synthetic": len(made)}
    for name in SETS:
        real = real_scans(options.data / name)
        # Few scans of a set are seen as often as many of another.
        scans += real * max(1, round(REAL / (1 - REAL) / len(SETS) * len(made) / len(real)))
        counts[name] = len(real)
    folder = pretrain(
        pretrain_config("tiny", seed=options.seed).changed(settings),
        MixedScans(scans),
        options.out,
        minutes=options.minutes,
        steps=options.steps,
        device=options.device,
        resume=options.resume,
        card={"data": counts},
        events=terminal(),
        further=dense_consistency(dense),
    )
    weights = read_weights(folder / WEIGHTS)
    kept = {name: tensor.half() for name, tensor in weights.items() if not name.startswith(DECODER_NAMES)}
    write_weights(folder / WEIGHTS, kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
