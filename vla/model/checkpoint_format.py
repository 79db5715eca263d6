"""Checkpoints written before the format they are read in.

Format 1 had one head, flow matching, without a name, and one kind of expert: the state its first token, every layer
joint, the time in its norms. Fields that came later have here what its models did, whatever today's defaults are. A
change that an older reader would misunderstand raises ``FORMAT``, and what it changed is said here.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

FORMAT = 2
OLDEST = 1

_EXPERT = {"norm": "adaptive", "epsilon": 1e-6, "activation": "gelu", "state": "token", "joint_every": 1}
_EXPERT |= {"causal": False, "places": True}
_HF = {"fit": "stretch", "scale_embeddings": False, "rotary_base": None, "freeze_connector": False, "lora": None}
_BACKBONE = {"hf": _HF, "nano": {}}
_FLOW_FIELDS = ("flow_samples", "action_norm")
_SCALARS = (".sharpness",)  # were no vectors of one number yet


def current_model(version: int, model: Mapping[str, Any]) -> dict[str, Any]:
    """A model config's JSON of any format as one of today's."""
    if version == FORMAT:
        return dict(model)
    rest = {name: value for name, value in model.items() if name not in _FLOW_FIELDS}
    head = {"samples": model["flow_samples"], "action_norm": model["action_norm"]}
    head |= {"kind": "flow", "steps": 10, "solver": "euler", "temperature": 1.0}
    backbone = _BACKBONE[model["backbone"]["kind"]] | model["backbone"]
    new = {"head": head, "backbone_loss": None, "padded": None, "recompute": False}
    return {**rest, **new, "expert": _EXPERT | model["expert"], "backbone": backbone}


def current_tensors(version: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by today's names and in today's shapes."""
    if version == FORMAT:
        return dict(tensors)
    shaped = {name: value.reshape(-1) if name.endswith(_SCALARS) else value for name, value in tensors.items()}
    return {name if name.startswith("backbone.") else f"head.network.{name}": value for name, value in shaped.items()}
