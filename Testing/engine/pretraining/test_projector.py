import numpy as np
import pytest
import torch

from glmae.pretraining.gl_mae import Projector


@pytest.mark.parametrize("autocast", [False, True])
def test_gives_cosines_between_bottleneck_and_prototypes(autocast):
    torch.manual_seed(0)
    projector = Projector(width=12, hidden=20, bottleneck=8, prototypes=30)
    cls = torch.randn(5, 12)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = projector(cls).numpy()
        bottleneck = projector.mlp(cls).double().numpy()
        rows = projector.prototypes.double().numpy()
    expected = np.empty((5, 30))
    for a in range(5):
        for b in range(30):
            expected[a, b] = bottleneck[a] @ rows[b] / np.linalg.norm(bottleneck[a]) / np.linalg.norm(rows[b])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_length_of_the_prototypes_does_not_matter():
    projector = Projector(width=12, hidden=20, bottleneck=8, prototypes=30)
    cls = torch.randn(5, 12)
    with torch.no_grad():
        before = projector(cls)
        projector.prototypes.mul_(torch.rand(30, 1) + 0.5)
        torch.testing.assert_close(projector(cls), before)
