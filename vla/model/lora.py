"""Low-rank updates of a backbone's decoder, through peft: put in, carried over from a whole model, folded back in."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.config import LoraConfig, NanoConfig, VlaConfig
from vla.model.vla_model import VlaModel, build

_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."  # peft's names


def add_lora(decoder: nn.Module, config: LoraConfig) -> None:
    """Put updates beside a decoder's layers; nothing else of it learns any more, and its answers are the same yet.

    Raises:
        ConfigError: no layer has the name of a target.
    """
    import peft

    scale: Any = config.scale  # peft takes whole numbers by its types, any by its arithmetic
    settings = peft.LoraConfig(r=config.rank, lora_alpha=scale, target_modules=list(config.targets))
    try:
        peft.inject_adapter_in_model(settings, decoder)
    except ValueError as error:
        raise ConfigError(f"lora: {error}") from error


def adapted(model: VlaModel, config: LoraConfig, seed: int = 0) -> VlaModel:
    """The same model with its backbone's decoder learning through updates only.

    Args:
        model: without updates.
        config: of the updates.
        seed: of what they start with; their product starts at zero.

    Raises:
        ConfigError: the backbone is not pretrained, has updates already, or no layer of a target's name.
    """
    new = build(_with(model, config), pretrained=False, architecture=model.backbone.architecture(), seed=seed)
    wanted, have = new.state_dict(), model.state_dict()
    carried = {name: have[name.replace(_BASE, ".")] for name in wanted if not name.endswith((_A, _B))}
    new.load_state_dict({**wanted, **carried})
    new.spell_as(model)
    return new.train(model.training)


def merged(model: VlaModel) -> VlaModel:
    """The same model with the updates added to the weights they belong to.

    Raises:
        ConfigError: it has none.
    """
    backbone = model.config.backbone
    if isinstance(backbone, NanoConfig) or backbone.lora is None:
        raise ConfigError("the model has no low-rank updates to merge")
    share, state = backbone.lora.scale / backbone.lora.rank, model.state_dict()
    folded: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith((_A, _B)):
            continue
        layer = name.removesuffix("base_layer.weight").removesuffix(".")
        if layer + _A in state:
            value = value + share * (state[layer + _B] @ state[layer + _A])
        folded[name.replace(_BASE, ".")] = value
    new = build(_with(model, None), pretrained=False, architecture=model.backbone.architecture())
    new.load_state_dict(folded)
    new.spell_as(model)
    return new.train(model.training)


def _with(model: VlaModel, lora: LoraConfig | None) -> VlaConfig:
    backbone = model.config.backbone
    if isinstance(backbone, NanoConfig):
        raise ConfigError("low-rank updates need a pretrained backbone")
    if lora is not None and backbone.lora is not None:
        raise ConfigError("the model has low-rank updates already; merge them first (vla.model.lora.merged)")
    return replace(model.config, backbone=replace(backbone, lora=lora))
