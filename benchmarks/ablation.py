"""Which part of GL-MAE helps? Five variants of pre-training, the same fine-tuning.

    python benchmarks/ablation.py --data DIR [--sets hippocampus_mr headneck_ct] [--labels 1 2] [--seeds 0 1 2]
                                  [--variants ...] [--pretrain-minutes 10] [--steps 300] [--threads 1] [--cores 0 1]

A backbone is pre-trained once for each set and variant, on the images of the pool, and kept in --work. Variants with
`_steps` have as many steps as `glmae` reached in its minutes; the others have its minutes. Fine-tuning has the same
number of steps for all. Rows go to benchmarks/results/ablation.json;
what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ablation_row import Ablation, Pretraining
from data_set import DataSet, find_data_sets
from results_file import ResultsFile

from glmae.errors import GLMAEError, RequestError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "ablation.json"
KEY = ("set", "labels", "seed", "variant", "pretrain_minutes", "finetune_steps", "device", "threads", "test_scans")
# The terms of the loss that are on, one more in each; scratch has no pre-training. `glmae` has the paper's four and
# `glmae_dense` our dense consistency besides, which pre-trains the convolutional trunk, too.
TERMS = ("local_reconstruction", "global_reconstruction", "global_global", "global_local", "dense")
ON = {"scratch": 0, "mae": 1, "mae_g": 2, "mae_gg": 3, "glmae": 4, "glmae_dense": 5}
STEPS = "_steps"
VARIANTS = (*ON, *(name + STEPS for name in ON if ON[name]))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some failed, each named; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        sets = find_data_sets(options.data, options.sets)
        results = ResultsFile(options.out, KEY)
        if options.cores and len(options.cores) % options.threads:
            raise RequestError(f"--cores: {len(options.cores)} cores cannot be shared by runs of {options.threads}")
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    groups = range(0, len(options.cores), options.threads)
    places = [tuple(options.cores[first : first + options.threads]) for first in groups] or [()]
    free: SimpleQueue[tuple[int, ...]] = SimpleQueue()
    for place in places:
        free.put(place)
    pool = ThreadPoolExecutor(len(places))

    def pretrain(job: tuple[DataSet, str]) -> bool:
        place = free.get()
        try:
            return _pretrained(*job, options, place) is not None
        finally:
            free.put(place)

    def finetune(job: tuple[DataSet, int, int, str]) -> bool:
        place = free.get()
        try:
            return _row(*job, options, place, results)
        finally:
            free.put(place)

    # First glmae at equal time, which says how many steps the others have at equal steps.
    names = sorted({name for name in options.variants if ON[_base(name)]}, key=lambda name: name.endswith(STEPS))
    first = ["glmae"] if names else []
    rest = [name for name in names if name not in ("glmae", "glmae" + STEPS)]
    done = all(list(pool.map(pretrain, [(data, name) for name in first for data in sets])))
    done = all(list(pool.map(pretrain, [(data, name) for name in rest for data in sets]))) and done
    jobs = list(planned(sets, options.labels, options.seeds, options.variants))
    return 0 if all(list(pool.map(finetune, jobs))) and done else 1


def planned(
    sets: Sequence[DataSet], labels: Sequence[int], seeds: Sequence[int], variants: Sequence[str]
) -> Iterator[tuple[DataSet, int, int, str]]:
    """The rows in the order in which they are run: wherever it ends, sets and variants have been treated alike."""
    for seed in seeds:
        for count in labels:
            for data in sets:
                if data.labeled(seed, count) is not None:
                    yield from ((data, count, seed, variant) for variant in variants)


def weights(variant: str) -> dict[str, float]:
    """What a variant changes in `LossWeights`: terms that are off, and the dense one, off unless asked for."""
    on = ON[_base(variant)]
    changes = dict.fromkeys(TERMS[on:], 0.0) | ({"dense": 1.0} if on == len(TERMS) else {})
    # What keeps volumes apart in large batches (`planned_config`) belongs to the consistencies.
    return changes if on > TERMS.index("global_global") else changes | {"spread": 0.0}


def _base(variant: str) -> str:
    return variant.removesuffix(STEPS)


def _pretrained(data: DataSet, variant: str, options: argparse.Namespace, cores: tuple[int, ...]) -> Path | None:
    """Folder of a variant's backbone, made if it is not there; None: it failed."""
    name = "glmae" if variant == "glmae" + STEPS else variant
    folder = options.work / data.name / f"{name}-{options.pretrain_minutes:g}"
    if (folder / "model.json").exists():
        return folder
    steps = None
    if variant.endswith(STEPS):
        reference = options.work / data.name / f"glmae-{options.pretrain_minutes:g}" / "model.json"
        if not reference.exists():
            return None
        steps = json.loads(reference.read_text(encoding="utf-8"))["schedule"]["done"]
    asked = Pretraining(
        set_folder=str(data.folder),
        pool=data.pool(options.seeds[0]),
        out=str(folder),
        weights=weights(variant),
        minutes=None if steps else options.pretrain_minutes,
        steps=steps,
        device=options.device,
        threads=options.threads,
        cores=cores,
    )
    return folder if _child("pretrain", asked, options.threads) is not None else None


def _row(
    data: DataSet,
    labels: int,
    seed: int,
    variant: str,
    options: argparse.Namespace,
    cores: tuple[int, ...],
    results: ResultsFile,
) -> bool:
    test = data.test(seed, options.test_scans)
    row: dict[str, Any] = {"set": data.name, "labels": labels, "seed": seed, "variant": variant}
    row |= {"pretrain_minutes": options.pretrain_minutes, "finetune_steps": options.steps, "device": options.device}
    row |= {"threads": options.threads, "test_scans": len(test)}
    if row in results:
        return True
    backbone = None
    if ON[_base(variant)]:
        backbone = _pretrained(data, variant, options, cores)
        if backbone is None:
            print(f"{data.name}, {variant}: there is no backbone", file=sys.stderr, flush=True)
            return False
    asked = Ablation(
        set_folder=str(data.folder),
        labeled=data.labeled(seed, labels) or (),
        test=test,
        backbone=None if backbone is None else str(backbone),
        steps=options.steps,
        seed=seed,
        device=options.device,
        threads=options.threads,
        cores=cores,
    )
    content = _child("finetune", asked, options.threads)
    title = f"{data.name}, {labels} labels, seed {seed}, {variant}"
    if content is None:
        print(f"{title}: failed", file=sys.stderr, flush=True)
        return False
    results.add(row | content["row"], content["machine"])
    print(f"{title}: Dice {content['row']['dice']}, without tokens {content['row']['zeroed_dice']}", flush=True)
    return True


def _child(job: str, asked: Pretraining | Ablation, threads: int) -> Any:
    """What a job in a process of its own answers; None: it failed."""
    with tempfile.TemporaryDirectory(prefix="ablation-", ignore_cleanup_errors=True) as folder:
        question, answer = Path(folder) / "asked.json", Path(folder) / "answer.json"
        asked.write(question)
        command = [sys.executable, str(HERE / "ablation_row.py"), job, str(question), str(answer)]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=False)
        return json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["hippocampus_mr", "headneck_ct"])
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(ON))
    parser.add_argument("--pretrain-minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=300, help="of fine-tuning")
    parser.add_argument("--test-scans", type=int, default=0, help="score on the first so many (default: all)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", nargs="+", type=int, default=[])
    parser.add_argument("--work", type=Path, default=HERE / "work" / "ablation", help="where backbones are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
