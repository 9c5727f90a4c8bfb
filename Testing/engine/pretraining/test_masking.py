import pytest
import torch

from glmae.pretraining.gl_mae import masked_count, random_masks


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(("tokens", "visible"), [(216, 86), (1000, 400), (64, 26), (512, 205)])
def test_sixty_percent_is_exact_in_every_view(tokens, visible):
    """The first two are the paper's views; the notes count 86 + 1 and 400 + 1 visible tokens."""
    keep, masked = random_masks(generators(0, 1), 3, tokens, 0.6)
    assert keep.shape == (6, visible)
    assert masked.shape == (6, tokens - visible)
    together = torch.cat([keep, masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(tokens).expand(6, -1)), "each patch is either visible or masked"


@pytest.mark.parametrize(("tokens", "ratio", "count"), [(2, 0.99, 1), (2, 0.01, 1), (10, 0.25, 2), (10, 0.6, 6)])
def test_one_patch_stays_visible_and_one_masked(tokens, ratio, count):
    assert masked_count(tokens, ratio) == count


def test_a_view_of_one_patch_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        masked_count(1, 0.6)


def test_a_volume_has_the_same_masks_in_every_batch():
    both, _ = random_masks(generators(3, 4), 2, 64, 0.6)
    alone, _ = random_masks(generators(4), 2, 64, 0.6)
    assert torch.equal(both[2:], alone)
    assert not torch.equal(both[0], both[1]), "views of a volume are masked differently"


def test_each_patch_is_masked_equally_often():
    _, masked = random_masks(generators(7), 4000, 10, 0.6)
    share = torch.bincount(masked.flatten(), minlength=10) / 4000
    assert share.min() > 0.56
    assert share.max() < 0.64
