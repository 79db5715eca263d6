"""Real-time chunking inside the flow sampler: the new chunk is pulled to what is still planned (Black et al. 2025).

At each step of the flow the network's own guess of the final chunk, ``x - t v``, is compared with the plan, and the
difference, weighted by the soft mask, is carried back through the network to a correction of the velocity (the
paper's equations 2 to 4, guidance by pseudo-inverse; Song et al. 2023). Times here run from 1 (noise) to 0, the
paper's from 0 to 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vla.errors import ConfigError
from vla.model.backbone import Inputs
from vla.model.flow import Velocity, integrate
from vla.model.head_flow import FlowHead
from vla.model.vla_model import VlaModel

MAX_STRENGTH = 5.0
"""Where the correction's weight is cut off; it is infinite at the first step. The paper's beta."""


def guided(
    velocity: Velocity,
    planned: Float[Tensor, "b h a"],
    weights: Float[Tensor, "h"],
    *,
    max_strength: float = MAX_STRENGTH,
) -> Velocity:
    """The velocity, corrected towards a plan.

    It needs gradients, so that nothing that ``velocity`` holds may have been made in torch's inference mode.

    Args:
        velocity: of the flow.
        planned: normalised actions; where the weight is 0 they do not matter.
        weights: how much each row is bound, see :func:`vla.asynchronous.prefix_weights`.
        max_strength: limit of the correction's weight.
    """
    mask = weights.to(planned)[:, None]

    def corrected(x: Float[Tensor, "b h a"], time: Float[Tensor, "b"]) -> Float[Tensor, "b h a"]:
        t = time[:, None, None]
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            slope = velocity(x, time)
            guess = x - t * slope
            (pull,) = torch.autograd.grad(guess, x, mask * (planned - guess.detach()))
        strength = (t**2 + (1 - t) ** 2) / (t * (1 - t)).clamp(min=1e-8)
        return slope.detach() - strength.clamp(max=max_strength) * pull

    return corrected


def continue_chunk(
    model: VlaModel,
    inputs: Inputs,
    planned: Float[Tensor, "b h a"],
    weights: Float[Tensor, "h"],
    *,
    noise: Float[Tensor, "b h a"],
    steps: int | None = None,
) -> Float[Tensor, "b h a"]:
    """Chunks of normalised actions that go on from a plan; the backbone runs once, as in :meth:`VlaModel.sample`.

    Args:
        model: with a flow's head.
        inputs: what is seen now.
        planned: see :func:`guided`.
        weights: see :func:`guided`.
        noise: to start from.
        steps: of the solver; the head's own number if None.

    Raises:
        ConfigError: the head is no flow.
    """
    head = model.head
    if not isinstance(head, FlowHead):
        raise ConfigError(f"only a flow can be guided to continue a chunk; this head is {model.config.head.kind}")
    with torch.no_grad():
        velocity = head.network.given(model.backbone, model.prefix(inputs), inputs)
        return integrate(guided(velocity, planned, weights), noise, steps or head.config.steps, head.config.solver)
