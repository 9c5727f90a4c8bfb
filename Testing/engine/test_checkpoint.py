import errno

import pytest
import torch
from torch import nn

from glmae.checkpoint import (
    load_checkpoint,
    named,
    optimizer_state,
    restore_optimizer,
    restore_weights,
    save_checkpoint,
)
from glmae.errors import ModelError, StorageError


def test_tensors_and_state_come_back_to_the_last_bit(tmp_path):
    path = tmp_path / "Lauf 1" / "checkpoint.safetensors"
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(7), "c": torch.randn(5).bfloat16()}
    state = {"rate": 0.1 + 0.2, "nested": {"none": None, "text": "größer"}, "groups": [1, 2]}
    save_checkpoint(path, tensors, state)
    loaded = load_checkpoint(path)
    assert loaded.state == state
    assert all(torch.equal(loaded.tensors[name], tensors[name]) for name in tensors)
    assert loaded.tensors["c"].dtype == torch.bfloat16
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_prefix_is_put_on_and_taken_off(tmp_path):
    save_checkpoint(tmp_path / "c", named("net.", {"weight": torch.ones(2)}) | {"other": torch.zeros(1)}, {})
    assert list(load_checkpoint(tmp_path / "c").under("net.")) == ["weight"]


def test_tensors_of_earlier_versions_have_the_names_of_today(tmp_path):
    save_checkpoint(tmp_path / "c", {"model.centre": torch.ones(2), "centre.weight": torch.zeros(1)}, {})
    assert load_checkpoint(tmp_path / "c").tensors.keys() == {"model.center", "centre.weight"}


def optimizer_after(steps, network, optimizer):
    for step in range(steps):
        optimizer.zero_grad()
        network(torch.full((2, 4), float(step + 1))).square().sum().backward()
        optimizer.step()


def new_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    groups = [{"params": network[0].parameters(), "lr": 0.01}, {"params": network[1].parameters(), "lr": 0.1}]
    return network, torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def test_an_optimizer_continues_bit_by_bit(tmp_path):
    network, optimizer = new_network()
    optimizer_after(3, network, optimizer)
    tensors, groups = optimizer_state(optimizer)
    save_checkpoint(tmp_path / "c", tensors | named("net.", network.state_dict()), {"groups": groups})
    optimizer_after(2, network, optimizer)

    other, other_optimizer = new_network()
    loaded = load_checkpoint(tmp_path / "c")
    restore_weights(other, loaded.under("net."), tmp_path / "c")
    restore_optimizer(other_optimizer, loaded.tensors, loaded.state["groups"])
    optimizer_after(2, other, other_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_an_optimizer_of_another_network_is_refused():
    network, optimizer = new_network()
    optimizer_after(1, network, optimizer)
    tensors, groups = optimizer_state(optimizer)
    with pytest.raises(ModelError, match="does not fit"):
        restore_optimizer(torch.optim.AdamW(nn.Linear(4, 4).parameters()), tensors, groups)
    with pytest.raises(ModelError, match="does not fit this network"):
        restore_weights(nn.Linear(3, 3), network.state_dict(), "c")


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign", "empty"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"a": torch.randn(100)}, {"step": 1})
    content = {
        "truncated": path.read_bytes()[:-50],
        "text": b"this is no checkpoint",
        "foreign": path.read_bytes().replace(b'"state"', b'"statx"'),
        "empty": b"",
    }
    path.write_bytes(content[damage])
    with pytest.raises(ModelError, match=r"checkpoint.safetensors is damaged \(.+\); delete it"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match="is missing"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"a": torch.ones(1)}, {"step": 1})

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        save_checkpoint(path, {"a": torch.zeros(1)}, {"step": 2})
    assert load_checkpoint(path).state == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
