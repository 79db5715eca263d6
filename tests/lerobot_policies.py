"""Small policies of LeRobot's own classes with random weights: real ratios of heads and patterns of layers."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import SmolVLMConfig

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.model import lerobot_config
from vla.model.backbone import Inputs
from vla.model.checkpoint import Checkpoint
from vla.model.config import BodyShape, ExpertConfig, HfConfig, VlaConfig
from vla.model.encode import Encoder
from vla.model.head_config import FlowConfig
from vla.model.hf_backbone import load_tokenizer
from vla.model.presets import EXPERTS
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import build
from vla.normalize import ChannelStatistics, NormalizeSpec, Statistics

STATE, ACTION, HORIZON, SIDE = 8, 7, 5, 28
SMOLVLA_SIDE = 32
FIELDS = ("mean", "std", "min", "max", "q01", "q99")
WORDS = ["Task: pick up the black bowl, State: - ;", "Action:", *map(str, range(256))]
CAMERAS = ("front", "hand", "side")
_SMOLVLM: Any = SmolVLMConfig  # makes its fields at run time

ARM = EmbodimentSpec(
    name="arm",
    state=tuple(Channel(f"s{place}") for place in range(STATE)),
    state_rotation=None,
    action=ActionSpec(
        channels=(*(Channel(f"a{place}") for place in range(ACTION - 1)), Channel("grip", kind="gripper")),
        mode="delta",
        frame="base",
        rotation=None,
        gripper=Gripper(-50.0, 50.0),  # far apart: nothing that is sampled here is clipped
        rate=20.0,
    ),
    cameras=(
        CameraSpec("front", 40, 56, role="primary"),
        CameraSpec("hand", 28, 28, role="wrist"),
        CameraSpec("side", 50, 30, role="secondary"),
    ),
)


def tokenizer_folder(folder: Path) -> Path:
    """A folder from which both sides read the same tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(word_tokenizer(WORDS, 290).to_str())
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    return folder


