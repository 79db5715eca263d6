"""Denoising diffusion with the squared-cosine schedule, and two solvers of its probability-flow ODE.

``x_t = alpha_t * action + sigma_t * noise`` with ``alpha_t ** 2 + sigma_t ** 2 = 1``; the network predicts the noise.
Schedule: Nichol and Dhariwal (2021). DDIM: Song et al. (2021) with eta = 0. DPM-Solver++(2M): Lu et al. (2022),
algorithm 2, which steps evenly in any grid of ``lambda = log(alpha / sigma)``.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vla.model.head_config import DiffusionSolver

Predict = Callable[[Float[Tensor, "b h a"], int], Float[Tensor, "b h a"]]
"""Predicts the noise in x at a place of the grid."""


def squared_cosine(levels: int) -> Float[Tensor, "levels"]:
    """``alpha_t ** 2`` of each level, from the least noise to the most; single betas are kept below 0.999."""
    time = torch.arange(levels + 1, dtype=torch.float64) / levels
    kept = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - kept[1:] / kept[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, 0)


def add_noise(
    actions: Float[Tensor, "b h a"], noise: Float[Tensor, "b h a"], kept: Float[Tensor, "b"]
) -> Float[Tensor, "b h a"]:
    """``x_t`` where ``kept = alpha_t ** 2``."""
    kept = kept[:, None, None]
    return (kept.sqrt() * actions + (1 - kept).sqrt() * noise).to(actions.dtype)


def denoise(
    predict: Predict,
    x: Float[Tensor, "b h a"],
    grid: Float[Tensor, "n"],
    solver: DiffusionSolver = "dpm",
    clip: float | None = None,
) -> Float[Tensor, "b h a"]:
    """From noise to an action.

    Args:
        predict: the noise in x at a place of the grid.
        x: noise of ``grid[0]``.
        grid: ``alpha_t ** 2`` from noisy to clean; may end at 1, which is the action itself.
        solver: ``ddim`` has order 1, ``dpm`` order 2 (1 in its first step, and in its last if that ends at 1).
        clip: keep predicted actions within +-clip.
    """
    alpha, sigma = grid.double().sqrt().tolist(), (1 - grid.double()).sqrt().tolist()
    before: tuple[Tensor, float] | None = None
    for here in range(len(grid) - 1):
        (a, s), (a_next, s_next) = ((alpha[place], sigma[place]) for place in (here, here + 1))
        clean = (x - s * predict(x, here)) / a
        if clip is not None:
            clean = clean.clamp(-clip, clip)
        aim = clean
        if solver == "dpm" and s_next > 0:
            length = math.log(a_next / s_next) - math.log(a / s)
            if before is not None:
                earlier, earlier_length = before
                aim = clean + (clean - earlier) * (length / (2 * earlier_length))
            before = clean, length
        # DDIM's equation 12 with eta = 0: the same noise, less of it; DPM-Solver++'s step has the same form
        x = (s_next / s) * x + (a_next - a * s_next / s) * aim
    return x
