import numpy as np
import pytest
import torch
from scipy.special import erf, softmax
from torch.nn import functional as F

from glmae.backbone.positions import interpolate_positions
from glmae.backbone.presets import BackboneConfig, preset
from glmae.backbone.vision_transformer import Attention, PatchEmbedding, VisionTransformer, patches
from glmae.backend_cpu import attend


def small_config(**changes):
    content = {
        "name": "test",
        "channels": 2,
        "patch_size": (4, 4, 2),
        "width": 24,
        "depth": 3,
        "heads": 2,
        "grid": (2, 2, 4),
        "global_view": 16,
        "local_view": 8,
        "decoder_width": 12,
        "decoder_depth": 1,
        "decoder_heads": 2,
    }
    return BackboneConfig(**(content | changes))


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    model = VisionTransformer(small_config())
    with torch.no_grad():  # so that no bias or scale is hidden by being zero or one
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def scan():
    return torch.randn(2, 2, 8, 12, 8, generator=torch.Generator().manual_seed(1))


def published_names_and_shapes():
    """What the notes on the published ViT-B/16 say, as a literal list."""
    names = {
        "cls_token": [1, 1, 768],
        "pos_embed": [1, 217, 768],
        "patch_embed.proj.weight": [768, 1, 16, 16, 16],
        "patch_embed.proj.bias": [768],
        "norm.weight": [768],
        "norm.bias": [768],
    }
    for block in range(12):
        names |= {
            f"blocks.{block}.norm1.weight": [768],
            f"blocks.{block}.norm1.bias": [768],
            f"blocks.{block}.attn.qkv.weight": [2304, 768],
            f"blocks.{block}.attn.qkv.bias": [2304],
            f"blocks.{block}.attn.proj.weight": [768, 768],
            f"blocks.{block}.attn.proj.bias": [768],
            f"blocks.{block}.norm2.weight": [768],
            f"blocks.{block}.norm2.bias": [768],
            f"blocks.{block}.mlp.fc1.weight": [3072, 768],
            f"blocks.{block}.mlp.fc1.bias": [3072],
            f"blocks.{block}.mlp.fc2.weight": [768, 3072],
            f"blocks.{block}.mlp.fc2.bias": [768],
        }
    return names


