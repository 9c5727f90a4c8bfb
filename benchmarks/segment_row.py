"""One row of segment.json, in a process of its own: `segment_row.py MEASUREMENT.json ROW.json`."""

from __future__ import annotations

import copy
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from floor import floor_seconds, layers, measure_peaks
from machine import describe_machine, peak_device_mb, peak_rss_mb
from measurement import Measurement
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNETR
from torch import Tensor, nn

from glmae.devices import autocast
from glmae.errors import GLMAEError
from glmae.files import write_json
from glmae.scans.cases import find_images
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_channels
from glmae.scans.preparation import prepare_image, prepared_grid
from glmae.scans.restoring import interpolated_classes, restore_classes
from glmae.scans.written_image import write_labelmap
from glmae.segmentation.class_slabs import class_slabs
from glmae.segmentation.inference import segment_case
from glmae.segmentation.model import Model, load_model
from glmae.segmentation.network import SegmentationNetwork
from glmae.segmentation.scan_maps import scan_maps

UNETR_PATCH = (96, 96, 96)
UNETR_FEATURES = 48


def main(arguments: list[str]) -> int:
    warnings.filterwarnings("ignore")  # libraries talking to developers
    asked, out = Measurement.read(Path(arguments[0])), Path(arguments[1])
    try:
        row = measure(asked)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    write_json(out, {"row": row, "machine": describe_machine(asked.device)})
    return 0


def measure(asked: Measurement) -> dict[str, Any]:
    """The row; `seconds` is null where the method does not fit into memory."""
    device = torch.device(asked.device)
    model = load_model(Path(asked.model), device)
    network, crop = model.network, model.config.crop
    if asked.method == "monai_unetr48":
        crop = UNETR_PATCH
        network = _unetr(len(model.preparation.normalization), asked.classes).to(device).eval()
    grid = prepared_grid(sitk.ReadImage(asked.image), model.preparation)
    windows = len(dense_patch_slices([max(a, b) for a, b in zip(grid.size, crop, strict=True)], crop, _steps(crop)))
    counted = _Counted(network)
    run = {"glmae": _ours, "monai_same_network": _monai, "monai_unetr48": _unetr_scaled}[asked.method]
    with _limited_memory(asked):
        try:
            seconds = run(asked, model, counted, windows)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            seconds = None
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            seconds = None
    memory = {"peak_rss_mb": peak_rss_mb(), "peak_device_mb": peak_device_mb(asked.device)}
    computed = windows if asked.method == "monai_unetr48" else counted.seen
    return {
        "case": asked.case,
        "voxels": sitk.ReadImage(asked.image).GetNumberOfPixels(),
        "classes": asked.classes,
        "device": asked.device,
        "threads": torch.get_num_threads(),
        "precision": asked.precision,
        "method": asked.method,
        "seconds": None if seconds is None else round(seconds, 2),
        "floor_seconds": None if seconds is None else round(_floor(asked, network, crop, model, computed, grid), 5),
        "windows": windows,
        "computed_windows": None if seconds is None else computed,
        **memory,
        "dice_to_reference": None if seconds is None else _dice(asked, asked.reference),
        "dice_to_float32": None if seconds is None else _dice(asked, asked.exact),
    }


class _Counted(nn.Module):
    """Runs a network and counts its windows; what runs it may run a copy, which counts here, too."""

    def __init__(self, network: nn.Module, seen: list[int] | None = None) -> None:
        super().__init__()
        self.network = network
        self.each = [] if seen is None else seen

    @property
    def seen(self) -> int:
        return sum(self.each)

    def __deepcopy__(self, memo: dict) -> _Counted:
        return _Counted(copy.deepcopy(self.network, memo), self.each)

    @property
    def backbone(self) -> nn.Module:
        return self.network.backbone

    def maps(self, x: Tensor) -> list[Tensor]:
        self.each.append(len(x))
        return list(self.network.maps(x))

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(self.network.logits(maps))

    def forward(self, x: Tensor) -> Any:
        self.each.append(len(x))
        return self.network(x)


def _ours(asked: Measurement, model: Model, network: _Counted, windows: int) -> float:
    """As `glmae segment` does it, from the file of the scan to the file of the labels."""
    device, crop = torch.device(asked.device), model.config.crop
    counting = Model(network, model.config, model.preparation, model.classes)  # type: ignore[arg-type]
    # MONAI's is warm, too, when its best batch has been found.
    noise = np.random.default_rng(0).normal(size=(len(model.preparation.normalization), *crop)).astype(np.float32)
    for _ in range(2):
        list(class_slabs(network, scan_maps(network, noise, crop, device), device))
    network.each.clear()
    began = time.perf_counter()
    (case,) = find_images([Path(asked.image)])
    labels = segment_case(counting, case, device).labels
    write_labelmap(Path(asked.labels), labels, model.classes)
    return time.perf_counter() - began


