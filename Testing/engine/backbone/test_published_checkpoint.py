"""Checkpoints of the published layout: written here with random weights, as the authors' file cannot be shipped."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import pickle
import re

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from scipy.special import erf, softmax

from glmae.backbone.presets import preset
from glmae.backbone.published_checkpoint import SIZES, import_checkpoint, read_checkpoint
from glmae.backbone.weights import load_backbone
from glmae.cli import main
from glmae.errors import ModelError, RequestError, StorageError
from glmae.events import recorded
from glmae.model_folder import CARD, read_model

DEPTHS = {192: 12, 768: 12, 1024: 24, 1280: 32}
HEADS = {192: 3, 768: 12, 1024: 16, 1280: 16}
WIDTH, PATCH, GRID = 192, 4, 3


def shapes(width: int, patch: int = PATCH, grid: int = GRID, channels: int = 1) -> dict[str, list[int]]:
    """The encoder's names and shapes as the notes on the published file have them."""
    names = {
        "cls_token": [1, 1, width],
        "pos_embed": [1, 1 + grid**3, width],
        "patch_embed.proj.weight": [width, channels, patch, patch, patch],
        "patch_embed.proj.bias": [width],
        "norm.weight": [width],
        "norm.bias": [width],
    }
    for block in range(DEPTHS[width]):
        for part, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            names[f"blocks.{block}.{part}.weight"] = [rows, columns]
            names[f"blocks.{block}.{part}.bias"] = [rows]
        for part in ("norm1", "norm2"):
            names[f"blocks.{block}.{part}.weight"] = [width]
            names[f"blocks.{block}.{part}.bias"] = [width]
    return names


def random_weights(channels: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        name: 0.1 * torch.randn(shape, generator=generator) + (1.0 if "norm" in name and "weight" in name else 0.0)
        for name, shape in shapes(WIDTH, channels=channels).items()
    }


