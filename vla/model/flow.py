"""Flow matching in pi0's convention, so that its checkpoints mean the same here.

``t = 1`` is noise, ``t = 0`` the action: ``x_t = t * noise + (1 - t) * action``, target ``u = noise - action``,
``t = 0.999 * Beta(1.5, 1) + 0.001`` (more often noisy than not), Euler steps from 1 to 0. Source: Black et al.,
"pi0" (2024), section IV and its released code.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vla.model.head_config import Solver
from vla.model.noise import Noise, uniform

Velocity = Callable[[Float[Tensor, "b h a"], Float[Tensor, "b"]], Float[Tensor, "b h a"]]


def sample_time(count: int, generator: Noise = None) -> Float[Tensor, "b"]:
    """Times for training. Beta(1.5, 1) has the distribution function x**1.5, so a uniform number inverts it."""
    return 0.999 * uniform((count,), generator) ** (1 / 1.5) + 0.001


def interpolate(
    actions: Float[Tensor, "b h a"], noise: Float[Tensor, "b h a"], time: Float[Tensor, "b"]
) -> Float[Tensor, "b h a"]:
    """``x_t``, between the action and the noise."""
    t = time[:, None, None].to(actions.dtype)
    return t * noise + (1 - t) * actions


def solver_times(steps: int, solver: Solver = "euler") -> list[float]:
    """Every time that :func:`integrate` asks for, in its order."""
    begins, size = [1 - step / steps for step in range(steps)], 1 / steps
    second = {"euler": None, "midpoint": size / 2, "heun": size}[solver]
    return [time for begin in begins for time in ((begin,) if second is None else (begin, begin - second))]


def integrate(
    velocity: Velocity, noise: Float[Tensor, "b h a"], steps: int, solver: Solver = "euler"
) -> Float[Tensor, "b h a"]:
    """Steps of equal length from noise (t = 1) to an action (t = 0).

    Euler's method has order 1. The midpoint rule and Heun's have order 2 and ask for the velocity twice a step.
    """
    x, size = noise, 1 / steps
    times = (torch.full((len(x),), time, dtype=x.dtype, device=x.device) for time in solver_times(steps, solver))
    for time in times:
        slope = velocity(x, time)
        if solver == "midpoint":
            slope = velocity(x - slope * (size / 2), next(times))
        elif solver == "heun":
            slope = (slope + velocity(x - slope * size, next(times))) / 2
        x = x - slope / steps
    return x
