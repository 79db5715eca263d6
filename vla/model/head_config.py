"""The heads as frozen values: how a chunk of actions is made from the trunk, and the normalisation each needs.

====================  ==========================================================  ============================
``FlowConfig``        flow matching with the action expert                        pi0
``L1Config``          the expert once, all actions in parallel, absolute error    OpenVLA-OFT
``DiffusionConfig``   the expert predicts the noise                               Octo, Diffusion Policy, RDT
``TokensConfig``      one word of the backbone for each number of each action     RT-2, OpenVLA
``FastConfig``        words for pieces of the chunk's cosine transform            pi0-FAST
====================  ==========================================================  ============================
"""

from dataclasses import dataclass
from typing import Literal

from vla.errors import ConfigError
from vla.normalize import NormalizeSpec

MEAN_STD = NormalizeSpec(kind="mean_std", epsilon=2e-3, clip=None)
"""``epsilon`` keeps channels that hardly move (below 2 mm or 2 mrad a step) from being blown up to unit variance."""

BOUNDED = NormalizeSpec(kind="quantile", clip=1.0)
"""1 % and 99 % quantiles to -1 and 1, everything beyond clipped: a head with a fixed range needs its numbers in it."""

Solver = Literal["euler", "midpoint", "heun"]


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching.

    Attributes:
        samples: noises drawn for each observation in training; they share one prefix.
        steps: of the solver from noise to action.
        solver: ``midpoint`` and ``heun`` ask the expert twice a step.
        temperature: scale of the noise that sampling starts from; 1 samples what was learnt.
        action_norm: rule for actions, the gripper like every other channel.
    """

    samples: int = 1
    steps: int = 10
    solver: Solver = "euler"
    temperature: float = 1.0
    action_norm: NormalizeSpec = MEAN_STD
    kind: Literal["flow"] = "flow"

    def __post_init__(self):
        if self.samples < 1 or self.steps < 1 or self.temperature < 0:
            raise ConfigError("flow head: samples and steps start at 1, temperature at 0")
        if self.solver not in ("euler", "midpoint", "heun"):
            raise ConfigError(f"flow head: solver {self.solver!r} is none of euler, midpoint, heun")


HeadConfig = FlowConfig

HEAD_CONFIGS: dict[str, type[HeadConfig]] = {"flow": FlowConfig}
