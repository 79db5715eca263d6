"""Which tensor of a LeRobot policy is which of ours, in both directions.

A backbone's tensors keep their names under another prefix, because both sides hold the same Hugging Face modules. The
expert's are fused here (queries, keys and values in one matrix; gate and up in another), and its ways in and out have
one matrix an embodiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vla.errors import DataError
from vla.model.config import VlaConfig

Form = Literal["same", "stacked", "weight of body", "bias of body", "without gate"]


@dataclass(frozen=True)
class Names:
    """Prefixes of a family's parts.

    Attributes:
        backbone: of the Hugging Face model.
        expert: of the expert's decoder.
        time: of the two layers that embed the time: ``<time>_in`` and ``<time>_out``.
        unused: tensors that the policy stores and never uses; each is written as the tensor named, or as zeros.
    """

    backbone: str
    expert: str
    time: str
    unused: Mapping[str, Literal["words", "zeros"]]


_PI = "model.paligemma_with_expert."
_SMOLVLA = "model.vlm_with_expert."
NAMES: dict[str, Names] = {
    "pi0": Names(
        f"{_PI}paligemma.model.",
        f"{_PI}gemma_expert.model.",
        "model.action_time_mlp",
        {f"{_PI}paligemma.lm_head.weight": "words", f"{_PI}gemma_expert.lm_head.weight": "zeros"},
    ),
    "pi05": Names(
        f"{_PI}paligemma.model.",
        f"{_PI}gemma_expert.model.",
        "model.time_mlp",
        {f"{_PI}paligemma.lm_head.weight": "words", f"{_PI}gemma_expert.lm_head.weight": "zeros"},
    ),
    "smolvla": Names(
        f"{_SMOLVLA}vlm.model.",
        f"{_SMOLVLA}lm_expert.",
        "model.action_time_mlp",
        {f"{_SMOLVLA}vlm.lm_head.weight": "words"},
    ),
}


@dataclass(frozen=True)
class Pair:
    """One of our tensors and those of theirs that it is made of.

    Attributes:
        ours: name here.
        theirs: names there.
        form: ``stacked``: rows of theirs one after the other; ``weight of body`` and ``bias of body``: a linear layer's
            as that of the only embodiment; ``without gate``: theirs has a third of rows that nothing uses.
        rows: of each of theirs, where stacked.
    """

    ours: str
    theirs: tuple[str, ...]
    form: Form = "same"
    rows: tuple[int, ...] = ()

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        """Ours, made of theirs."""
        first = tensors[0]
        match self.form:
            case "same":
                return first
            case "stacked":
                return torch.cat(list(tensors))
            case "weight of body":
                return first.t()[None].contiguous()
            case "bias of body":
                return first[None]
            case "without gate":
                return first[: 2 * len(first) // 3]

    def write(self, tensor: Tensor) -> Sequence[Tensor]:
        """Theirs, made of ours; ``read`` gives the same again."""
        match self.form:
            case "same":
                return [tensor]
            case "stacked":
                return tensor.split(list(self.rows))
            case "weight of body":
                return [tensor[0].t()]
            case "bias of body":
                return [tensor[0]]
            case "without gate":
                return [torch.cat([tensor, torch.zeros_like(tensor[: len(tensor) // 2])])]


def pairs(family: str, config: VlaConfig, shapes: Mapping[str, tuple[int, ...]]) -> list[Pair]:
    """All tensors of a model.

    Args:
        family: ``pi0``, ``pi05`` or ``smolvla``.
        config: of the model.
        shapes: of our tensors by name.
    """
    names, network = NAMES[family], "head.network."
    found = [
        Pair(name, (names.backbone + name.removeprefix("backbone.model."),))
        for name in shapes
        if name.startswith("backbone.model.")
    ]
    projections = {f"{network}action_in": "model.action_in_proj", f"{network}action_out": "model.action_out_proj"}
    state = {"token": f"{network}state_in", "prefix": "state_in"}.get(config.expert.state)
    if state is not None:
        projections[state] = "model.state_proj"
    for ours, theirs in projections.items():
        found.append(Pair(f"{ours}.weight", (f"{theirs}.weight",), "weight of body"))
        found.append(Pair(f"{ours}.bias", (f"{theirs}.bias",), "bias of body"))
    for ours, theirs in ((0, "in"), (2, "out")):
        for kind in ("weight", "bias"):
            found.append(Pair(f"{network}expert.time.{ours}.{kind}", (f"{names.time}_{theirs}.{kind}",)))
    layers = sum(name.endswith(".gate_up.weight") for name in shapes)
    for place in range(layers):
        found += _layer(f"{network}expert.layers.{place}.", f"{names.expert}layers.{place}.", config, shapes)
    found += _norm(f"{network}expert.final", f"{names.expert}norm", config, gated=False)
    return found


def _layer(ours: str, theirs: str, config: VlaConfig, shapes: Mapping[str, tuple[int, ...]]) -> list[Pair]:
    attention, q_rows = f"{theirs}self_attn.", shapes[f"{ours}out.weight"][1]
    if f"{ours}qkv.weight" in shapes:
        kv_rows = (shapes[f"{ours}qkv.weight"][0] - q_rows) // 2
        three = tuple(f"{attention}{name}_proj.weight" for name in "qkv")
        found = [Pair(f"{ours}qkv.weight", three, "stacked", (q_rows, kv_rows, kv_rows))]
    else:
        found = [Pair(f"{ours}{name}.weight", (f"{attention}{name}_proj.weight",)) for name in "qkv"]
    mlp = config.expert.mlp
    gate_up = (f"{theirs}mlp.gate_proj.weight", f"{theirs}mlp.up_proj.weight")
    return [
        *found,
        Pair(f"{ours}out.weight", (f"{attention}o_proj.weight",)),
        Pair(f"{ours}gate_up.weight", gate_up, "stacked", (mlp, mlp)),
        Pair(f"{ours}down.weight", (f"{theirs}mlp.down_proj.weight",)),
        *_norm(f"{ours}before_attention", f"{theirs}input_layernorm", config),
        *_norm(f"{ours}before_mlp", f"{theirs}post_attention_layernorm", config),
    ]


def _norm(ours: str, theirs: str, config: VlaConfig, *, gated: bool = True) -> list[Pair]:
    if config.expert.norm != "adaptive":
        return [Pair(f"{ours}.weight", (f"{theirs}.weight",))]
    form: Form = "same" if gated else "without gate"
    return [Pair(f"{ours}.modulation.{kind}", (f"{theirs}.dense.{kind}",), form) for kind in ("weight", "bias")]


def from_theirs(
    path: Path, family: str, config: VlaConfig, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Our tensors in float32.

    Args:
        path: of the file, for errors.
        family: of the policy.
        config: of our model.
        wanted: our model's state.
        found: their file's tensors.

    Raises:
        DataError: a tensor is missing, of another shape, or nobody knows what it is.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    result, used = {}, set(NAMES[family].unused)
    for pair in pairs(family, config, shapes):
        absent = [name for name in pair.theirs if name not in found]
        if absent:
            raise DataError(path, absent[0], expected=f"a tensor for {pair.ours}", found="nothing")
        tensor = pair.read([found[name].float() for name in pair.theirs])
        if tuple(tensor.shape) != shapes[pair.ours]:
            shape = str(tuple(tensor.shape))
            raise DataError(path, ", ".join(pair.theirs), expected=f"shape {shapes[pair.ours]}", found=shape)
        result[pair.ours] = tensor
        used |= set(pair.theirs)
    if strange := sorted(found.keys() - used):
        raise DataError(path, strange[0], expected=f"only tensors of {family}", found=f"{len(strange)} others")
    if left := sorted(shapes.keys() - result.keys()):
        raise DataError(path, left[0], expected="every tensor of our model", found=f"{len(left)} that {family} lacks")
    return result


def to_theirs(family: str, config: VlaConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors, those that they never use included."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    result: dict[str, Tensor] = {}
    for pair in pairs(family, config, shapes):
        result |= zip(pair.theirs, pair.write(state[pair.ours]), strict=True)
    words = next(tensor for name, tensor in state.items() if name.endswith(".embed_tokens.weight"))
    for name, content in NAMES[family].unused.items():
        result[name] = words.clone() if content == "words" else words.new_zeros(len(words), config.expert.width)
    return result