def published(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """DINO's layout: student and teacher with heads, optimizer, settings; here with a decoder, too."""
    beside = {
        "module.backbone.mask_token": torch.zeros(1, 1, 8),
        "module.backbone.decoder_pos_embed": torch.zeros(1, 28, 8),
        "module.backbone.decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8),
        "module.head.mlp.0.weight": torch.zeros(4, 4),
        "module.head.last_layer.weight_g": torch.zeros(4, 1),
    }
    student = {f"module.backbone.{name}": tensor for name, tensor in weights.items()} | beside
    return {
        "student": student,
        "teacher": {f"backbone.{name}": torch.zeros_like(tensor) for name, tensor in weights.items()},
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "epoch": 1600,
        "args": argparse.Namespace(arch="vit_base", lr=1.5e-4, roi=[96, 96, 96], output_dir="runs/Größe"),
    }


@pytest.fixture
def weights():
    return random_weights()


@pytest.fixture
def file(tmp_path, weights):
    path = tmp_path / "heruntergeladene Gewichte №1" / "checkpoint-1599.pth"
    path.parent.mkdir()
    torch.save(published(weights), path)
    return path


def saved(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    return path


def plain_encoder(weights, x, table, heads):
    """A pre-norm ViT in float64 numpy from the file's tensors; x [B, C, I, J, K], table [1, 1 + tokens, width]."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    x, table = x.double().numpy(), table.double().numpy()
    width, patch = w["cls_token"].shape[2], w["patch_embed.proj.weight"].shape[2:]
    tokens = []
    for corner in np.ndindex(*(side // p for side, p in zip(x.shape[2:], patch, strict=True))):
        box = tuple(slice(c * p, (c + 1) * p) for c, p in zip(corner, patch, strict=True))
        tokens.append(
            np.tensordot(x[(slice(None), slice(None), *box)], w["patch_embed.proj.weight"], ([1, 2, 3, 4],) * 2)
        )
    tokens = np.stack(tokens, axis=1) + w["patch_embed.proj.bias"]
    tokens = np.concatenate([np.repeat(w["cls_token"], len(x), axis=0), tokens], axis=1) + table

    def norm(t, name):
        t = t - t.mean(-1, keepdims=True)
        return t / np.sqrt((t * t).mean(-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(t, name):
        return t @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for block in sorted({int(name.split(".")[1]) for name in w if name.startswith("blocks.")}):
        name, size = f"blocks.{block}", width // heads
        query, key, value = np.split(linear(norm(tokens, f"{name}.norm1"), f"{name}.attn.qkv"), 3, axis=2)
        mixed = np.empty_like(tokens)
        for head in range(heads):
            own = (..., slice(head * size, (head + 1) * size))
            mixed[own] = softmax(query[own] @ key[own].swapaxes(1, 2) / np.sqrt(size), axis=2) @ value[own]
        tokens = tokens + linear(mixed, f"{name}.attn.proj")
        hidden = linear(norm(tokens, f"{name}.norm2"), f"{name}.mlp.fc1")
        tokens = tokens + linear(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, f"{name}.mlp.fc2")
    return norm(tokens, "norm")


def test_imported_encoder_equals_a_plain_transformer(file, weights, tmp_path):
    events = []
    out = import_checkpoint(file, tmp_path / "neues Rückgrat", events=recorded(events))
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "weights.safetensors"]
    backbone = load_backbone(out).eval()
    assert torch.equal(backbone.pos_embed, weights["pos_embed"])

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        scan = torch.randn(2, 1, 12, 12, 12, generator=generator)
        expected = plain_encoder(weights, scan, weights["pos_embed"], HEADS[WIDTH])
        np.testing.assert_allclose(backbone(scan).numpy(), expected, atol=1e-4)

        # Another grid, with three different sides: the file's own positions, interpolated.
        scan = torch.randn(1, 1, 8, 20, 16, generator=generator)
        volume = weights["pos_embed"][0, 1:].reshape(3, 3, 3, WIDTH).numpy()
        volume = zoom(volume, (2 / 3, 5 / 3, 4 / 3, 1), order=1, mode="nearest", grid_mode=True)
        table = torch.cat([weights["pos_embed"][:, :1], torch.tensor(volume).reshape(1, -1, WIDTH)], dim=1)
        np.testing.assert_allclose(backbone(scan).numpy(), plain_encoder(weights, scan, table, 3), atol=1e-4)

    messages = " ".join(event.get("message", "") for event in events)
    assert all(found in messages for found in ("ViT-Ti", "12 blocks", "3 heads", "4 x 4 x 4"))
    assert "decoder_blocks, decoder_pos_embed, head, mask_token" in messages
    card = read_model(out, "backbone").content
    assert card["imported"]["layout"] == "student"
    assert card["imported"]["prefix"] == "module.backbone."
    assert "checkpoint-1599" not in json.dumps(card)


def test_the_published_size_is_the_base_preset(tmp_path):
    # One zero behind every tensor, so that the file is small; names and shapes are the real ones.
    student = {f"module.backbone.{name}": torch.zeros(()).expand(shape) for name, shape in shapes(768, 16, 6).items()}
    config = read_checkpoint(saved(tmp_path, {"student": student, "args": argparse.Namespace()})).config
    assert config == preset("base")


@pytest.mark.parametrize("width", [192, 768, 1024, 1280])
def test_sizes_are_those_of_the_literature(width):
    assert (SIZES[width].depth, SIZES[width].heads) == (DEPTHS[width], HEADS[width])


@pytest.mark.parametrize("layout", ["student", "state_dict", "model", ""])
@pytest.mark.parametrize("prefix", ["module.backbone.", "backbone.", "module.", ""])
def test_layouts_and_prefixes(tmp_path, weights, layout, prefix):
    state = {prefix + name: tensor for name, tensor in weights.items()} | {"head.weight": torch.zeros(3)}
    found = read_checkpoint(saved(tmp_path, {layout: state} if layout else state))
    assert (found.layout, found.prefix, found.other) == (layout, prefix, ("head.weight",))
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in weights.items())
    assert len(found.tensors) == len(weights)


def test_channels_are_read_from_the_projection(tmp_path):
    out = import_checkpoint(saved(tmp_path, random_weights(channels=4)), tmp_path / "out")
    assert load_backbone(out).config.channels == 4
    assert load_backbone(out, channels=1).config.channels == 1


def test_every_wrong_name_and_shape_is_listed(tmp_path, weights):
    lost = [name for name in weights if name.startswith("blocks.11.")]
    for name in lost:
        del weights[name]
    weights["norm.bias"] = torch.zeros(5)
    weights["norm.weight"] = torch.zeros(WIDTH, dtype=torch.int64)
    content = published(weights)
    content["student"] |= {"module.backbone.relative_bias": torch.zeros(1), "module.stranger": torch.zeros(1)}
    with pytest.raises(ModelError) as caught:
        import_checkpoint(saved(tmp_path, content), tmp_path / "out")
    message = str(caught.value)
    assert len(lost) == 12
    assert all(name in message.partition("unexpected")[0] for name in lost)
    assert re.search(r"unexpected\b.*relative_bias, module\.stranger;", message)
    assert re.search(r"shape\b.*norm\.bias \[5\].* \[192\];", message)
    assert re.search(r"floating-point\b.*norm\.weight", message)
    assert "head" not in message
    assert "decoder" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pos_embed", torch.zeros(1, 27, WIDTH), r"pos_embed is \[1, 27, 192\]"),
        ("pos_embed", torch.zeros(27, WIDTH), r"pos_embed is \[27, 192\]"),
        ("pos_embed", None, "pos_embed is a NoneType"),
        ("patch_embed.proj.weight", torch.zeros(WIDTH, 3, 16, 16), r"is \[192, 3, 16, 16\], not"),
        ("patch_embed.proj.weight", torch.zeros(WIDTH), r"is \[192\], not"),
        ("patch_embed.proj.weight", torch.zeros(100, 1, 4, 4, 4), r"one of the known widths 192 \(ViT-Ti\)"),
        ("patch_embed.proj.weight", "text", "is a str, not"),
        ("cls_token", torch.full((1, 1, WIDTH), torch.nan), r"not finite \(cls_token\)"),
        ("cls_token", torch.empty(1, 1, WIDTH, device="meta"), "no floating-point tensors: cls_token"),
    ],
)
def test_another_architecture_is_named(tmp_path, weights, name, value, message):
    with pytest.raises(ModelError, match=message):
        read_checkpoint(saved(tmp_path, weights | {name: value}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a list instead of named"),
        ({"epoch": 3}, "only epoch"),
        ({}, "only nothing"),
        ({"model": {}}, "nothing"),
    ],
)
def test_a_file_without_an_encoder_is_named(tmp_path, content, message):
    with pytest.raises(ModelError, match=message):
        read_checkpoint(saved(tmp_path, content))


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_a_truncated_file_is_named(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ModelError, match=r"checkpoint-1599\.pth is damaged or was not written by torch\.save"):
        read_checkpoint(file)


def test_text_folders_and_missing_files_are_named(tmp_path):
    (tmp_path / "page.pth").write_text("<html>404: not found</html>\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"page\.pth is damaged"):
        read_checkpoint(tmp_path / "page.pth")
    for path in (tmp_path, tmp_path / "nowhere.pth"):
        with pytest.raises(RequestError, match="does not exist or is no file"):
            read_checkpoint(path)


class Trap:
    """Unpickled by pickle itself, it makes a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "in the settings"])
