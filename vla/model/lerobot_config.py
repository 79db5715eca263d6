"""LeRobot's policy settings as our model config and back.

==========  ===========================================================================================
``pi0``     PaliGemma, bidirectional; state as the expert's first token; time fused by an MLP
``pi05``    PaliGemma, bidirectional; state written out in the prompt; time through adaptive RMSNorm
``smolvla`` SmolVLM's first layers; state as the prefix's last token; every second layer cross-attention
==========  ===========================================================================================

PaliGemma's sizes are read off the tensors: LeRobot's files name a variant only. What shapes cannot tell is the same in
all variants: 8 query heads, 1 key-value head, 16 heads in the vision tower.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vla.embodiment import EmbodimentSpec, Role
from vla.errors import ConfigError, DataError
from vla.model.config import BodyShape, ExpertConfig, Fit, HfConfig, VlaConfig
from vla.model.head_config import FlowConfig
from vla.model.lerobot_folder import CONFIG, FAMILIES, WEIGHTS, Family, LerobotFolder
from vla.model.lerobot_weights import NAMES
from vla.model.presets import EXPERTS, SMOLVLA_BASE

__all__ = ["EXPERTS", "FAMILIES", "GEMMA_VARIANTS", "family_of", "lerobot_config", "model_config", "paligemma"]

GEMMA_VARIANTS = {(2048, 16_384): "gemma_2b", (1024, 4096): "gemma_300m"}
"""LeRobot's names of decoders by width and hidden units."""

_DECODERS = {"pi0": "language_model", "pi05": "language_model", "smolvla": "text_model"}
_HEADS, _KV_HEADS, _VISION_HEADS = 8, 1, 16

Shapes = Mapping[str, tuple[int, ...]]

_FIT: dict[Family, Fit] = {"pi0": "centre", "pi05": "centre", "smolvla": "corner"}


def model_config(
    folder: LerobotFolder, shapes: Shapes, spec: EmbodimentSpec, cameras: tuple[Role, ...], backbone: str
) -> VlaConfig:
    """Our config of a policy.

    Args:
        folder: its files.
        shapes: of its tensors by name.
        spec: whose numbers it takes.
        cameras: role of each of its cameras, in its order.
        backbone: Hub id or folder of the model it was made from.

    Raises:
        DataError: a setting is missing or has no equal here.
    """
    family = folder.family
    mlp, width = shape(folder, shapes, f"{NAMES[family].expert}layers.0.mlp.gate_proj.weight")
    pi = family != "smolvla"
    expert = dict(EXPERTS[family])
    layers = None
    if not pi:
        layers, expert["joint_every"] = _smolvla_layers(folder)
        expert["epsilon"] = 1e-5
    return VlaConfig(
        HfConfig(
            backbone,
            pretrained=False,
            attention="bidirectional",
            layers=layers,
            image_size=_side(folder, "image_resolution" if pi else "resize_imgs_with_padding"),
            fit=_FIT[family],
            scale_embeddings=not pi,
            rotary_base=None if pi else SMOLVLA_BASE,
            freeze_vision=folder.setting("freeze_vision_encoder", bool) or folder.setting("train_expert_only", bool),
            freeze_connector=folder.setting("train_expert_only", bool),
            freeze_text=folder.setting("train_expert_only", bool),
            text_suffix=folder.suffix,
            text_length=folder.text_length,
        ),
        ExpertConfig(width=width, mlp=mlp, **expert),
        horizon=folder.setting("chunk_size", int),
        head=FlowConfig(
            steps=folder.setting("num_inference_steps" if pi else "num_steps", int), action_norm=folder.action_norm
        ),
        padded=(folder.setting("max_state_dim", int), folder.setting("max_action_dim", int)),
        bodies=(BodyShape(spec.name, len(spec.state), spec.action.size),),
        cameras=cameras,
        state_norm=folder.state_norm,
    )


