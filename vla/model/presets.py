"""Models by name, with any head."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from vla.errors import ConfigError, UnknownName
from vla.model.config import ExpertConfig, HfConfig, LoraConfig, NanoConfig, OfflineConfig, VlaConfig
from vla.model.head_config import BOUNDED, DiffusionConfig, FastConfig, FlowConfig, L1Config, TokensConfig
from vla.normalize import NormalizeSpec

EXPERTS: dict[Literal["pi0", "pi05", "smolvla"], dict[str, Any]] = {
    "pi0": {"norm": "gemma", "epsilon": 1e-6, "activation": "gelu", "state": "token", "joint_every": 1}
    | {"causal": False, "places": False},
    "pi05": {"norm": "adaptive", "epsilon": 1e-6, "activation": "gelu", "state": "prompt", "joint_every": 1}
    | {"causal": False, "places": False},
    "smolvla": {"norm": "llama", "activation": "silu", "state": "prefix", "causal": True, "places": False},
}
"""Published experts: what all sizes of each have in common."""

SMOLVLA_BASE = 10_000.0
"""SmolVLA turns queries and keys with this base, whatever its SmolVLM was trained with."""

_MOMENTS = NormalizeSpec("mean_std", constant="scaled")  # the rules of LeRobot, to which these can be exported
_BOUNDS = NormalizeSpec("quantile", constant="epsilon")
_PALIGEMMA = HfConfig(
    "google/paligemma-3b-pt-224", attention="bidirectional", fit="centre", freeze_vision=False, text_suffix="\n"
)

PRESETS: dict[str, VlaConfig] = {
    "nano": VlaConfig(NanoConfig(), ExpertConfig(width=128, mlp=256), horizon=12, head=FlowConfig(samples=2)),
    "offline": VlaConfig(OfflineConfig(), ExpertConfig(width=256, mlp=768), horizon=12, head=FlowConfig(samples=2)),
    "smolvlm-256m": VlaConfig(
        HfConfig("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", attention="causal"),
        ExpertConfig(width=432, mlp=1152),
        horizon=50,
    ),
    "pi0": VlaConfig(
        _PALIGEMMA,
        ExpertConfig(width=1024, mlp=4096, **EXPERTS["pi0"]),  # 300 M parameters
        horizon=50,
        head=FlowConfig(action_norm=_MOMENTS),
        padded=(32, 32),
        state_norm=_MOMENTS,
    ),
    "pi05": VlaConfig(
        replace(_PALIGEMMA, text_suffix="", text_length=200),
        ExpertConfig(width=1024, mlp=4096, **EXPERTS["pi05"]),
        horizon=50,
        head=FlowConfig(action_norm=_BOUNDS),
        padded=(32, 32),
        state_norm=_BOUNDS,
    ),
    "smolvla": VlaConfig(
        HfConfig(
            "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
            attention="bidirectional",
            layers=16,
            image_size=512,
            fit="corner",
            scale_embeddings=True,
            rotary_base=SMOLVLA_BASE,
            freeze_connector=True,
            freeze_text=True,
            text_suffix="\n",
        ),
        ExpertConfig(width=720, mlp=2048, epsilon=1e-5, joint_every=2, **EXPERTS["smolvla"]),
        horizon=50,
        head=FlowConfig(action_norm=_MOMENTS),
        padded=(32, 32),
        state_norm=_MOMENTS,
    ),
}


def with_head(config: VlaConfig, name: str) -> VlaConfig:
    """The model with another head on the same trunk, as comparable as can be: equally many noises drawn.

    A flow keeps its own settings, its rule for actions too; where the backbone learns words beside it, the rule is
    theirs.

    Raises:
        UnknownName: there is none of that name; the message gives the closest.
    """
    flow = config.head if isinstance(config.head, FlowConfig) else FlowConfig()
    changes: dict[str, dict[str, Any]] = {
        "flow": {"head": flow},
        "insulated": {
            "head": replace(flow, action_norm=BOUNDED),
            "insulate": True,
            "backbone_loss": FastConfig(),
        },
        "l1": {"head": L1Config()},
        "diffusion": {"head": DiffusionConfig(samples=flow.samples)},
        "tokens": {"head": TokensConfig()},
        "fast": {"head": FastConfig()},
    }
    if name not in changes:
        raise UnknownName("head", name, changes)
    return replace(config, **{"insulate": False, "backbone_loss": None} | changes[name])


def with_learning(config: VlaConfig, *, lora: int = 0, freeze: Sequence[str] | None = None) -> VlaConfig:
    """The model with other parts of its backbone learning.

    Args:
        config: of the whole model.
        lora: rank of low-rank updates, through which alone the decoder learns then; 0 for none.
        freeze: of ``vision``, ``connector`` and ``text``, those that do not learn, the others do; None for what the
            config says.

    Raises:
        ConfigError: the backbone has no such part, or no choice about it.
    """
    changes: dict[str, Any] = {}
    have = vars(config.backbone)
    if freeze is not None:
        parts = {name.removeprefix("freeze_"): name for name in have if name.startswith("freeze_")}
        unknown = sorted(set(freeze) - set(parts))
        if unknown:
            known = f"those to choose from are {', '.join(parts)}" if parts else "it has no part to choose"
            raise ConfigError(f"freeze: the backbone {config.backbone.kind!r} has no {', '.join(unknown)}; {known}")
        changes |= {field: part in freeze for part, field in parts.items()}
    if lora:
        if "lora" not in have:
            raise ConfigError(f"lora: the backbone {config.backbone.kind!r} has no pretrained decoder to adapt")
        # what a frozen decoder cannot do is learn through updates
        changes |= {"lora": LoraConfig(rank=lora, scale=float(lora)), "freeze_text": False}
    return replace(config, backbone=replace(config.backbone, **changes))


def preset(name: str) -> VlaConfig:
    """The preset of that name, still to be fitted to embodiments.

    Raises:
        UnknownName: there is none; the message gives the closest.
    """
    if name not in PRESETS:
        raise UnknownName("model preset", name, PRESETS)
    return PRESETS[name]
