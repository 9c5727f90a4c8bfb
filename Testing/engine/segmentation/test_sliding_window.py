"""Windows: the whole scan is covered, whatever its size."""

import numpy as np
import pytest
import torch
from torch import nn

from glmae.segmentation.sliding_window import class_probabilities


class Voxelwise(nn.Module):
    """Logits that depend on each voxel alone, so that windows cannot change the result."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat([torch.zeros_like(x), x, -x], dim=1)]


@pytest.mark.parametrize("shape", [(20, 21, 22), (8, 40, 17), (5, 6, 7)])
def test_a_voxelwise_network_gives_its_softmax_everywhere(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    found = class_probabilities(Voxelwise(), image, (16, 16, 16), torch.device("cpu"))
    exponents = np.exp(np.stack([np.zeros(shape), image[0], -image[0]]))
    assert found.shape == (3, *shape)
    np.testing.assert_allclose(found, exponents / exponents.sum(axis=0), atol=1e-5)


def test_each_window_can_stop_the_run():
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        class_probabilities(Voxelwise(), np.zeros((1, 64, 64, 64)), (16, 16, 16), torch.device("cpu"), on_window=stop)
    assert len(seen) == 3
