import pytest
import torch
from torch.nn import functional as F

from glmae.pretraining.views import cut_one_by_one


def sampled(regions, boxes, jitter, side):
    """Each voxel on its own, by torch's general sampling."""
    sides = torch.tensor(regions.shape[2:])
    steps = (torch.arange(side) + 0.5) / side
    views = torch.empty(*boxes.shape[:2], regions.shape[1], side, side, side)
    for volume in range(len(boxes)):
        for view, (corner, extent) in enumerate(boxes[volume]):
            axes = [2 * (corner[a] + extent[a] * steps) / sides[a] - 1 for a in range(3)]
            places = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=3)[None]
            region = regions[volume : volume + 1].float()
            views[volume, view] = F.grid_sample(region, places, padding_mode="border", align_corners=False)[0]
    factor, offset = jitter[..., None, None, None, None].unbind(dim=2)
    return views * factor + offset


@pytest.mark.parametrize("side", [5, 24])
def test_it_is_trilinear_interpolation(side):
    torch.manual_seed(0)
    regions = torch.randn(2, 2, 9, 12, 15).half()
    sides = torch.tensor([9.0, 12.0, 15.0])
    extent = sides * (0.2 + 0.8 * torch.rand(2, 4, 1))
    boxes = torch.stack([torch.rand(2, 4, 3) * (sides - extent), extent], dim=2)
    boxes[0, 0] = torch.stack([torch.zeros(3), sides])  # to both ends
    boxes[1, 0] = torch.stack([torch.full((3,), 3.25), torch.full((3,), 0.5)])  # within a voxel
    jitter = torch.rand(2, 4, 2)
    cut = cut_one_by_one(regions, boxes, jitter, side)
    torch.testing.assert_close(cut, sampled(regions, boxes, jitter, side), rtol=1e-4, atol=1e-4)


def test_the_box_of_whole_voxels_is_those_voxels():
    region = torch.arange(4.0 * 5 * 6).reshape(1, 1, 4, 5, 6)
    boxes = torch.tensor([[[[1.0, 2.0, 3.0], [3.0, 3.0, 3.0]]]])
    as_it_is = torch.tensor([[[1.0, 0.0]]])
    cut = cut_one_by_one(region, boxes, as_it_is, 3)
    assert torch.equal(cut[0, 0], region[0, :, 1:4, 2:5, 3:6])
