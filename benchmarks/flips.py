"""Do test-time flips earn their time? The models that `few_label.py --keep` left segment again, with and without.

    python benchmarks/few_label.py --data DIR --tuning --keep KEPT ...
    python benchmarks/flips.py --data DIR --kept KEPT

Each window also goes through the network flipped, and the probabilities of all are averaged. `front_and_up` flips the
axes to the front and upwards (four passes), `sides` the one from right to left, left and right classes being exchanged
(two passes). Rows go to benchmarks/results/flips.json; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from data_set import DataSet, find_data_sets
from machine import describe_machine, use
from results_file import ResultsFile
from torch import Tensor, nn

from glmae.devices import choose_device
from glmae.errors import GLMAEError
from glmae.scans.cases import Case
from glmae.segmentation.evaluation import evaluate
from glmae.segmentation.inference import segment_case
from glmae.segmentation.model import Model, load_model
from glmae.segmentation.result import write_result

RESULTS = Path(__file__).resolve().parent / "results" / "flips.json"
KEY = ("set", "labels", "seed", "method", "minutes", "settings", "device", "threads", "test_scans", "flips")
# Axes of [B, C, I, J, K], I to the right, J to the front, K upwards.
FLIPS: dict[str, tuple[int, ...]] = {"none": (), "front_and_up": (3, 4), "sides": (2,)}


class FlippedNetwork(nn.Module):
    """A network whose output for a window is the mean over all flips of it along `axes`.

    Args:
        network: gives a list of logits, full resolution first.
        axes: of [B, C, I, J, K].
        mirrored: for each output channel, the channel of the structure on the other side; the same where there is none.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int], mirrored: Sequence[int]) -> None:
        super().__init__()
        self.network, self.mirrored = network, list(mirrored)
        self.flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logarithms of the mean probabilities [B, n+1, I, J, K]."""
        total = sum(self._probabilities(x, flip) for flip in self.flips)
        assert isinstance(total, Tensor)
        return [(total / len(self.flips)).clamp_min(1e-6).log()]

    def _probabilities(self, x: Tensor, flip: tuple[int, ...]) -> Tensor:
        logits = self.network(x.flip(flip))[0].float().softmax(1).flip(flip)
        return logits[:, self.mirrored] if 2 in flip else logits


def mirrored_channels(names: Sequence[str]) -> list[int]:
    """Output channels, background first, after left and right have changed places; found by the words in the names."""
    words = {"left": "right", "right": "left"}
    other = [" ".join(words.get(word, word) for word in name.split()) for name in names]
    return [0] + [1 + (names.index(name) if name in names else at) for at, name in enumerate(other)]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        known = {data.name: data for data in find_data_sets(options.data, None)}
        results = ResultsFile(options.out, KEY)
        device = choose_device(options.device)[0]
        use(options.threads or torch.get_num_threads(), ())
        for path, flips in itertools.product(sorted(options.kept.glob("*/row.json")), FLIPS):
            kept = json.loads(path.read_text(encoding="utf-8"))["row"]
            row = {name: kept[name] for name in KEY if name in kept} | {"flips": flips, "device": device.type}
            row["threads"] = torch.get_num_threads()
            if row in results or not (path.parent / "model").is_dir():
                continue
            model = load_model(path.parent / "model", device)
            row |= score(model, known[row["set"]], kept["cases"], flips, device)
            results.add(row, describe_machine(device.type))
            print(f"{path.parent.name}, {flips}: Dice {row['dice']}, {row['segment_seconds']} s", flush=True)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def score(model: Model, data: DataSet, cases: Sequence[str], flips: str, device: torch.device) -> dict[str, Any]:
    """Segment the scans and compare with their labels: mean over the scans of the mean over the classes."""
    axes = FLIPS[flips]
    if axes:
        network = FlippedNetwork(model.network, axes, mirrored_channels(model.classes.names))
        model = replace(model, network=network)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="flips-", ignore_cleanup_errors=True) as work:
        predictions, report = Path(work) / "predictions", Path(work) / "report.json"
        predictions.mkdir()
        began = time.monotonic()
        for name in cases:
            case = Case(name, (data.image(name),))
            labels = segment_case(model, case, device).labels
            write_result(predictions / f"{name}.nii.gz", labels, model.classes, case)
        seconds = time.monotonic() - began
        evaluate(predictions=predictions, labels=data.labels, out=report)
        content: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return {"dice": round(content["mean_dice"], 5), "segment_seconds": round(seconds, 1)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Segment with and without test-time flips.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with one folder a set")
    parser.add_argument("--kept", type=Path, required=True, metavar="DIR", help="what few_label.py --keep left")
    parser.add_argument("--threads", type=int, metavar="N", help="default: as many as torch takes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
