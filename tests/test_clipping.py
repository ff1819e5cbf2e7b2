"""Clipping against PyTorch's own functions and by arithmetic."""

import math

import pytest
import torch
from torch import nn

from companion.bptt import ClipNorm, ClipValue
from companion.training import fit


def gradients(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), ())]


def as_parameters(tensors):
    parameters = [nn.Parameter(torch.zeros_like(t)) for t in tensors]
    for parameter, tensor in zip(parameters, tensors, strict=True):
        parameter.grad = tensor.clone()
    return parameters


@pytest.mark.parametrize("limit", [1e-3, 1.0, 100.0])
def test_norm_is_torchs(limit):
    ours, theirs = gradients(), as_parameters(gradients())
    norm = ClipNorm(limit)(ours)
    assert torch.allclose(norm, nn.utils.clip_grad_norm_(theirs, limit))
    for g, parameter in zip(ours, theirs, strict=True):
        assert torch.allclose(g, parameter.grad, atol=0, rtol=1e-6)


@pytest.mark.parametrize("limit", [1e-3, 0.5, 100.0])
def test_value_is_torchs(limit):
    ours, theirs = gradients(), as_parameters(gradients())
    before = torch.cat([g.flatten() for g in ours]).norm()
    norm = ClipValue(limit)(ours)
    nn.utils.clip_grad_value_(theirs, limit)
    assert torch.allclose(norm, before)
    assert all(torch.equal(g, p.grad) for g, p in zip(ours, theirs, strict=True))


def test_by_hand():
    """(3, 4) has norm 5: by norm to 2 it is 2/5 of it, by value both entries are 2."""
    g = [torch.tensor([3.0]), torch.tensor([[-4.0]])]
    assert ClipNorm(2.0)(g).item() == 5.0
    assert g[0].item() == pytest.approx(1.2) and g[1].item() == pytest.approx(-1.6)
    g = [torch.tensor([3.0, -4.0, 0.5])]
    ClipValue(2.0)(g)
    assert g[0].tolist() == [2.0, -2.0, 0.5]


def test_below_the_limit_nothing_changes():
    for clip in (ClipNorm(100.0), ClipValue(100.0)):
        g = gradients()
        clip(g)
        assert all(torch.equal(a, b) for a, b in zip(g, gradients(), strict=True))


def test_zero_stays_zero_and_nan_is_seen():
    for clip in (ClipNorm(1.0), ClipValue(1.0)):
        g = [torch.zeros(3)]
        assert clip(g).item() == 0 and not g[0].any()
        assert math.isnan(clip([torch.tensor([1.0, math.nan])]).item())
        assert clip([torch.tensor([1.0, math.inf])]).item() == math.inf


def test_norm_spreads_a_nan_and_value_does_not():
    g = [torch.ones(4), torch.tensor([math.nan])]
    ClipNorm(1.0)(g)
    assert all(tensor.isnan().all() for tensor in g)
    g = [torch.ones(4), torch.tensor([math.nan])]
    ClipValue(1.0)(g)
    assert not g[0].isnan().any() and g[1].isnan().all()


@pytest.mark.parametrize("kind", [ClipNorm, ClipValue])
@pytest.mark.parametrize(
    ("limit", "error"),
    [(0, ValueError), (-1.0, ValueError), (math.inf, ValueError), (math.nan, ValueError),
     ("1", TypeError), (True, TypeError), (None, TypeError)],
)  # fmt: skip
def test_limits_that_are_none(kind, limit, error):
    with pytest.raises(error, match=f"limit must be .*, got {limit!r}"):
        kind(limit)


def step(clip):
    """Move of a weight of two entries by one step of rate 1, whose gradient is (-6, -8)."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    x, target = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]])
    history = fit(
        model, [(x, target)], nn.functional.mse_loss, epochs=1, learning_rate=1.0,
        optimiser=torch.optim.SGD, clip=clip, progress=False,
    )  # fmt: skip
    assert history.gradient_norm[0] == pytest.approx(10.0)  # before clipping
    return model.weight.detach().cpu().flatten().tolist()


def test_fit_takes_a_number_or_a_part():
    assert step(None) == pytest.approx([6.0, 8.0])
    assert step(1.0) == step(ClipNorm(1.0)) == pytest.approx([0.6, 0.8], rel=1e-5)
    assert step(ClipValue(7.0)) == pytest.approx([6.0, 7.0])


def test_a_norm_at_or_below_the_limit_is_left_alone():
    for limit in (6e-7, 5e-7):
        gradient = torch.tensor([3e-7, 4e-7], dtype=torch.float64)
        ClipNorm(limit)([gradient])
        assert gradient.tolist() == [3e-7, 4e-7]


@pytest.mark.parametrize("clip", [ClipNorm(1.0), ClipValue(0.5)])
def test_gradients_may_come_one_by_one(clip):
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    assert clip(g for g in gradients).item() == 5.0
    assert max(g.item() for g in gradients) < 1
