import json

import pytest
import torch

from glmae.backbone.presets import preset
from glmae.backbone.vision_transformer import VisionTransformer
from glmae.backbone.weights import backbone_folder, load_backbone, read_weights, write_weights
from glmae.errors import ModelError, RequestError, StorageError
from glmae.events import recorded
from glmae.model_folder import CARD, WEIGHTS, write_model


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return VisionTransformer(preset("tiny")).eval()


@pytest.fixture
def folder(tmp_path, backbone):
    folder = tmp_path / "Rückgrat eins"
    write_weights(folder / WEIGHTS, {**backbone.state_dict(), "mask_token": torch.zeros(1, 1, 96)})
    write_model(folder, "backbone", {"backbone": backbone.config.to_json()})
    return folder


@pytest.fixture
def scan():
    return torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))


def test_a_folder_gives_the_same_tokens(folder, backbone, scan):
    with torch.no_grad():
        assert torch.equal(load_backbone(folder)(scan), backbone(scan))


def test_half_precision_files_are_read_as_float(folder, backbone, scan):
    write_weights(folder / WEIGHTS, {name: tensor.half() for name, tensor in backbone.state_dict().items()})
    loaded = load_backbone(folder)
    assert loaded.cls_token.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(loaded(scan), backbone(scan), atol=0.02, rtol=0.02)


def test_repeated_channels_give_the_same_tokens(folder, backbone, scan):
    events = []
    wider = load_backbone(folder, channels=3, events=recorded(events))
    assert wider.config.channels == 3
    with torch.no_grad():
        torch.testing.assert_close(wider(scan.expand(-1, 3, -1, -1, -1)), backbone(scan), atol=1e-5, rtol=1e-5)
    assert "adapted to 3" in events[0]["message"]


def test_what_does_not_fit_is_named(folder, backbone):
    weights = backbone.state_dict()
    weights["norm.weight"] = torch.zeros(5)
    weights["stranger"] = weights.pop("blocks.3.mlp.fc1.bias")
    write_weights(folder / WEIGHTS, weights)
    with pytest.raises(ModelError) as caught:
        load_backbone(folder)
    message = str(caught.value)
    assert "missing blocks.3.mlp.fc1.bias" in message
    assert "unexpected stranger" in message
    assert "norm.weight is [5] instead of [192]" in message


def test_a_truncated_file_is_named(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    for read in (lambda: load_backbone(folder), lambda: read_weights(path)):
        with pytest.raises(ModelError, match=r"weights.safetensors is damaged"):
            read()


def test_a_newer_format_is_refused(folder):
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    (folder / CARD).write_text(json.dumps(card | {"format": 99}), encoding="utf-8")
    with pytest.raises(ModelError, match="newer version"):
        load_backbone(folder)


def test_backbones_are_found_by_path_and_unknown_names_refused(folder):
    assert backbone_folder(str(folder)) == folder
    with pytest.raises(RequestError, match="no backbone 'nowhere'"):
        backbone_folder("nowhere")


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError):
        write_weights(tmp_path / "file" / WEIGHTS, {"a": torch.zeros(1)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_segmentation_model_is_no_backbone(folder):
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    card |= {"kind": "segmentation", "classes": [{"value": 1, "name": "liver"}], "preprocessing": {}}
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match="is a segmentation model, not a backbone"):
        load_backbone(folder)