def test_a_file_that_would_run_code_is_refused(tmp_path, weights, zipped, place, capsys, monkeypatch):
    # The variable must not open the door either.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    sprung, out, path = tmp_path / "sprung", tmp_path / "out", tmp_path / "trap.pth"
    trap = Trap(sprung)
    content = published(weights) | ({"trap": trap} if place == "beside" else {"args": argparse.Namespace(trap=trap)})
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert main(["import-checkpoint", str(path), "--out", str(out)]) == 2
    assert not sprung.exists()
    assert not out.exists()
    error = capsys.readouterr().err.strip()
    assert "trap.pth was refused" in error
    assert f"{os.mkdir.__module__}.mkdir" in error
    assert "\n" not in error
    # The trap is real: without the guard it springs.
    torch.load(path, weights_only=False)
    assert sprung.is_dir()


def test_only_the_settings_class_is_allowed(tmp_path, weights):
    content = published(weights) | {"args": argparse.Namespace(output=pathlib.PurePosixPath("runs"))}
    with pytest.raises(ModelError, match="more than weights and settings"):
        read_checkpoint(saved(tmp_path, content))
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_the_old_file_format_is_read(tmp_path, weights):
    path = tmp_path / "old.pth"
    torch.save(published(weights), path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path).tensors["pos_embed"], weights["pos_embed"])


def test_tied_and_transposed_tensors_are_written_whole(tmp_path, weights):
    tied = weights | {"blocks.1.attn.proj.weight": weights["blocks.0.attn.proj.weight"].T}
    backbone = load_backbone(import_checkpoint(saved(tmp_path, tied), tmp_path / "out"))
    assert torch.equal(backbone.blocks[1].attn.proj.weight, weights["blocks.0.attn.proj.weight"].T)


def test_nothing_is_overwritten(file, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RequestError, match="is not empty"):
        import_checkpoint(file, taken)
    assert [path.name for path in taken.iterdir()] == ["notes.txt"]
    with pytest.raises(RequestError, match="is a file"):
        import_checkpoint(file, taken / "notes.txt")
    with pytest.raises(StorageError):
        import_checkpoint(file, taken / "notes.txt" / "deeper")
    assert (taken / "notes.txt").read_text(encoding="utf-8") == "mine"

    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["import-checkpoint", str(file), "--out", str(empty)]) == 0
    before = (empty / CARD).read_bytes()
    assert main(["import-checkpoint", str(file), "--out", str(empty)]) == 2
    assert (empty / CARD).read_bytes() == before


def test_a_full_disk_leaves_nothing(file, tmp_path):
    resource = pytest.importorskip("resource", reason="the system has no limit on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(StorageError, match="disk is full"):
            import_checkpoint(file, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [file.parent.name]


def test_a_plain_pickle_is_refused_without_remarks_of_libraries(tmp_path, recwarn):
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps({"trap": Trap(tmp_path / "sprung")}, protocol=4))
    with pytest.raises(ModelError, match=r"plain\.pth"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()
    assert not recwarn.list
