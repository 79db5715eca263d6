"""The schedule and the solvers, against published code's numbers and a distribution whose ODE is solved by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vla.model.diffusion import add_noise, denoise, squared_cosine
from vla.model.head_config import DiffusionSolver

SOLVERS: tuple[DiffusionSolver, ...] = ("ddim", "dpm")


def test_the_schedule_is_that_of_diffusers():
    """Numbers of diffusers 0.42.1: ``DDIMScheduler(100, beta_schedule="squaredcos_cap_v2").alphas_cumprod``."""
    kept = squared_cosine(100)
    known = {
        0: 0.99936873,
        1: 0.99825251,
        24: 0.8470121,
        49: 0.49384353,
        74: 0.14427209,
        98: 2.428572e-4,
        99: 2.428541e-7,
    }
    assert [kept[level].item() for level in known] == pytest.approx(list(known.values()), rel=3e-5)


@pytest.mark.parametrize(
    ("solver", "known"),
    [("ddim", [0.676089704, -0.675073981, 0.662352264]), ("dpm", [0.616169095, -0.640578926, -0.234646380])],
)
def test_the_solvers_are_those_of_diffusers(solver: DiffusionSolver, known: list[float]):
    """Of ``DDIMScheduler`` (no clipping) and ``DPMSolverMultistepScheduler`` (dpmsolver++, order 2, final sigma zero),
    trailing timesteps 99, 79, 59, 39, 19 of 100, from 0.5, -1.2, 2.0, where the predicted action is 0.8 sin(3 x).
    """
    kept = squared_cosine(100)[[99, 79, 59, 39, 19]]
    grid = torch.cat([kept, torch.ones(1)])

    def predict(x: Tensor, place: int) -> Tensor:
        return (x - kept[place].sqrt() * 0.8 * torch.sin(3 * x)) / (1 - kept[place]).sqrt()

    x = torch.tensor([[[0.5, -1.2, 2.0]]], dtype=torch.float64)
    assert denoise(predict, x, grid, solver).ravel().tolist() == pytest.approx(known, rel=1e-3)


MEAN, STD = 0.7, 0.3


def gaussian(grid: Tensor, solver: DiffusionSolver) -> float:
    """Error of the sampler where actions are N(MEAN, STD^2): the best prediction and the ODE's solution are known."""

    def spread(place: int) -> Tensor:
        return (grid[place] * STD**2 + 1 - grid[place]).sqrt()

    def predict(x: Tensor, place: int) -> Tensor:
        return (1 - grid[place]).sqrt() * (x - grid[place].sqrt() * MEAN) / spread(place) ** 2

    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, -1)
    last = len(grid) - 1
    exact = grid[last].sqrt() * MEAN + spread(last) * (x - grid[0].sqrt() * MEAN) / spread(0)
    return float((denoise(predict, x, grid, solver) - exact).abs().max())


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpm", 2)])
def test_the_error_falls_at_the_order_of_the_solver(solver: DiffusionSolver, order: int):
    counts = np.array([40, 80, 160, 320])
    errors = []
    for count in counts:
        log_ratio = torch.linspace(-4.0, 3.0, count + 1, dtype=torch.float64)  # log(alpha / sigma), evenly
        errors.append(gaussian(torch.sigmoid(2 * log_ratio), solver))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.15)


def test_noise_is_added_so_that_the_variance_stays():
    chance = torch.Generator().manual_seed(0)
    actions, noise = (torch.randn(4, 1000, 3, generator=chance) for _ in range(2))
    x = add_noise(actions, noise, torch.tensor([1.0, 0.7, 0.2, 0.0]))
    assert torch.equal(x[0], actions[0]) and torch.equal(x[3], noise[3])
    assert x.std((1, 2)).tolist() == pytest.approx([1.0] * 4, abs=0.05)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_perfect_prediction_gives_the_action(solver: DiffusionSolver):
    chance = torch.Generator().manual_seed(0)
    action, noise = (torch.rand(2, 3, 2, generator=chance) for _ in range(2))
    grid = torch.cat([squared_cosine(20).flip(0), torch.ones(1)])
    x = add_noise(action, noise, grid[:1].expand(2))

    def predict(x: Tensor, place: int) -> Tensor:
        return (x - grid[place].sqrt() * action) / (1 - grid[place]).sqrt()

    assert torch.allclose(denoise(predict, x.double(), grid, solver).float(), action, atol=1e-5)
    assert denoise(lambda x, place: -5 * x, x, grid, solver, clip=0.5).abs().max() <= 0.5
