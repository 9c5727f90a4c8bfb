import math

import numpy as np
import pytest
import torch

from glmae.backbone.positions import interpolate_positions, sine_cosine_positions


def plain_table(width, grid, patch):
    """The formula, written out entry by entry."""
    per_axis = width // 6
    rows = [np.zeros(width)]
    for i in range(grid[0]):
        for j in range(grid[1]):
            for k in range(grid[2]):
                row = np.zeros(width)
                for axis, index in enumerate((i, j, k)):
                    center = ((index + 0.5) * patch[axis]) / max(patch) - 0.5
                    for f in range(per_axis):
                        angle = center / 30 ** (f / per_axis)
                        row[axis * 2 * per_axis + f] = math.sin(angle)
                        row[axis * 2 * per_axis + per_axis + f] = math.cos(angle)
                rows.append(row)
    return np.stack(rows)


@pytest.mark.parametrize(
    ("width", "grid", "patch"),
    [
        (192, (4, 4, 4), (8, 8, 8)),
        (24, (3, 1, 5), (16, 16, 16)),
        (32, (2, 3, 4), (8, 8, 4)),
        (20, (5, 2, 7), (2, 8, 4)),
    ],
)
def test_equals_the_formula(width, grid, patch):
    table = sine_cosine_positions(width, grid, patch)
    assert table.shape == (1, 1 + math.prod(grid), width)
    np.testing.assert_allclose(table[0].numpy(), plain_table(width, grid, patch), atol=1e-6)


def test_cubic_patches_count_tokens():
    table = sine_cosine_positions(6, (1, 1, 5), (16, 16, 16))[0, 1:]
    np.testing.assert_allclose(table[:, 4].numpy(), np.sin(np.arange(5)), atol=1e-6)


def test_thin_patches_agree_with_thick_ones_on_where_a_voxel_is():
    thick = sine_cosine_positions(12, (1, 1, 4), (8, 8, 8))[0, 1:]
    thinner = sine_cosine_positions(12, (1, 1, 12), (8, 8, 8 // 2))[0, 1:]
    # Patch 1 of 8 voxels is centered on voxel face 12; so is the middle between patches 2 and 3 of 4 voxels.
    angle = torch.atan2(thinner[:, 8], thinner[:, 10])
    assert (angle[2] + angle[3]) / 2 == pytest.approx(float(torch.atan2(thick[1, 8], thick[1, 10])), abs=1e-6)


def test_width_that_six_does_not_divide_is_padded_with_zeros():
    table = sine_cosine_positions(512, (2, 2, 2), (16, 16, 16))
    assert table[..., 510:].abs().max() == 0
    assert table[:, 1:, :510].abs().min(dim=1).values.max() > 0


def test_interpolation_keeps_cls_and_a_linear_field():
    grid, to_grid = (4, 3, 5), (8, 6, 10)
    places = torch.stack(torch.meshgrid(*[torch.arange(n) + 0.5 for n in grid], indexing="ij"), -1).reshape(-1, 3)
    table = torch.cat([torch.full((1, 3), 7.0), places])[None]
    resized = interpolate_positions(table, grid, to_grid)
    assert resized.shape == (1, 1 + math.prod(to_grid), 3)
    assert torch.equal(resized[:, 0], table[:, 0])
    volume = resized[0, 1:].reshape(*to_grid, 3)
    inner = volume[1:-1, 1:-1, 1:-1]
    expected = torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / 2 for n in to_grid], indexing="ij"), -1)
    torch.testing.assert_close(inner, expected[1:-1, 1:-1, 1:-1])


def test_too_narrow_tokens_are_refused():
    with pytest.raises(ValueError, match="at least 6"):
        sine_cosine_positions(5, (2, 2, 2), (8, 8, 8))
