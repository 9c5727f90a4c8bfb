"""The main job on the bundled scans: fine-tune the shipped backbone on two of them, segment the others, score them."""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from overview import overview_of_folders

from glmae.errors import GLMAEError
from glmae.segmentation.batch import segment
from glmae.segmentation.evaluation import evaluate
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.finetuning import finetune
from glmae.terminal import terminal

ROOT = Path(__file__).resolve().parent.parent
SCANS = ROOT / "GLMAESegmentation" / "Resources" / "SampleScans"
OUT = ROOT / "demo-output"
LABELED = ("hippocampus_039", "hippocampus_207")
MINUTES = 4.0


def main() -> int:
    """Run the demo; 0 when its files are there."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries talking to developers
    began = time.monotonic()
    events = terminal()
    model, segmentations = OUT / "model", OUT / "segmentations"
    report, overview = OUT / "report.json", OUT / "overview.png"
    try:
        remove_previous(model, segmentations, report, overview)
        scans = sorted((SCANS / "images").glob("*.nii.gz"))
        others = [scan for scan in scans if scan.name.removesuffix(".nii.gz") not in LABELED]

        print(
            f"1/3  Fine-tuning the shipped backbone ({FinetuneConfig.preset}) on {len(LABELED)} labeled scans "
            f"({MINUTES:g} minutes)",
            flush=True,
        )
        finetune(
            images=SCANS / "images",
            labels=SCANS / "labels",
            cases=LABELED,
            backbone=FinetuneConfig.preset,
            out=model,
            minutes=MINUTES,
            events=events,
        )

        print(f"2/3  Segmenting the other {len(others)} scans", flush=True)
        failed = segment(model=model, images=others, out=segmentations, events=events)

        print("3/3  Comparing with the labels drawn by hand", flush=True)
        failed += evaluate(predictions=segmentations, labels=SCANS / "labels", out=report, events=events)
        content = json.loads(report.read_text(encoding="utf-8"))
        heading = f"Learned from {len(LABELED)} labeled scans: mean Dice {content['mean_dice']:.2f} on the others"
        overview_of_folders(overview, heading, SCANS / "images", segmentations, SCANS / "labels", content)
    except GLMAEError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_status
    print(summary(content, time.monotonic() - began))
    return 1 if failed else 0


def remove_previous(*paths: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def summary(report: dict[str, Any], seconds: float) -> str:
    """The table of scores, where the files are, and what to do next."""
    by_class: dict[str, list[float]] = {}
    for row in report["cases"]:
        if row["dice"] is not None:
            by_class.setdefault(row["class"], []).append(row["dice"])
    width = max(map(len, by_class), default=0)
    lines = ["", f"{'class':{width}}  Dice: mean  worst  best"]
    for name, values in by_class.items():
        lines.append(f"{name:{width}}        {np.mean(values):.2f}   {min(values):.2f}  {max(values):.2f}")
    lines += [
        f"mean Dice {report['mean_dice']:.2f}, {seconds / 60:.1f} minutes in all",
        "",
        f"{OUT.name}/overview.png      look at this first",
        f"{OUT.name}/segmentations/    one .seg.nrrd a scan: drag one and its scan into 3D Slicer",
        f"{OUT.name}/report.json       Dice, 95 % Hausdorff distance, volume error of each case and class",
        f"{OUT.name}/model/            the trained model; use it on other scans of this kind:",
        f"    glmae segment --model {OUT.name}/model --images FOLDER --out RESULTS",
        "Train on your own scans: glmae finetune --images SCANS --labels LABELS --out MODEL",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
