"""Segmenting one volume: time and memory, ours against MONAI's sliding window and against the paper's network.

    python benchmarks/segment.py --data DIR [--small] [--cases ...] [--methods ...] [--device ...]

DIR holds the folder headneck_ct (see data_set.py). Cases are one of its scans as it is, and phantoms tiled from its
scans, with a body of 40 % of their voxels (`_finer`: twice as fine as the network's). Each row runs in a process of its
own and is written to benchmarks/results/segment.json at once; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from data_set import DataSet, find_data_sets
from many_classes import write_model_with_classes
from measurement import METHODS, Measurement
from phantom import write_phantom
from results_file import ResultsFile

from glmae.devices import choose_device, precision
from glmae.errors import GLMAEError, RequestError
from glmae.model_folder import read_model
from glmae.segmentation.finetuning import finetune

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "segment.json"
WORK = HERE.parent / "build" / "segment"
KEY = ("case", "classes", "device", "precision", "method")
SCAN = "headneck"
CLASSES = (5, 50)


@dataclass(frozen=True)
class Phantom:
    """A case: voxels along I, J, K, and how much finer they are than the network's."""

    size: tuple[int, int, int]
    finer: float = 1.0

    @property
    def name(self) -> str:
        name = "phantom_" + "x".join(map(str, self.size))
        return name if self.finer == 1 else f"{name}_finer"


PHANTOMS = (
    Phantom((128, 128, 150)),
    Phantom((256, 256, 300)),
    Phantom((512, 512, 600), finer=2.0),
    Phantom((512, 512, 600)),
)
# Those that two CPU cores do in minutes, and a whole CT, which takes so long there that only we segment it.
SMALL = (*PHANTOMS[:2], PHANTOMS[-1])
ALONE = PHANTOMS[-1].name


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some failed, each named; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        (data,) = find_data_sets(options.data, ["headneck_ct"])
        results = ResultsFile(options.out, KEY)
        device = choose_device(options.device)[0]
        phantoms = SMALL if options.small else PHANTOMS
        names = [SCAN, *(phantom.name for phantom in phantoms)]
        wanted = options.cases or names
        if unknown := [name for name in wanted if name not in names]:
            raise RequestError(f"there is no case {unknown[0]}; choose from {', '.join(names)}")
        work = Work(options.work, data, options.model, options.steps)
        rows = list(planned(wanted, options.methods, device))
        if options.small:
            rows = [row for row in rows if row["case"] != ALONE or row["method"] == "glmae"]
        missing = [row for row in rows if row not in results]
        if missing:
            work.model  # noqa: B018 - made before anything is measured
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    failures = 0
    for row in missing:
        failures += not _run(row, work, phantoms, options, results)
    return 1 if failures else 0


def planned(cases: Sequence[str], methods: Sequence[str], device: torch.device) -> Iterator[dict]:
    """The rows, small cases first; MONAI before ours, which is compared with it."""
    best = str(precision(device)).removeprefix("torch.")
    for case in cases:
        for classes in CLASSES if case != SCAN else (None,):
            for method in (name for name in METHODS if name in methods):
                precisions = ["float32", best] if method == "monai_same_network" else [best]
                for kind in dict.fromkeys(precisions):
                    row = {"case": case, "classes": classes or 7, "device": device.type}
                    yield row | {"precision": kind, "method": method}


class Work:
    """What is made once and kept between runs: the trained model, its variants, the phantoms, the label maps."""

    def __init__(self, folder: Path, data: DataSet, model: Path | None, steps: int) -> None:
        self.folder, self._data, self._given, self._steps = folder, data, model, steps

    @property
    def model(self) -> Path:
        """The trained model: the one that was given, or one that a few steps on two scans make."""
        if self._given is not None:
            return self._given
        folder = self.folder / "trained"
        if not (folder / "model.json").exists():
            finetune(
                images=self._data.images,
                labels=self._data.labels,
                out=folder,
                cases=self._data.labeled(0, 2),
                backbone="none",
                steps=self._steps,
            )
        return folder

    def model_with(self, classes: int) -> Path:
        """The trained model with this number of classes."""
        folder = self.folder / f"{self.model.name}_{classes}"
        if not (folder / "model.json").exists():
            write_model_with_classes(self.model, classes, folder)
        return folder

    def image(self, case: str, phantoms: Sequence[Phantom]) -> Path:
        """The file of a case; a phantom is made if it is not there."""
        if case == SCAN:
            return self._data.image(self._data.test(0)[0])
        path = self.folder / f"{case}.nrrd"
        if not path.exists():
            phantom = next(entry for entry in phantoms if entry.name == case)
            spacing = [side / phantom.finer for side in read_model(self.model).content["preprocessing"]["spacing"]]
            names = self._data.labeled(0, 4) or ()
            scans = [(self._data.image(name), self._data.labels / f"{name}.nii.gz") for name in names]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_phantom(path, scans, phantom.size, (spacing[0], spacing[1], spacing[2]))
        return path

    def labels(self, row: dict) -> Path:
        """The label map of a row."""
        return self.folder / ("_".join(str(row[name]) for name in KEY) + ".nii.gz")


def _run(row: dict, work: Work, phantoms: Sequence[Phantom], options: argparse.Namespace, results: ResultsFile) -> bool:
    """One row in a child process, so that its memory is its own."""
    title = ", ".join(str(row[name]) for name in KEY)
    reference = None
    if row["method"] == "glmae":
        reference = str(work.labels(row | {"method": "monai_same_network"}))
    elif row["precision"] != "float32":
        reference = str(work.labels(row | {"precision": "float32"}))
    asked = Measurement(
        **row,
        image=str(work.image(row["case"], phantoms)),
        model=str(work.model_with(row["classes"])),
        labels=str(work.labels(row)),
        reference=reference,
        exact=str(work.labels(row | {"method": "monai_same_network", "precision": "float32"})),
        memory_gb=options.memory or _available_gb(),
        timed_windows=20 if row["device"] == "cuda" else options.unetr_windows,
    )
    with tempfile.TemporaryDirectory(prefix="segment-", ignore_cleanup_errors=True) as folder:
        request, answer = Path(folder) / "measurement.json", Path(folder) / "row.json"
        asked.write(request)
        child = subprocess.run([sys.executable, str(HERE / "segment_row.py"), str(request), str(answer)], check=False)
        if child.returncode or not answer.exists():
            print(f"{title}: failed (exit status {child.returncode})", file=sys.stderr, flush=True)
            return False
        content = json.loads(answer.read_text(encoding="utf-8"))
    results.add(content["row"], content["machine"])
    seconds = content["row"]["seconds"]
    print(f"{title}: {'does not fit' if seconds is None else f'{seconds} s'}", flush=True)
    return True


def _available_gb() -> float | None:
    """Main memory that is free, GB of 10^9 bytes; None where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024 / 1e9
    except OSError:
        pass
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure time and memory of segmenting one volume.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds headneck_ct")
    parser.add_argument("--small", action="store_true", help="of the whole CTs one, and only by us")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--model", type=Path, metavar="MODEL", help="a model of seven classes; default: trained first")
    parser.add_argument("--steps", type=int, default=150, metavar="N", help="of that training")
    parser.add_argument("--memory", type=float, metavar="GB", help="main memory to fit into; default: what is free")
    parser.add_argument("--unetr-windows", type=int, default=2, metavar="N", help="timed on the CPU; 20 on a GPU")
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="model, phantoms and label maps")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
