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
DiffusionSolver = Literal["ddim", "dpm"]


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching.

    Attributes:
        samples: noises drawn for each observation in training; they share one prefix.
        steps: of the solver from noise to action.
        solver: ``midpoint`` and ``heun`` ask the expert twice a step.
        temperature: scale of the noise that sampling starts from; 1 samples what was learnt.
        action_norm: rule for actions, the gripper like every other channel.

    Raises:
        ConfigError: a setting is out of its range.
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


@dataclass(frozen=True)
class L1Config:
    """One pass of the expert, all actions in parallel, trained on the absolute error (Kim et al. 2025).

    Attributes:
        action_norm: rule for actions.
    """

    action_norm: NormalizeSpec = MEAN_STD
    kind: Literal["l1"] = "l1"


@dataclass(frozen=True)
class DiffusionConfig:
    """The expert predicts the noise of a diffusion (Ho et al. 2020) with the squared-cosine schedule.

    Attributes:
        levels: of noise in training.
        samples: noises drawn for each observation in training; they share one prefix.
        steps: of the solver from noise to action.
        solver: ``ddim`` (order 1) or ``dpm``, DPM-Solver++(2M) (order 2); both ask the expert once a step.
        temperature: scale of the noise that sampling starts from; 1 samples what was learnt.
        clip: predicted actions are kept within +-clip while sampling, as in Diffusion Policy: near pure noise a small
            error of the noise is a large one of the action.
        action_norm: rule for actions.

    Raises:
        ConfigError: a setting is out of its range.
    """

    levels: int = 100
    samples: int = 1
    steps: int = 10
    solver: DiffusionSolver = "dpm"
    temperature: float = 1.0
    clip: float | None = 1.0
    action_norm: NormalizeSpec = BOUNDED
    kind: Literal["diffusion"] = "diffusion"

    def __post_init__(self):
        if self.samples < 1 or not 1 <= self.steps <= self.levels or self.temperature < 0:
            raise ConfigError("diffusion head: samples start at 1, steps at 1 up to levels, temperature at 0")
        if self.solver not in ("ddim", "dpm") or (self.clip is not None and self.clip <= 0):
            raise ConfigError("diffusion head: solver is ddim or dpm, clip above 0")


@dataclass(frozen=True)
class TokensConfig:
    """Each number of each action is one word, the index of a bin between -1 and 1 (Brohan et al. 2023).

    Attributes:
        edges: of the bins, evenly spaced; one less than that many words (OpenVLA: 256 and 255).
        temperature: 0 takes the likeliest word each time; 1 samples what was learnt.
        action_norm: rule for actions; must be bounded by 1.

    Raises:
        ConfigError: a setting is out of its range.
    """

    edges: int = 256
    temperature: float = 0.0
    action_norm: NormalizeSpec = BOUNDED
    kind: Literal["tokens"] = "tokens"

    def __post_init__(self):
        if self.edges < 3 or self.temperature < 0:
            raise ConfigError("tokens head: edges start at 3, temperature at 0")
        _check_bounded("tokens head", self.action_norm)

    @property
    def words(self) -> int:
        """Words of the backbone's vocabulary that it uses, the last ones."""
        return self.edges - 1


@dataclass(frozen=True)
class FastConfig:
    """Pieces of the chunk's cosine transform as words (Pertsch et al. 2025); the pieces are fitted to the data.

    Attributes:
        vocabulary: of pieces; at least the number of values that a coefficient can have.
        scale: coefficients are multiplied by this and rounded: larger is finer and longer.
        temperature: 0 takes the likeliest word each time; 1 samples what was learnt.
        action_norm: rule for actions; must be bounded by 1.

    Raises:
        ConfigError: a setting is out of its range.
    """

    vocabulary: int = 1024
    scale: float = 10.0
    temperature: float = 0.0
    action_norm: NormalizeSpec = BOUNDED
    kind: Literal["fast"] = "fast"

    def __post_init__(self):
        if self.vocabulary < 2 or self.scale <= 0 or self.temperature < 0:
            raise ConfigError("fast head: vocabulary starts at 2, scale above 0, temperature at 0")
        _check_bounded("fast head", self.action_norm)

    @property
    def words(self) -> int:
        """Words of the backbone's vocabulary that it uses, the last ones."""
        return self.vocabulary


WordConfig = TokensConfig | FastConfig
"""Heads that write actions with the backbone's own words."""

HeadConfig = FlowConfig | L1Config | DiffusionConfig | WordConfig

HEAD_CONFIGS: dict[str, type[HeadConfig]] = {
    "flow": FlowConfig,
    "l1": L1Config,
    "diffusion": DiffusionConfig,
    "tokens": TokensConfig,
    "fast": FastConfig,
}


def _check_bounded(name: str, norm: NormalizeSpec) -> None:
    if norm.kind not in ("quantile", "min_max") or norm.clip != 1.0 or norm.skip:
        raise ConfigError(f"{name}: actions must be normalised to -1..1 (quantile or min_max, clip 1, none skipped)")
