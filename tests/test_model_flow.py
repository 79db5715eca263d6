"""The flow's convention, against its formulas and a distribution whose flow is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vla.model.flow import integrate, interpolate, sample_time
from vla.model.head_config import Solver
from vla.model.masked import masked_mse


def test_times_follow_the_beta_distribution():
    times = sample_time(20_000, torch.Generator().manual_seed(0)).numpy()
    assert times.min() >= 0.001 and times.max() <= 1.0
    assert stats.kstest((times - 0.001) / 0.999, stats.beta(1.5, 1).cdf).pvalue > 0.01


def test_one_is_noise_and_zero_the_action():
    actions, noise = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    x = interpolate(actions, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(x[0], actions[0]) and torch.equal(x[1], noise[1])


def test_the_loss_sees_real_numbers_only():
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[0, :2, :3] = True
    target = torch.randn(2, 3, 4)
    predicted = torch.where(mask, target + 2.0, torch.nan)
    # 2 of 3 steps of 3 channels are off by 2; the other example has nothing real
    assert masked_mse(predicted, target, mask).item() == pytest.approx(4.0 * 2 / 3 / 2)
    assert masked_mse(predicted, target, torch.zeros_like(mask)).item() == 0.0


def test_the_loss_of_a_batch_is_the_mean_of_its_examples_losses():
    chance = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 6, 5, 4, generator=chance)
    mask = torch.rand(6, 5, 1, generator=chance).lt(0.6) & torch.tensor([True, True, True, False])
    apart = [masked_mse(predicted[n : n + 1], target[n : n + 1], mask[n : n + 1]) for n in range(6)]
    assert masked_mse(predicted, target, mask).item() == pytest.approx(torch.stack(apart).mean().item())


def test_euler_steps_of_a_constant_velocity_are_exact():
    noise, action = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    assert torch.allclose(integrate(lambda x, t: noise - action, noise, 10), action, atol=1e-5)


def test_the_known_flow_of_a_gaussian_samples_that_gaussian():
    """Between N(0, 1) noise and N(m, s^2) actions, the velocity that minimises the loss is linear in x."""
    mean, std = 1.5, 0.4

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        t = time[:, None, None]
        variance = t**2 + (1 - t) ** 2 * std**2
        gain = (t - (1 - t) * std**2) / variance
        return gain * (x - (1 - t) * mean) - mean

    noise = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(0))
    samples = integrate(velocity, noise, 100).numpy().ravel()
    assert np.mean(samples) == pytest.approx(mean, abs=0.02)
    assert np.std(samples) == pytest.approx(std, abs=0.02)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_the_error_falls_at_the_order_of_the_solver(solver: Solver, order: int):
    """dx/dt = x cos(t) leads from x at t = 1 to x exp(-sin 1) at t = 0."""
    start = torch.tensor([1.0, -0.5], dtype=torch.float64).view(2, 1, 1)
    exact = start * math.exp(-math.sin(1))
    counts = np.array([40, 80, 160, 320])
    errors = [
        (integrate(lambda x, t: x * torch.cos(t)[:, None, None], start, count, solver) - exact).abs().max().item()
        for count in counts
    ]
    assert np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(-order, abs=0.1)
