"""The whole algorithm against formulas in float64 numpy, put together independently."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sample_scans import small_config

from glmae.backbone.vision_transformer import patches
from glmae.pretraining.configuration import LossWeights
from glmae.pretraining.gl_mae import GLMAE, random_masks

PLAIN_MAE = LossWeights(local_reconstruction=0, global_reconstruction=1, global_global=0, global_local=0)


def masks():
    return [torch.Generator().manual_seed(seed) for seed in (10, 11)]


@pytest.fixture
def views():
    random = torch.Generator().manual_seed(2)
    return torch.randn(2, 2, 1, 32, 32, 32, generator=random), torch.randn(2, 3, 1, 16, 16, 16, generator=random)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GLMAE(small_config(weights=LossWeights(global_global=0.5, global_local=0.25)))
    with torch.no_grad():  # teacher and student must differ, the center must not be zero
        for parameter in (*model.teacher.parameters(), *model.teacher_projector.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.center.normal_(std=0.05)
    return model


def log_softmax(values):
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def test_the_four_terms_equal_their_formulas(model, views):
    global_views, local_views = views
    center = model.center.clone().double().numpy()
    losses = model(global_views, local_views, masks())

    # The masks, drawn again in the order of the algorithm: global views, then local ones.
    random = masks()
    expected, student = {}, {}
    with torch.no_grad():
        for name, batch in (("global", global_views), ("local", local_views)):
            flat = batch.flatten(0, 1)
            grid = tuple(side // 8 for side in flat.shape[2:])
            keep, masked = random_masks(random, batch.shape[1], int(np.prod(grid)), 0.6)
            tokens = model.student(flat, keep)
            predicted = model.decoder(tokens, keep, grid, masked).double().numpy()
            original = patches(flat, (8, 8, 8)).double().numpy()
            errors = []
            for view in range(len(flat)):
                for row, patch in enumerate(masked[view].tolist()):
                    target = original[view, patch]
                    target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
                    errors.append(((predicted[view, row] - target) ** 2).mean())
            expected[f"{name}_reconstruction"] = np.mean(errors)
            student[name] = model.student_projector(tokens[:, 0]).double().numpy().reshape(2, batch.shape[1], -1)
        teacher = model.teacher_projector(model.teacher(global_views.flatten(0, 1))[:, 0]).double().numpy()
    anchor = np.exp(log_softmax((teacher - center) / 0.04)).reshape(2, 2, -1)
    for name in ("global", "local"):
        pairs = [
            -(anchor[volume, a] * log_softmax(student[name][volume, v] / 0.1)).sum()
            for volume in range(2)
            for a in range(2)
            for v in range(student[name].shape[1])
        ]
        expected[f"global_{name}"] = np.mean(pairs)
    for name, value in expected.items():
        assert float(getattr(losses, name).detach()) == pytest.approx(value, rel=1e-4), name
    total = (
        expected["local_reconstruction"]
        + expected["global_reconstruction"]
        + 0.5 * expected["global_global"]
        + 0.25 * expected["global_local"]
    )
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-4)
    np.testing.assert_allclose(model.center.numpy(), 0.9 * center + 0.1 * teacher.mean(0), atol=1e-6)


def test_teacher_gets_no_gradients_and_everything_else_does(model, views):
    model(*views, masks()).total.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("teacher"):
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        else:
            assert parameter.grad is not None, name


def test_teacher_follows_by_the_ema_formula(model):
    parts = ((model.teacher, model.student), (model.teacher_projector, model.student_projector))
    before = [[parameter.double().detach().clone() for parameter in teacher.parameters()] for teacher, _ in parts]
    model.update_teacher(0.97)
    for (teacher, student), old in zip(parts, before, strict=True):
        for new, previous, current in zip(teacher.parameters(), old, student.parameters(), strict=True):
            torch.testing.assert_close(new.double(), 0.97 * previous + 0.03 * current.double(), atol=1e-6, rtol=1e-5)


def test_a_new_teacher_is_the_student():
    model = GLMAE(small_config())
    for teacher, student in ((model.teacher, model.student), (model.teacher_projector, model.student_projector)):
        assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_center_stands_still_in_evaluation(model, views):
    before = model.center.clone()
    model.eval()(*views, masks())
    assert torch.equal(model.center, before)


def test_plain_mae_has_no_teacher_and_needs_no_local_views(views):
    model = GLMAE(small_config(weights=PLAIN_MAE))
    losses = model(views[0], None, masks())
    assert model.teacher is None
    assert model.student_projector is None
    assert model.center.numel() == 0
    assert set(losses.terms()) == {"total", "global_reconstruction"}
    assert torch.equal(losses.total, losses.global_reconstruction)
    model.update_teacher(0.5)


@pytest.mark.parametrize("name", ["local_reconstruction", "global_reconstruction", "global_global", "global_local"])
def test_a_term_alone_runs_only_what_it_needs(model, views, name):
    alone = LossWeights(**{term: float(term == name) for term in vars(LossWeights())})
    config = replace(model.config, weights=alone)
    single = GLMAE(config)
    expected = {key: value.shape for key, value in single.state_dict().items()}
    single.load_state_dict(
        {key: value for key, value in model.state_dict().items() if value.shape == expected.get(key)}, strict=False
    )
    calls = []
    for part in ("student", "teacher", "decoder"):
        if getattr(single, part) is not None:
            getattr(single, part).register_forward_hook(lambda *_, part=part: calls.append(part))
    losses = single(*views, masks())
    reconstructs = name.endswith("reconstruction")
    assert calls == (["student", "decoder"] if reconstructs else ["student", "teacher"])
    assert set(losses.terms()) == {"total", name}
    assert float(losses.total.detach()) == pytest.approx(float(getattr(losses, name).detach()))


def test_masked_voxels_reach_the_loss_as_target_only(model, views):
    """What the student makes of a view does not depend on its masked voxels, and the reconstruction's target does."""
    global_views, local_views = views
    model.eval()
    keep, _ = random_masks(masks(), 2, 64, 0.6)
    visible = torch.zeros(4, 64, dtype=torch.bool).scatter(1, keep, True).reshape(2, 2, 1, 4, 4, 4)
    voxels = visible.repeat_interleave(8, 3).repeat_interleave(8, 4).repeat_interleave(8, 5)
    changed = torch.where(voxels, global_views, torch.randn_like(global_views))
    found = [model(each, local_views, masks(), teacher_views=global_views) for each in (global_views, changed)]
    assert torch.equal(found[0].global_global, found[1].global_global)
    assert not torch.equal(found[0].global_reconstruction, found[1].global_reconstruction)


def test_missing_views_are_named(model, views):
    with pytest.raises(ValueError, match="views are missing"):
        model(views[0], None, masks())


def test_the_spread_joins_the_loss_where_there_are_volumes_to_keep_apart(model, views):
    apart = GLMAE(replace(model.config, weights=replace(model.config.weights, spread=0.5)))
    apart.load_state_dict(model.state_dict())
    with_it, without = apart(*views, masks()), model(*views, masks())
    assert float(with_it.total) == pytest.approx(float(without.total + 0.5 * with_it.spread), rel=1e-5)
    alone = apart(views[0][:1], views[1][:1], masks()[:1])
    assert alone.spread is None, "one volume has no other"


def test_the_teacher_alone_sees_the_other_appearance(model, views):
    model.eval()
    plain = model(*views, masks()).terms()
    other = model(*views, masks(), teacher_views=views[0].flip(-1)).terms()
    assert torch.equal(plain["local_reconstruction"], other["local_reconstruction"])
    assert torch.equal(plain["global_reconstruction"], other["global_reconstruction"])
    assert not torch.equal(plain["global_global"], other["global_global"])
    assert not torch.equal(plain["global_local"], other["global_local"])