def paligemma(folder: LerobotFolder, shapes: Shapes) -> dict[str, Any]:
    """Settings of the PaliGemma in a pi0 or pi0.5 policy, as ``transformers`` knows them."""
    names = NAMES[folder.family]
    vision, text = f"{names.backbone}vision_tower.vision_model.", f"{names.backbone}language_model."
    vocabulary, width = shape(folder, shapes, f"{text}embed_tokens.weight")
    patches = shape(folder, shapes, f"{vision}embeddings.patch_embedding.weight")
    projection = shape(folder, shapes, f"{names.backbone}multi_modal_projector.linear.weight")[0]
    return {
        "model_type": "paligemma",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": patches[0],
            "intermediate_size": shape(folder, shapes, f"{vision}encoder.layers.0.mlp.fc1.weight")[0],
            "num_hidden_layers": _count(shapes, f"{vision}encoder.layers."),
            "num_attention_heads": _VISION_HEADS,
            "image_size": _side(folder, "image_resolution"),
            "patch_size": patches[-1],
            "projection_dim": projection,
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "gemma",
            "hidden_size": width,
            "intermediate_size": shape(folder, shapes, f"{text}layers.0.mlp.gate_proj.weight")[0],
            "num_hidden_layers": _count(shapes, f"{text}layers."),
            "num_attention_heads": _HEADS,
            "num_key_value_heads": _KV_HEADS,
            "head_dim": shape(folder, shapes, f"{text}layers.0.self_attn.k_proj.weight")[0] // _KV_HEADS,
            "hidden_activation": "gelu_pytorch_tanh",
            "vocab_size": vocabulary,
        },
        "projection_dim": projection,
        "hidden_size": width,
        "image_token_index": vocabulary - 1,
    }


def lerobot_config(family: Family, config: VlaConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Their settings of a model of ours, without its features.

    Raises:
        ConfigError: the family has no equal of a setting; the message names it.
    """
    backbone, expert, head = config.backbone, config.expert, config.head
    if not isinstance(backbone, HfConfig) or not isinstance(head, FlowConfig) or config.padded is None:
        raise ConfigError(f"{family} has a Hugging Face backbone, a flow head and padded numbers; this model has not")
    text = architecture["text_config"]
    wanted = {f"expert.{name}": value for name, value in EXPERTS[family].items()}
    wanted |= {"backbone.attention": "bidirectional", "backbone.fit": _FIT[family], "head.solver": "euler"}
    wanted |= {"backbone.scale_embeddings": family == "smolvla", "expert.heads": None}
    wanted |= {"backbone.rotary_base": SMOLVLA_BASE if family == "smolvla" else None}
    if family == "smolvla":
        wanted |= {"expert.epsilon": text.get("rms_norm_eps", 1e-6)}
    for name, value in wanted.items():
        part, _, field = name.partition(".")
        if (have := getattr(getattr(config, part), field)) != value:
            raise ConfigError(f"the model cannot be written as {family}: {name} is {have!r}, {family} has {value!r}")
    if backbone.lora is not None:
        raise ConfigError(f"{family} has no low-rank updates; merge them first (vla.model.lora.merged)")
    if len(config.bodies) != 1:
        raise ConfigError(f"{family} knows one embodiment; the model has {len(config.bodies)}")
    side = backbone.image_size or int(architecture["vision_config"]["image_size"])
    shared = {
        "type": family,
        "chunk_size": config.horizon,
        "n_action_steps": config.horizon,
        "max_state_dim": config.padded[0],
        "max_action_dim": config.padded[1],
        "freeze_vision_encoder": backbone.freeze_vision,
        "train_expert_only": backbone.freeze_text,
        "tokenizer_max_length": backbone.text_length,
    }
    if family == "smolvla":
        return shared | _smolvla_settings(expert, head, backbone, text, side)
    variants = [(text["hidden_size"], text["intermediate_size"]), (expert.width, expert.mlp)]
    for sizes in variants:
        if sizes not in GEMMA_VARIANTS:
            known = ", ".join(f"{name} {sizes}" for sizes, name in GEMMA_VARIANTS.items())
            raise ConfigError(f"{family} has decoders of (width, mlp) {known}; the model has {sizes}")
    first, second = (GEMMA_VARIANTS[sizes] for sizes in variants)
    settings = {"paligemma_variant": first, "action_expert_variant": second, "dtype": "float32"}
    return shared | settings | {"image_resolution": [side, side], "num_inference_steps": head.steps}


def family_of(config: VlaConfig) -> Family:
    """The family whose expert this is.

    Raises:
        ConfigError: of none.
    """
    differences = {}
    for family, fields in EXPERTS.items():
        wrong = [name for name, value in fields.items() if getattr(config.expert, name) != value]
        if not wrong:
            return family
        differences[family] = f"{family} (differs in {', '.join(wrong)})"
    raise ConfigError(f"the expert is none that LeRobot has: {'; '.join(differences.values())}")


def shape(folder: LerobotFolder, shapes: Shapes, name: str) -> tuple[int, ...]:
    """Of a tensor.

    Raises:
        DataError: there is none of that name.
    """
    if name not in shapes:
        raise DataError(folder.path / WEIGHTS, name, expected="a tensor", found="nothing")
    return shapes[name]


def with_words(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a word table; some files hold it under its other use's name only."""
    (other,) = (name for name, content in NAMES[family].unused.items() if content == "words")
    table = f"{NAMES[family].backbone}{_DECODERS[family]}.embed_tokens.weight"
    return {table: tensors[other], **tensors} if other in tensors else dict(tensors)


def _count(shapes: Shapes, prefix: str) -> int:
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})