def smolvlm_folder(folder: Path) -> Path:
    """A SmolVLM's config: 15 query heads to 5 of keys and values, as SmolVLM2-500M has, and another rotary base."""
    vision = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    text = dict(hidden_size=120, intermediate_size=96, num_hidden_layers=6, num_attention_heads=15)
    config = _SMOLVLM(
        vision_config={**vision, "image_size": SMOLVLA_SIDE, "patch_size": 8},
        text_config={**text, "model_type": "llama", "num_key_value_heads": 5, "head_dim": 8, "vocab_size": 300}
        | {"rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "pad_token_id": 0},
        scale_factor=2,
        image_token_id=299,
        pad_token_id=0,
    )
    config.save_pretrained(tokenizer_folder(folder))
    return folder


@contextmanager
def small(tokenizer: Path) -> Iterator[None]:
    """LeRobot's classes make small models, and look nothing up by name."""
    from lerobot.policies.pi0 import modeling_pi0 as pi0
    from lerobot.policies.pi05 import modeling_pi05 as pi05
    from lerobot.policies.smolvla import smolvlm_with_expert as smolvla
    from lerobot.processor import tokenizer_processor

    def paligemma(make: Any, config: Any) -> Any:
        vision, text = config.vision_config, config.text_config
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = 32, 48, 1
        vision.projection_dim, text.vocab_size, config.image_token_index = text.hidden_size, 300, 299
        return make(config)

    def gemma(make: Any, config: Any) -> Any:
        config.vocab_size = 300
        return make(config)

    def sizes(variant: str) -> Any:
        width, mlp = {"gemma_2b": (64, 96), "gemma_300m": (32, 64)}[variant]
        return pi0.GemmaConfig(width=width, depth=3, mlp_dim=mlp, num_heads=8, num_kv_heads=1, head_dim=16)

    read = tokenizer_processor.AutoTokenizer.from_pretrained
    processor = SimpleNamespace(tokenizer=SimpleNamespace(fake_image_token_id=1, global_image_token_id=2))
    with ExitStack() as stack:
        for module in (pi0, pi05):
            for name, make in (
                ("PaliGemmaForConditionalGenerationWithPiGemma", paligemma),
                ("PiGemmaForCausalLM", gemma),
            ):
                real = getattr(module, name)
                stack.enter_context(patch.object(module, name, lambda config, make=make, real=real: make(real, config)))
            stack.enter_context(patch.object(module, "get_gemma_config", sizes))
        stack.enter_context(patch.object(smolvla.AutoProcessor, "from_pretrained", lambda name: processor))
        auto = SimpleNamespace(from_pretrained=lambda name: read(str(tokenizer)))
        stack.enter_context(patch.object(tokenizer_processor, "AutoTokenizer", auto))
        variants = {(64, 96): "gemma_2b", (32, 64): "gemma_300m"}
        stack.enter_context(patch.object(lerobot_config, "GEMMA_VARIANTS", variants))
        yield


def make_policy(family: str, smolvlm: Path, cameras: int = 2, **settings: Any) -> Any:
    """A policy with random weights, none of them zero."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config

    images = {
        f"observation.images.{camera.name}": PolicyFeature(FeatureType.VISUAL, (3, camera.height, camera.width))
        for camera in ARM.cameras[:cameras]
    }
    own: dict[str, Any] = {"image_resolution": (SIDE, SIDE)}
    if family == "smolvla":
        own = {"resize_imgs_with_padding": (SMOLVLA_SIDE, SMOLVLA_SIDE), "num_vlm_layers": 4}
        own |= {"vlm_model_name": str(smolvlm), "train_expert_only": False, "freeze_vision_encoder": False}
    config = make_policy_config(
        family,
        device="cpu",
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        input_features=images | {"observation.state": PolicyFeature(FeatureType.STATE, (STATE,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
        push_to_hub=False,
        **(own | settings),
    )
    torch.manual_seed(0)
    policy: Any = get_policy_class(family)(config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    return policy.eval()


def save_policy(policy: Any, folder: Path) -> dict[str, dict[str, Tensor]]:
    """The policy's folder as LeRobot's training writes it; returns its statistics."""
    from lerobot.policies.factory import make_pre_post_processors

    chance = torch.Generator().manual_seed(1)
    statistics = {}
    for name, size in (("observation.state", STATE), ("action", ACTION)):
        low, wide = torch.randn(size, generator=chance), torch.rand(size, generator=chance) + 0.2
        values = (low + wide / 2, wide / 3, low - 0.1, low + wide + 0.1, low, low + wide)
        statistics[name] = dict(zip(FIELDS, values, strict=True)) | {"count": torch.tensor([50])}
    policy.save_pretrained(folder)
    for pipeline in make_pre_post_processors(policy.config, dataset_stats=statistics):
        pipeline.save_pretrained(folder)
    return statistics


@dataclass(frozen=True)
class Example:
    """The same inputs for both sides; numbers normalised."""

    images: Tensor  # uint8, batch camera height width 3
    image_mask: Tensor
    tokens: Tensor
    token_mask: Tensor
    state: Tensor
    actions: Tensor
    noise: Tensor
    time: Tensor

    def inputs(self) -> Inputs:
        """For our model."""
        state = torch.nn.functional.pad(self.state, (0, 32 - STATE))
        body = torch.zeros(len(state), dtype=torch.long)
        return Inputs(self.images, None, self.image_mask, self.tokens, self.token_mask, state, body)

    def batch(self) -> dict[str, Tensor]:
        """For a policy of LeRobot's; cameras that are missing everywhere are left out."""
        pixels = self.images.permute(0, 1, 4, 2, 3).float() / 255
        images = {
            f"observation.images.{name}": pixels[:, place]
            for place, name in enumerate(CAMERAS[: pixels.shape[1]])
            if self.image_mask[:, place].any()
        }
        words = {"observation.language.tokens": self.tokens, "observation.language.attention_mask": self.token_mask}
        return images | words | {"observation.state": self.state, "action": self.actions}


def example(side: int, batch: int = 2, cameras: int = 2, *, seed: int = 0, words: int = 6, padding: int = 3) -> Example:
    """Random inputs; the first example's prompt is shorter than the others'."""
    chance = torch.Generator().manual_seed(seed)
    lengths = torch.full((batch,), words)
    lengths[0] = words - 2
    return Example(
        torch.randint(0, 256, (batch, cameras, side, side, 3), dtype=torch.uint8, generator=chance),
        torch.ones(batch, cameras, dtype=torch.bool),
        torch.randint(3, 300, (batch, words + padding), generator=chance),
        torch.arange(words + padding) < lengths[:, None],
        torch.randn(batch, STATE, generator=chance),
        torch.randn(batch, HORIZON, ACTION, generator=chance),
        torch.randn(batch, HORIZON, 32, generator=chance),
        torch.rand(batch, generator=chance) * 0.98 + 0.01,
    )


PALIGEMMA: dict[str, Any] = {
    "model_type": "paligemma",
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48}
    | {"num_hidden_layers": 1, "num_attention_heads": 16, "image_size": 28, "patch_size": 14, "projection_dim": 48}
    | {"vision_use_head": False},
    "text_config": {"model_type": "gemma", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
    | {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 300},
    "projection_dim": 48,
    "hidden_size": 48,
    "image_token_index": 299,
}
PI0_SIZES = {(48, 64): "gemma_2b", (32, 40): "gemma_300m"}
"""The two decoders below, for :data:`vla.model.lerobot_config.GEMMA_VARIANTS`."""
RULE = NormalizeSpec("mean_std", constant="scaled")


def _channel(place: int) -> ChannelStatistics:
    mean = place / 8
    return ChannelStatistics(mean, 0.5 + mean, mean - 1.5, mean + 1.5, mean - 1.25, mean + 1.25, 40, None)


STATISTICS = Statistics({name: _channel(place) for place, name in enumerate((*ARM.state_names, *ARM.action.names))})


def model_config(tokenizer: Path) -> VlaConfig:
    """A small pi0 of ours."""
    backbone = HfConfig(
        str(tokenizer), pretrained=False, attention="bidirectional", image_size=28, fit="centre", text_suffix="\n"
    )
    expert = ExpertConfig(32, 40, **EXPERTS["pi0"])
    bodies, head = (BodyShape("arm", STATE, ACTION),), FlowConfig(steps=3, action_norm=RULE)
    return VlaConfig(
        backbone, expert, 4, head, padded=(12, 9), bodies=bodies, cameras=("primary", "wrist"), state_norm=RULE
    )


def make(config: VlaConfig) -> Checkpoint:
    """It with random weights."""
    assert isinstance(config.backbone, HfConfig)
    model = build(config, pretrained=False, architecture=PALIGEMMA).eval()
    text = Text(load_tokenizer(config.backbone.name), config.backbone.text_length, config.backbone.text_suffix)
    return Checkpoint(model, Encoder(config, [ARM], {"arm": STATISTICS}, text, 28), Path("nowhere"))
