"""Sets of crops around a structure, as scanned for one organ, from the scans of another set; for start.py.

    python benchmarks/crops.py --data DIR --set headneck_ct --structures "left parotid" --out CROPS/parotid

Of each scan in which they are all labeled: the box around the structures with 8 to 35 mm on each side, drawn by the
scan's name; other structures become background. Five seeds draw the labeled scans. No scan is for testing:
use --tuning.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from data_set import DataSet, find_data_sets

from glmae.errors import GLMAEError

MARGIN_MM = (8.0, 35.0)


def main() -> int:
    """0: the set is there; 2: the request is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--set", required=True)
    parser.add_argument("--structures", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    try:
        (data,) = find_data_sets(options.data, [options.set])
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    make_crops(data, options.structures, options.out)
    return 0


def make_crops(data: DataSet, structures: list[str], out: Path) -> None:
    """Write images, labels, their names and the split; see the head of this file."""
    for kind in ("images", "labels"):
        (out / kind).mkdir(parents=True)
    table = json.loads((data.labels / "classes.json").read_text(encoding="utf-8"))["classes"]
    kept = [entry for entry in table if entry["name"] in structures]
    (out / "labels" / "classes.json").write_text(json.dumps({"classes": kept}), encoding="utf-8")
    names = []
    for file in sorted(data.labels.glob("*.nii.gz")):
        image, label = sitk.ReadImage(str(data.images / file.name)), sitk.ReadImage(str(file))
        voxels = sitk.GetArrayFromImage(label)  # [K, J, I]
        if not all((voxels == entry["value"]).any() for entry in kept):
            continue
        inside = np.isin(voxels, [entry["value"] for entry in kept])
        places = np.argwhere(inside)[:, ::-1]
        random, spacing = np.random.default_rng(list(file.name.encode())), np.array(label.GetSpacing())
        low = np.maximum(places.min(axis=0) - np.rint(random.uniform(*MARGIN_MM, 3) / spacing), 0).astype(int)
        high = places.max(axis=0) + 1 + np.rint(random.uniform(*MARGIN_MM, 3) / spacing)
        high = np.minimum(high, label.GetSize()).astype(int)
        alone = sitk.GetImageFromArray(np.where(inside, voxels, 0).astype(np.uint8))
        alone.CopyInformation(label)
        for kind, whole in (("images", image), ("labels", alone)):
            cut = sitk.RegionOfInterest(whole, (high - low).tolist(), low.tolist())
            sitk.WriteImage(cut, str(out / kind / file.name))
        names.append(file.name)
    seeds = {}
    for seed in range(5):
        drawn = np.random.default_rng(seed).permutation(names).tolist()
        few = {str(count): drawn[:count] for count in (1, 2, 4)}
        seeds[f"seed{seed}"] = {"few_label": few, "pool": drawn, "test": []}
    (out / "split.json").write_text(json.dumps({"seeds": seeds}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