def _side(folder: LerobotFolder, field: str) -> int:
    value = folder.setting(field, list)
    if len(value) != 2 or value[0] != value[1] or type(value[0]) is not int:
        raise DataError(folder.path / CONFIG, field, expected="a square", found=repr(value))
    return value[0]


def _smolvla_layers(folder: LerobotFolder) -> tuple[int | None, int]:
    """Layers kept of the SmolVLM (None: all), and every which of them is joint."""
    file = folder.path / CONFIG
    layers, own = folder.setting("num_vlm_layers", int), folder.setting("num_expert_layers", int)
    if own > 0 and own != layers:
        raise DataError(file, "num_expert_layers", expected=f"-1 or num_vlm_layers, {layers}", found=str(own))
    every = folder.setting("self_attn_every_n_layers", int) if "cross" in folder.setting("attention_mode", str) else 1
    if every < 1:
        raise DataError(file, "self_attn_every_n_layers", expected="1 or more", found=str(every))
    return (layers if layers > 0 else None), every


def _smolvla_settings(
    expert: ExpertConfig, head: FlowConfig, backbone: HfConfig, text: Mapping[str, Any], side: int
) -> dict[str, Any]:
    width = text["hidden_size"]
    times = expert.width / width
    if int(width * times) != expert.width or smolvla_mlp(expert.width) != expert.mlp:
        expected = f"mlp {smolvla_mlp(expert.width)}"
        raise ConfigError(f"smolvla's expert of width {expert.width} has {expected}; the model's has {expert.mlp}")
    return {
        "vlm_model_name": backbone.name,
        "num_vlm_layers": backbone.layers or text["num_hidden_layers"],
        "num_expert_layers": -1,
        "self_attn_every_n_layers": expert.joint_every,
        "attention_mode": "cross_attn",
        "expert_width_multiplier": times,
        "resize_imgs_with_padding": [side, side],
        "num_steps": head.steps,
        "load_vlm_weights": False,
    }


def smolvla_mlp(width: int) -> int:
    """Hidden units of SmolVLA's expert: Llama's 8/3 of the width, up to a multiple of 256."""
    return -(-int(4 * int(2 * width / 3)) // 256) * 256