def plain_encoder(model, x):
    """A pre-norm ViT on all patches in float64 numpy, from the state dict alone."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    config = model.config
    batch, _, *sides = x.shape
    p = config.patch_size
    grid = [side // patch for side, patch in zip(sides, p, strict=True)]
    tokens = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            for k in range(grid[2]):
                cube = (
                    x[:, :, i * p[0] : (i + 1) * p[0], j * p[1] : (j + 1) * p[1], k * p[2] : (k + 1) * p[2]]
                    .double()
                    .numpy()
                )
                kernel = weights["patch_embed.proj.weight"]
                tokens.append(np.einsum("bcijk,wcijk->bw", cube, kernel) + weights["patch_embed.proj.bias"])
    table = model.positions(tuple(grid)).double().numpy()
    tokens = np.stack(tokens, axis=1) + table[:, 1:]
    cls = np.broadcast_to(weights["cls_token"] + table[:, :1], (batch, 1, config.width))
    tokens = np.concatenate([cls, tokens], axis=1)

    def norm(values, name):
        centered = values - values.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(values, name):
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    for block in range(config.depth):
        name = f"blocks.{block}"
        mixed = linear(norm(tokens, f"{name}.norm1"), f"{name}.attn.qkv")
        size = config.width // config.heads
        heads = []
        for head in range(config.heads):
            q, k, v = (
                mixed[..., part * config.width + head * size : part * config.width + (head + 1) * size]
                for part in range(3)
            )
            heads.append(softmax(q @ k.transpose(0, 2, 1) / np.sqrt(size), axis=-1) @ v)
        tokens = tokens + linear(np.concatenate(heads, axis=-1), f"{name}.attn.proj")
        hidden = linear(norm(tokens, f"{name}.norm2"), f"{name}.mlp.fc1")
        tokens = tokens + linear(hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))), f"{name}.mlp.fc2")
    return norm(tokens, "norm")


def test_base_has_the_published_names_and_shapes():
    with torch.device("meta"):
        model = VisionTransformer(preset("base"))
    found = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert found == published_names_and_shapes()
    assert "pos_embed" not in dict(model.named_parameters()), "positions are not trained"


def test_equals_a_plain_pre_norm_transformer(backbone, scan):
    with torch.no_grad():
        np.testing.assert_allclose(backbone(scan).numpy(), plain_encoder(backbone, scan), atol=2e-5)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_attention_equals_a_plain_softmax(with_gradient):
    torch.manual_seed(0)
    attention = Attention(24, 3)
    tokens = torch.randn(2, 7, 24)
    qkv = (tokens @ attention.qkv.weight.T + attention.qkv.bias).reshape(2, 7, 3, 3, 8).permute(2, 0, 3, 1, 4)
    weights = (qkv[0] @ qkv[1].transpose(2, 3) / 8**0.5).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    expected = (weights @ qkv[2]).permute(0, 2, 1, 3).reshape(2, 7, 24) @ attention.proj.weight.T + attention.proj.bias
    with torch.set_grad_enabled(with_gradient):
        torch.testing.assert_close(attention(tokens), expected, atol=1e-5, rtol=1e-5)


def test_unfolded_patches_and_a_linear_layer_equal_the_convolution(scan):
    torch.manual_seed(0)
    embedding = PatchEmbedding(2, (4, 4, 2), 24)
    expected = embedding.proj(scan).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embedding(scan), expected, atol=1e-5, rtol=1e-5)
    keep = torch.tensor([[3, 0, 23], [5, 6, 7]])
    gathered = torch.stack([expected[0, keep[0]], expected[1, keep[1]]])
    torch.testing.assert_close(embedding(scan, keep), gathered, atol=1e-5, rtol=1e-5)


def test_patches_are_numbered_row_by_row(scan):
    flat = patches(scan, (4, 4, 2))
    assert flat.shape == (2, 2 * 3 * 4, 2 * 32)
    assert torch.equal(flat[1, 1 * 12 + 2 * 4 + 3], scan[1, :, 4:8, 8:12, 6:8].flatten())


def test_masked_voxels_change_nothing(backbone, scan):
    """No leakage: everything the encoder gives is a function of the visible patches."""
    keep = torch.stack([torch.randperm(24, generator=torch.Generator().manual_seed(n))[:9] for n in range(2)])
    visible = torch.zeros(2, 24, dtype=torch.bool).scatter(1, keep, True)
    voxels = visible.reshape(2, 1, 2, 3, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(2, 4)
    with torch.no_grad():
        before = backbone(scan, keep)
        hidden_changed = backbone(torch.where(voxels, scan, torch.full_like(scan, torch.nan)), keep)
        assert torch.equal(before, hidden_changed)
        assert not torch.allclose(before, backbone(torch.where(voxels, scan + 1, scan), keep))
        assert before.shape == (2, 10, 24)


def test_keeping_all_patches_equals_no_mask(backbone, scan):
    keep = torch.arange(24).expand(2, -1)
    with torch.no_grad():
        torch.testing.assert_close(backbone(scan, keep), backbone(scan))


def test_features_are_maps_after_the_blocks(backbone, scan):
    with torch.no_grad():
        maps = backbone.features(scan, (2, 0))
        last = backbone(scan)[:, 1:].reshape(2, 2, 3, 4, 24).permute(0, 4, 1, 2, 3)
        first = backbone.blocks[0](backbone._embed(scan, None))[:, 1:].reshape(2, 2, 3, 4, 24).permute(0, 4, 1, 2, 3)
    assert [list(each.shape) for each in maps] == [[2, 24, 2, 3, 4]] * 2
    torch.testing.assert_close(maps[0], last)
    torch.testing.assert_close(maps[1], first)
    with pytest.raises(ValueError, match="blocks 0 to 2"):
        backbone.features(scan, (3,))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8, 7), (1, 1, 8, 8, 8), (2, 8, 8, 8), (1, 2, 8, 0, 8)])
def test_a_scan_that_does_not_fit_is_refused(backbone, shape):
    with pytest.raises(ValueError, match=r"multiple of the patch|expected a batch"):
        backbone(torch.zeros(shape))


def test_foreign_positions_are_interpolated_and_own_ones_recomputed(backbone):
    own = backbone.positions((3, 3, 3))
    foreign = torch.randn_like(backbone.pos_embed)
    backbone.load_state_dict(backbone.state_dict() | {"pos_embed": foreign})
    assert torch.equal(backbone.positions((2, 2, 4)), foreign)
    torch.testing.assert_close(backbone.positions((3, 3, 3)), interpolate_positions(foreign, (2, 2, 4), (3, 3, 3)))
    assert not torch.allclose(backbone.positions((3, 3, 3)), own)


def test_weights_learn_but_positions_do_not(backbone, scan):
    backbone(scan).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in backbone.parameters())
    assert not backbone.pos_embed.requires_grad


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("tokens", [1, 27, 130])
def test_attention_written_out_in_bfloat16_is_attention(tokens, units, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("glmae.backend_cpu.has_matrix_units", lambda: units)
    query, key, value = torch.randn(3, 2, 3, tokens, 16).bfloat16().unbind(0)
    expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    written = attend(query, key, value)
    assert written.dtype == torch.bfloat16
    torch.testing.assert_close(written.float(), expected, rtol=0.02, atol=0.02)
    monkeypatch.setattr("glmae.backend_cpu.WRITTEN_OUT", 0)
    torch.testing.assert_close(attend(query, key, value).float(), expected, rtol=0.02, atol=0.02)


def test_cls_alone_is_the_cls_of_all(backbone):
    scans = torch.randn(2, 2, 8, 12, 8)
    keep = torch.stack([torch.randperm(24)[:9] for _ in range(2)])
    for visible in (None, keep):
        alone = backbone(scans, visible, cls_only=True)
        torch.testing.assert_close(alone, backbone(scans, visible)[:, :1], rtol=1e-5, atol=1e-5)
