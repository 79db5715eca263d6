"""Models by name."""

from vla.errors import UnknownName
from vla.model.config import ExpertConfig, HfConfig, NanoConfig, OfflineConfig, VlaConfig
from vla.model.head_config import FlowConfig

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


def preset(name: str) -> VlaConfig:
    """The preset of that name, still to be fitted to embodiments.

    Raises:
        UnknownName: there is none; the message gives the closest.
    """
    if name not in PRESETS:
        raise UnknownName("model preset", name, PRESETS)
    return PRESETS[name]
