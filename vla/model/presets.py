"""Models by name, with any head."""

from dataclasses import replace
from typing import Any

from vla.errors import UnknownName
from vla.model.config import ExpertConfig, HfConfig, NanoConfig, OfflineConfig, VlaConfig
from vla.model.head_config import BOUNDED, DiffusionConfig, FastConfig, FlowConfig, L1Config, TokensConfig

PRESETS: dict[str, VlaConfig] = {
    "nano": VlaConfig(NanoConfig(), ExpertConfig(width=128, mlp=256), horizon=12, head=FlowConfig(samples=2)),
    "offline": VlaConfig(OfflineConfig(), ExpertConfig(width=256, mlp=768), horizon=12, head=FlowConfig(samples=2)),
    "smolvlm-256m": VlaConfig(
        HfConfig("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", attention="causal"),
        ExpertConfig(width=432, mlp=1152),
        horizon=50,
    ),
    "paligemma-3b": VlaConfig(
        HfConfig("google/paligemma-3b-pt-224", attention="bidirectional", freeze_vision=False, text_suffix="\n"),
        ExpertConfig(width=1024, mlp=4096),  # pi0's expert of 300 M parameters
        horizon=50,
    ),
}


def with_head(config: VlaConfig, name: str) -> VlaConfig:
    """The model with another head on the same trunk, as comparable as can be: equally many noises drawn.

    Raises:
        UnknownName: there is none of that name; the message gives the closest.
    """
    samples = config.head.samples if isinstance(config.head, FlowConfig) else 1
    changes: dict[str, dict[str, Any]] = {
        "flow": {"head": FlowConfig(samples)},
        "insulated": {
            "head": FlowConfig(samples, action_norm=BOUNDED),
            "insulate": True,
            "backbone_loss": FastConfig(),
        },
        "l1": {"head": L1Config()},
        "diffusion": {"head": DiffusionConfig(samples=samples)},
        "tokens": {"head": TokensConfig()},
        "fast": {"head": FastConfig()},
    }
    if name not in changes:
        raise UnknownName("head", name, changes)
    return replace(config, **changes[name])


def preset(name: str) -> VlaConfig:
    """The preset of that name, still to be fitted to embodiments.

    Raises:
        UnknownName: there is none; the message gives the closest.
    """
    if name not in PRESETS:
        raise UnknownName("model preset", name, PRESETS)
    return PRESETS[name]
