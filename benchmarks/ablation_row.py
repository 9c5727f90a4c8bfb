"""One job of the ablation in a process of its own: `ablation_row.py pretrain|finetune ASKED.json ANSWER.json`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for research

from data_set import read_data_set
from few_label_row import score
from machine import describe_machine, use
from task import Task
from torch import Tensor

from glmae.backbone.vision_transformer import VisionTransformer
from glmae.errors import GLMAEError
from glmae.files import write_json
from glmae.model_folder import read_model
from glmae.pretraining.image_files import pretrain_images
from glmae.segmentation.batch import segment
from glmae.segmentation.finetuning import finetune
from research.dense_consistency import dense_consistency


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A backbone to make.

    Attributes:
        set_folder: of the data set.
        pool: the scans to learn from.
        out: the backbone folder.
        weights: those of `LossWeights` that differ.
        minutes: length; exclusive with `steps`.
        steps: length.
        device: cpu, cuda or mps.
        threads: to compute with.
        cores: to be tied to; none: any.
    """

    set_folder: str
    pool: tuple[str, ...]
    out: str
    weights: Mapping[str, float]
    minutes: float | None
    steps: int | None
    device: str
    threads: int
    cores: tuple[int, ...] = ()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A fine-tuning to do and to score.

    Attributes:
        set_folder: of the data set.
        labeled: the scans to train on.
        test: the scans to score on.
        backbone: folder to start from; None: from scratch.
        steps: of fine-tuning.
        seed: of fine-tuning.
        device: cpu, cuda or mps.
        threads: to compute with.
        cores: to be tied to; none: any.
    """

    set_folder: str
    labeled: tuple[str, ...]
    test: tuple[str, ...]
    backbone: str | None
    steps: int
    seed: int
    device: str
    threads: int
    cores: tuple[int, ...] = ()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def pretrain(asked: Pretraining) -> dict[str, Any]:
    """Make the backbone."""
    data = read_data_set(Path(asked.set_folder))
    out = Path(asked.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    pool = out.with_suffix(".txt")
    pool.write_text("\n".join(str(data.image(name).resolve()) for name in asked.pool), encoding="utf-8")
    pretrain_images(
        images=pool,
        out=out,
        minutes=asked.minutes,
        steps=asked.steps,
        device=asked.device,
        settings={"weights": {name: weight for name, weight in asked.weights.items() if name != "dense"}},
        further=dense_consistency(asked.weights.get("dense", 0.0)),
        resume=True,
    )
    return {}


def ablate(asked: Ablation) -> dict[str, Any]:
    """Fine-tune, segment, score; with the tokens as they are, and with zeros instead of them."""
    data = read_data_set(Path(asked.set_folder))
    schedule: dict[str, Any] = {}
    if asked.backbone is not None:
        schedule = read_model(Path(asked.backbone), "backbone").content["schedule"]
    with tempfile.TemporaryDirectory(prefix="ablation-", ignore_cleanup_errors=True) as folder:
        began = time.monotonic()
        model = finetune(
            images=data.images,
            labels=data.labels,
            out=Path(folder) / "model",
            cases=asked.labeled,
            backbone=asked.backbone or "none",
            steps=asked.steps,
            seed=asked.seed,
            device=asked.device,
        ).folder
        row: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
        row |= _scored(asked, model, Path(folder) / "with")
        with no_tokens():
            row["zeroed_dice"] = _scored(asked, model, Path(folder) / "without")["dice"]
    return row | {"pretrain_seconds": schedule.get("seconds"), "pretrain_steps": schedule.get("done")}


@contextmanager
def no_tokens() -> Iterator[None]:
    """The backbone's token maps are zero: what is left of the Dice does not come from the transformer."""
    features = VisionTransformer.features

    def zeros(self: VisionTransformer, *arguments: Any, **named: Any) -> list[Tensor]:
        return [torch.zeros_like(part) for part in features(self, *arguments, **named)]

    VisionTransformer.features = zeros  # type: ignore[method-assign]
    try:
        yield
    finally:
        VisionTransformer.features = features  # type: ignore[method-assign]


def _scored(asked: Ablation, model: Path, work: Path) -> dict[str, Any]:
    work.mkdir()
    task = Task(
        set_folder=asked.set_folder,
        labels=len(asked.labeled),
        seed=asked.seed,
        method="glmae",
        minutes=0,
        device=asked.device,
        threads=asked.threads,
        labeled=asked.labeled,
        pool=asked.labeled,
        test=asked.test,
        work=str(work),
    )
    failed = segment(
        model=model, images=task.test_images, out=task.predictions, file_format="nii.gz", device=asked.device
    )
    if failed:
        raise GLMAEError(f"{', '.join(failed)} could not be segmented")
    scores = score(task)
    return {name: scores[name] for name in ("dice", "per_case", "per_class", "hd95_mm")}


def main(arguments: list[str]) -> int:
    warnings.filterwarnings("ignore")  # libraries talking to developers
    job, question, answer = arguments[0], Path(arguments[1]), Path(arguments[2])
    content = json.loads(question.read_text(encoding="utf-8"))
    content |= {name: tuple(content[name]) for name in ("labeled", "test", "pool", "cores") if name in content}
    use(content["threads"], content["cores"])
    try:
        row = pretrain(Pretraining(**content)) if job == "pretrain" else ablate(Ablation(**content))
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    write_json(answer, {"row": row, "machine": describe_machine(content["device"])})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
