import torch
from sample_scans import small_backbone

from glmae.backbone.presets import preset
from glmae.pretraining.gl_mae import Decoder


def test_base_has_the_published_names_and_shapes():
    with torch.device("meta"):
        found = {name: list(value.shape) for name, value in Decoder(preset("base")).state_dict().items()}
    fixed = {
        "mask_token": [1, 1, 512],
        "decoder_pos_embed": [1, 217, 512],
        "decoder_embed.weight": [512, 768],
        "decoder_embed.bias": [512],
        "decoder_norm.weight": [512],
        "decoder_norm.bias": [512],
        "decoder_pred.weight": [4096, 512],
        "decoder_pred.bias": [4096],
    }
    assert {name: found[name] for name in fixed} == fixed
    assert len(found) == len(fixed) + 8 * 12
    assert found["decoder_blocks.7.attn.qkv.weight"] == [1536, 512]


def test_tokens_are_put_back_where_they_came_from():
    """Every visible token and its index may be listed in any order; the prediction is the same."""
    torch.manual_seed(0)
    decoder = Decoder(small_backbone()).eval()
    tokens, keep = torch.randn(1, 4, 48), torch.tensor([[1, 4, 6]])
    asked = torch.tensor([[0, 2, 3, 5, 7]])
    order = torch.tensor([2, 0, 1])
    shuffled = torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], dim=1)
    with torch.no_grad():
        plain = decoder(tokens, keep, (2, 2, 2), asked)
        torch.testing.assert_close(decoder(shuffled, keep[:, order], (2, 2, 2), asked), plain)
        moved = decoder(tokens, keep[:, order], (2, 2, 2), asked)
        one = decoder(tokens, keep, (2, 2, 2), asked[:, 3:4])
    assert plain.shape == (1, 5, 512)
    assert not torch.allclose(moved, plain)
    torch.testing.assert_close(one, plain[:, 3:4])


def test_masked_patches_differ_by_their_position_only():
    torch.manual_seed(0)
    decoder = Decoder(small_backbone()).eval()
    tokens, keep, asked = torch.randn(1, 3, 48), torch.tensor([[0, 5]]), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        predicted = decoder(tokens, keep, (3, 2, 2), asked)
        assert not torch.allclose(predicted[:, 0], predicted[:, 1])
        decoder._positions((3, 2, 2)).zero_()
        flat = decoder(tokens, keep, (3, 2, 2), asked)
        torch.testing.assert_close(flat[:, 0], flat[:, 1])
