"""Checkpoints written before the format they are read in: format 1 had one head, flow matching, without a name."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

FORMAT = 2
OLDEST = 1

_FLOW_FIELDS = ("flow_samples", "action_norm")


def current_model(version: int, model: Mapping[str, Any]) -> dict[str, Any]:
    """A model config's JSON of any format as one of today's."""
    if version == FORMAT:
        return dict(model)
    rest = {name: value for name, value in model.items() if name not in _FLOW_FIELDS}
    head = {"samples": model["flow_samples"], "action_norm": model["action_norm"]}
    head |= {"kind": "flow", "steps": 10, "solver": "euler", "temperature": 1.0}
    return {**rest, "head": head, "backbone_loss": None}


def current_tensors(version: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by today's names."""
    if version == FORMAT:
        return dict(tensors)
    return {name if name.startswith("backbone.") else f"head.network.{name}": value for name, value in tensors.items()}