def _monai(asked: Measurement, model: Model, network: _Counted, windows: int) -> float:
    """MONAI's sliding window; reading, preparing, restoring and writing are ours, and so is their time."""
    device, crop = torch.device(asked.device), model.config.crop
    predict = _predictor(asked, network)
    channels = len(model.preparation.normalization)
    with torch.inference_mode():
        batch = _best_batch(predict, (channels, *crop), device)
        network.each.clear()
        began = time.perf_counter()
        scan = read_channels([Path(asked.image)])
        image, grid = prepare_image(scan, model.preparation)
        inputs = torch.from_numpy(image)[None]

        def infer(stitched_on: torch.device) -> Tensor:
            found: Any = sliding_window_inference(
                inputs, crop, batch, predict, overlap=0.5, mode="gaussian", padding_mode="replicate",
                sw_device=device, device=stitched_on,
            )  # fmt: skip
            return found[0]

        try:
            probability = infer(device)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            network.each.clear()
            probability = infer(torch.device("cpu"))
    source = Geometry.of(scan[0])
    native = source.along(grid.direction)
    if grid.same_grid(native):
        numbers = probability.argmax(dim=0).to(torch.uint8).cpu().numpy()
        numbers = numbers.transpose()
    else:
        numbers = interpolated_classes([(0, probability.cpu().numpy())], grid, native)
    labels = restore_classes(numbers, native, source, model.classes.values)
    write_labelmap(Path(asked.labels), labels, model.classes)
    return time.perf_counter() - began


def _unetr_scaled(asked: Measurement, model: Model, network: _Counted, windows: int) -> float:
    """Some windows are timed, and their mean is multiplied by the number of windows; nothing else is counted."""
    device = torch.device(asked.device)
    x = torch.randn(1, len(model.preparation.normalization), *UNETR_PATCH)
    predict = _predictor(asked, network)
    with torch.inference_mode():
        batch = _best_batch(predict, x.shape[1:], device) if device.type != "cpu" else 1
        together = x.expand(batch, *x.shape[1:]).contiguous()
        passes = -(-asked.timed_windows // batch)
        seconds = _timed(lambda: predict(together.to(device)).cpu(), passes)
    return seconds / batch * windows


def _predictor(asked: Measurement, network: nn.Module) -> Callable[[Tensor], Tensor]:
    device = torch.device(asked.device)

    def predict(window: Tensor) -> Tensor:
        if asked.precision == "float32":
            result = network(window)
        else:
            with autocast(device):
                result = network(window)
        logits: Tensor = result[0] if isinstance(result, list) else result
        return torch.softmax(logits.float(), dim=1)

    return predict


def _best_batch(predict: Callable[[Tensor], Tensor], shape: Any, device: torch.device) -> int:
    """The windows per pass with the least time for each."""
    best, best_time = 1, float("inf")
    for batch in (1, 2, 4) if device.type == "cpu" else (1, 2, 4, 8, 16):
        x = torch.randn(batch, *shape, device=device)
        try:
            seconds = _timed(lambda x=x: predict(x).sum().item(), 2) / batch  # type: ignore[misc]
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if seconds < best_time:
            best, best_time = batch, seconds
    return best


def _timed(work: Callable[[], Any], times: int) -> float:
    """Mean seconds, after one run that warms up."""
    work()
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def _floor(
    asked: Measurement,
    network: nn.Module,
    crop: tuple[int, int, int],
    model: Model,
    windows: int,
    grid: Geometry,
) -> float:
    """The least seconds: MONAI runs the whole network on each window, ours the logits on each voxel once."""
    device = torch.device(asked.device)
    precision = getattr(torch, asked.precision)
    x = torch.zeros(1, len(model.preparation.normalization), *crop, device=device)
    peaks = measure_peaks(device, precision)
    if asked.method != "glmae":
        return windows * floor_seconds(layers(network, x), peaks, precision)
    assert isinstance(network, SegmentationNetwork)
    with torch.no_grad():
        maps = network.maps(x)
    of_maps, of_logits = layers(network.maps, x), layers(network.logits, maps)
    share = math.prod(grid.size) / math.prod(crop)
    return windows * floor_seconds(of_maps, peaks, precision) + share * floor_seconds(of_logits, peaks, precision)


def _dice(asked: Measurement, other: str | None) -> float | None:
    """Of the labels to another label map, mean over the classes that either holds."""
    if other in (None, asked.labels) or not Path(other).exists() or not Path(asked.labels).exists():
        return None
    found, wanted = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (asked.labels, other))
    outputs = asked.classes + 1
    pairs = np.zeros(outputs * outputs, dtype=np.int64)
    for one, two in zip(found, wanted, strict=True):
        pairs += np.bincount((one.astype(np.int64) * outputs + two).ravel(), minlength=len(pairs))
    table = pairs.reshape(outputs, outputs)
    sizes = table.sum(axis=0) + table.sum(axis=1)
    present = np.flatnonzero(sizes[1:]) + 1
    return round(float(np.mean(2 * table.diagonal()[present] / sizes[present])), 5) if len(present) else None


@contextmanager
def _limited_memory(asked: Measurement) -> Iterator[None]:
    """Less address space than main memory: what does not fit then fails by itself instead of stopping the machine."""
    # CUDA reserves more addresses than any machine has memory.
    if asked.memory_gb is None or asked.device == "cuda" or sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(asked.memory_gb * 1e9), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _unetr(channels: int, classes: int) -> nn.Module:
    network: nn.Module = UNETR(
        in_channels=channels,
        out_channels=classes + 1,
        img_size=UNETR_PATCH,
        feature_size=UNETR_FEATURES,
        norm_name="instance",
    )
    return network


def _steps(crop: tuple[int, int, int]) -> list[int]:
    return [side // 2 for side in crop]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
