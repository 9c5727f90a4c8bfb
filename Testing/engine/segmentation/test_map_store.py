"""Maps that are kept: in memory up to a limit, then in files; whole or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from glmae.backbone.presets import preset
from glmae.errors import StorageError
from glmae.segmentation import map_store
from glmae.segmentation.map_store import MapStore, maps_digest
from glmae.segmentation.network import ScanMaps, SegmentationNetwork


def made(seed: int) -> ScanMaps:
    generator = torch.Generator().manual_seed(seed)
    levels = tuple(torch.randn((w, 6, 5, side), generator=generator).half() for w, side in ((3, 8), (70, 4)))
    return ScanMaps(levels, ((2, 2, 1), (2, 2, 2)), (8, 8, 2), (1, 0, 3), (10, 9, 2))


SIZE = made(0).nbytes


def same(one: ScanMaps | None, two: ScanMaps) -> bool:
    assert one is not None
    assert (one.strides, one.token, one.before, one.shape) == (two.strides, two.token, two.before, two.shape)
    return all(torch.equal(a, b) for a, b in zip(one.levels, two.levels, strict=True))


def test_maps_are_kept_as_they_are(tmp_path):
    store = MapStore(tmp_path / "a folder 海")
    assert store.find("one") is None
    assert "one" not in store
    store.keep("one", made(1))
    assert "one" in store
    assert store.nbytes == 0, "in a file"
    assert same(MapStore(tmp_path / "a folder 海").find("one"), made(1))


def test_those_used_least_lately_become_files(tmp_path):
    store = MapStore(tmp_path, memory_bytes=2 * SIZE)
    for number in (1, 2):
        store.keep(f"{number}", made(number))
    assert list(tmp_path.iterdir()) == []
    assert store.find("1") is not None
    store.keep("3", made(3))
    assert store.nbytes == 2 * SIZE
    (written,) = tmp_path.iterdir()
    assert written.name.startswith("2.")
    assert all(same(store.find(f"{number}"), made(number)) for number in (1, 2, 3))
    assert store.nbytes == 2 * SIZE


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_a_damaged_file_is_none_and_is_replaced(left, tmp_path):
    MapStore(tmp_path).keep("one", made(1))
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    store = MapStore(tmp_path)
    assert store.find("one") is None
    store.keep("one", made(1))
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "nothing half written beside it"


def test_a_file_of_something_else_is_none(tmp_path):
    MapStore(tmp_path).keep("one", made(1))
    (file,) = tmp_path.iterdir()
    save_file({"level0": torch.zeros(3)}, file)
    assert MapStore(tmp_path).find("one") is None


def test_the_digest_changes_with_what_the_maps_depend_on(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)
    torch.manual_seed(0)
    network = SegmentationNetwork(preset("tiny"), 2)
    first = maps_digest(network, (16, 16, 16), cpu)
    with torch.no_grad():
        network.head.output.weight.add_(1)
        network.head.hidden[0].weight.add_(1)
    assert maps_digest(network, (16, 16, 16), cpu) == first, "whatever the maps are classified by"
    others = {first, maps_digest(network, (16, 16, 24), cpu)}
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: True)
    others.add(maps_digest(network, (16, 16, 16), cpu))
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)
    for parameter in (network.backbone.cls_token, network.head.trunk.encoders[0].conv1.conv.weight):
        with torch.no_grad():
            parameter.add_(1e-3)
        others.add(maps_digest(network, (16, 16, 16), cpu))
    assert len(others) == 5


def test_files_take_no_more_of_the_disk_than_they_may(tmp_path):
    MapStore(tmp_path).keep("0", made(0))
    (file,) = tmp_path.iterdir()
    size = file.stat().st_size
    store = MapStore(tmp_path, memory_bytes=SIZE, disk_bytes=2 * size)
    for number in range(1, 5):
        store.keep(f"{number}", made(number))
        assert store.nbytes <= SIZE
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * size
    assert [f"{number}" in store for number in range(5)] == [False, False, True, True, True]
    assert store.find("2") is not None, "now it is used last"
    assert "4" in store
    store.keep("5", made(5))
    assert "3" not in store
    store.write()
    assert store.nbytes == 0
    assert "5" in store


def test_a_full_disk_loses_only_what_can_be_made_again(tmp_path, monkeypatch):
    def full(path, maps):
        raise StorageError("the disk is full")

    monkeypatch.setattr(map_store, "_write", full)
    store = MapStore(tmp_path, memory_bytes=SIZE, disk_bytes=10 * SIZE)
    store.keep("1", made(1))
    store.keep("2", made(2))
    assert store.find("1") is None
    assert store.find("2") is not None
    with pytest.raises(StorageError):
        MapStore(tmp_path).keep("1", made(1))
