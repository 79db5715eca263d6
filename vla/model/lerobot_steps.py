"""What LeRobot does before and after a policy, written down as its pipelines store it.

The order of the steps is that of LeRobot's own factories; pi0.5 normalises before it writes the state into the prompt.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, StatisticsMissing
from vla.model.config import HfConfig, VlaConfig
from vla.model.lerobot_folder import ACTION, KINDS, NEW_LINE, POSTPROCESSOR, PREPROCESSOR, PROMPT, STATE, Family
from vla.normalize import FIELDS, NormalizeSpec, Statistics

Step = dict[str, Any]


def norm_map(config: VlaConfig) -> dict[str, str]:
    """LeRobot's names of the two rules.

    Raises:
        ConfigError: a rule masks or clips, treats constants in another way, or the two have different epsilons.
    """
    if config.state_norm.epsilon != config.action_norm.epsilon:
        raise ConfigError("LeRobot has one epsilon for states and actions; the model has two")
    return {"VISUAL": "IDENTITY", "STATE": _mode(config.state_norm), "ACTION": _mode(config.action_norm)}


def steps_before(
    family: Family, config: VlaConfig, features: Mapping[str, Any], rules: Mapping[str, str]
) -> list[Step]:
    """Of the preprocessor."""
    backbone = config.backbone
    assert isinstance(backbone, HfConfig)  # no other has a family
    rename, batch = _step("rename_observations_processor", rename_map={}), _step("to_batch_processor")
    device = _step("device_processor", device="cpu", float_dtype=None)
    relative = _step("relative_actions_processor", enabled=False, exclude_joints=[], action_names=None)
    normalize = _step("normalizer_processor", eps=config.state_norm.epsilon, features=features, norm_map=rules)
    words = _step(
        "tokenizer_processor",
        max_length=backbone.text_length,
        task_key="task",
        padding_side="right",
        padding="longest" if family == "smolvla" else "max_length",
        truncation=True,
        tokenizer_name=backbone.name,
    )
    if family == "pi05":
        steps = [rename, batch, relative, normalize, _step(PROMPT), words, device]
    else:
        if backbone.text_suffix != "\n":
            raise ConfigError(f"{family} ends instructions with a new line; the model with {backbone.text_suffix!r}")
        more = [relative, normalize] if family == "pi0" else [normalize]
        steps = [rename, batch, _step(NEW_LINE[family]), words, device, *more]
    return _with_file(steps, normalize, PREPROCESSOR)


def steps_after(family: Family, config: VlaConfig, features: Mapping[str, Any], rules: Mapping[str, str]) -> list[Step]:
    """Of the postprocessor."""
    outputs = {ACTION: features[ACTION]}
    back = _step("unnormalizer_processor", eps=config.action_norm.epsilon, features=outputs, norm_map=rules)
    absolute = [] if family == "smolvla" else [_step("absolute_actions_processor", enabled=False)]
    device = _step("device_processor", device="cpu", float_dtype=None)
    return _with_file([back, *absolute, device], back, POSTPROCESSOR)


def vectors(statistics: Statistics, spec: EmbodimentSpec) -> dict[str, Tensor]:
    """Statistics as LeRobot stores them: ``<feature>.<field>``; fields that a channel lacks are left out.

    Raises:
        StatisticsMissing: a channel has none.
    """
    found: dict[str, Tensor] = {}
    for feature, names in ((STATE, spec.state_names), (ACTION, spec.action.names)):
        if missing := [name for name in names if name not in statistics.channels]:
            raise StatisticsMissing(f"no statistics for {', '.join(missing)}")
        channels = [statistics.channels[name] for name in names]
        for field in FIELDS:
            values = [getattr(channel, field) for channel in channels]
            if channels and None not in values:
                found[f"{feature}.{field}"] = torch.tensor(values, dtype=torch.float32)
        if channels:
            found[f"{feature}.count"] = torch.tensor([channels[0].count], dtype=torch.float32)
    return found


def _mode(rule: NormalizeSpec) -> str:
    (name,) = (name for name, kind in KINDS.items() if kind == rule.kind)
    constant = {"mean_std": "scaled", "identity": rule.constant}.get(rule.kind, "epsilon")
    if rule.skip or rule.clip is not None or rule.constant != constant:
        asked = f"skip {rule.skip}, clip {rule.clip}, constant {rule.constant!r}"
        raise ConfigError(f"LeRobot's {name} skips and clips nothing and has constant {constant!r}; this rule: {asked}")
    return name


def _step(name: str, **settings: Any) -> Step:
    return {"registry_name": name, "config": settings}


def _with_file(steps: list[Step], normalize: Step, file: str) -> list[Step]:
    name = f"{file.removesuffix('.json')}_step_{steps.index(normalize)}_{normalize['registry_name']}.safetensors"
    return [{**step, "state_file": name} if step is normalize else step for step in steps]
