"""A Hugging Face vision-language model as a backbone, used as it ships: its own modules, its own cache.

::

    pictures ─ vision tower ─ connector ─▶ places of camera 1, camera 2 ... ─┐
    instruction ─ tokenizer ─ word table ────────────────────────────────────┴─▶ decoder, use_cache=True

Pictures come first, then the instruction, without the chat markup of the model's own prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from vla.errors import ConfigError
from vla.model.backbone import Backbone, CacheShape, Inputs, Prefix
from vla.model.config import HfConfig
from vla.model.decoder import continue_decoder, run_decoder
from vla.model.lora import add_lora
from vla.model.text import read_tokenizer


@dataclass(frozen=True)
class _Parts:
    """Names of a model's parts."""

    vision: str
    connector: str
    decoder: str


_PARTS = {
    "smolvlm": _Parts("vision_model", "connector", "text_model"),
    "idefics3": _Parts("vision_model", "connector", "text_model"),  # SmolVLM's first version
    "paligemma": _Parts("vision_tower", "multi_modal_projector", "language_model"),
    "qwen2_5_vl": _Parts("visual", "visual.merger", "language_model"),
}


class HfBackbone(Backbone):
    """See the module's docstring.

    Args:
        config: name, attention and what is frozen.
        pretrained: load the weights that the config names, if it wants any.
        architecture: the model's own config, if it is known; else it is looked up by name.

    Raises:
        ConfigError: the model cannot be found, is of a type whose parts are not known, has fewer layers than are to be
            kept, or takes pictures of any size and none is said.
    """

    def __init__(self, config: HfConfig, *, pretrained: bool = True, architecture: Mapping[str, Any] | None = None):
        super().__init__()
        self.config = config
        loaded = _config(config, architecture)
        if loaded.model_type not in _PARTS:
            raise ConfigError(f"{config.name}: model type {loaded.model_type!r} is none of {', '.join(_PARTS)}")
        original = loaded.to_dict()
        if config.rotary_base is not None:
            loaded.text_config.rope_parameters["rope_theta"] = config.rotary_base
        self._parts = _PARTS[loaded.model_type]
        if pretrained and config.pretrained:
            settings: dict[str, Any] = {"attn_implementation": "sdpa", "dtype": torch.float32}
            self.model = _found(config.name, AutoModel.from_pretrained, config=loaded, **settings)
        else:
            self.model = AutoModel.from_config(loaded, attn_implementation="sdpa").float()
        self._architecture = original
        if config.layers is not None:
            self._keep_layers(config.layers)
        trained = getattr(loaded.vision_config, "image_size", None)
        if (side := config.image_size or trained) is None:
            raise ConfigError(f"{config.name} takes pictures of any size; say which (image_size)")
        self.image_size = int(side)
        self._stretch = self.image_size != trained and loaded.model_type == "paligemma"
        if config.freeze_vision:
            self.vision.requires_grad_(False)
        if config.freeze_connector:
            self.connector.requires_grad_(False)
        if config.freeze_text or config.lora is not None:
            self.decoder.requires_grad_(False)
        if config.lora is not None:
            add_lora(self.decoder, config.lora)

    # properties, because a module that is registered twice is saved twice
    @property
    def vision(self) -> nn.Module:
        """The vision tower."""
        return self.model.get_submodule(self._parts.vision)

    @property
    def connector(self) -> nn.Module:
        """From the vision tower's width to the decoder's."""
        return self.model.get_submodule(self._parts.connector)

    @property
    def decoder(self) -> Any:
        """The language model without its head."""
        return self.model.get_submodule(self._parts.decoder)

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder's, and the vision tower's if it learns."""
        seen = [] if self.config.freeze_vision else encoder_layers(self.vision)
        return [*self.decoder.layers, *seen]

    @property
    def shape(self) -> CacheShape:
        """What the expert must match."""
        text = self.decoder.config
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return CacheShape(
            text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads, head_dim, text.hidden_size
        )

    def prefix(self, inputs: Inputs, state: Float[Tensor, "b n w"] | None = None) -> Prefix:
        """Pictures, then words, then the state, through the decoder."""
        assert inputs.images is not None, "this backbone has no cached features"  # the loader gives pictures
        batch, cameras = inputs.images.shape[:2]
        seen = self._see(inputs.images.flatten(0, 1)).unflatten(0, (batch, cameras))
        words = self.decoder.get_input_embeddings()(inputs.tokens)
        image_mask = inputs.image_mask[:, :, None].expand(-1, -1, seen.shape[2]).flatten(1)
        embeddings = torch.cat([seen.flatten(1, 2).to(words.dtype), words], 1)
        if self.config.scale_embeddings:
            embeddings = embeddings * embeddings.shape[-1] ** 0.5
        mask = torch.cat([image_mask, inputs.token_mask], 1)
        return run_decoder(self.decoder, embeddings, mask, self.config.attention, state, self._positions(inputs))

    def rotary(self, positions: Int64[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """The decoder's own rotations."""
        kind = positions.new_empty((), dtype=torch.float32)  # whatever the weights are: of the angles' own precision
        return self.decoder.rotary_emb(kind, position_ids=positions)

    @property
    def words(self) -> nn.Embedding:
        """The decoder's own word table."""
        return self.decoder.get_input_embeddings()

    @property
    def end_of_text(self) -> int | None:
        """As the model's own config says."""
        end = getattr(self.decoder.config, "eos_token_id", None)
        return end[0] if isinstance(end, list) else end

    def decode(
        self, prefix: Prefix, embeddings: Float[Tensor, "b n w"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n w"], Prefix]:
        """The decoder, going on from its cache."""
        return continue_decoder(self.decoder, prefix, embeddings, mask)

    def architecture(self) -> dict[str, Any]:
        """The model's own config, before layers were left out."""
        return self._architecture

    def _see(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n p w"]:
        """Normalised with mean 0.5 and deviation 0.5, as all but Qwen's are."""
        weight = next(self.vision.parameters())
        pixels = images.permute(0, 3, 1, 2).to(weight.dtype).div(127.5).sub(1.0)
        extra = {"interpolate_pos_encoding": True} if self._stretch else {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vision):
            hidden = self.vision(pixel_values=pixels, **extra).last_hidden_state
        return self.connector(hidden)

    def _positions(self, inputs: Inputs) -> Int64[Tensor, "axes b p"] | None:
        """Of pictures and words, where they are not simply counted."""
        return None

    def _keep_layers(self, count: int) -> None:
        have = len(self.decoder.layers)
        if not 0 < count <= have:
            raise ConfigError(f"{self.config.name}: layers to keep must be 1 to {have}, found {count}")
        self.decoder.layers = self.decoder.layers[:count]
        self.decoder.config.num_hidden_layers = count
        if getattr(self.decoder.config, "layer_types", None):
            self.decoder.config.layer_types = self.decoder.config.layer_types[:count]


def encoder_layers(vision: nn.Module) -> list[nn.Module]:
    """A vision tower's transformer layers, however it names them."""
    lists = [module for module in vision.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len))


def load_tokenizer(name: str) -> Tokenizer:
    """The model's own tokenizer, from its folder or the Hub.

    Raises:
        ConfigError: it cannot be found.
        DataError: it is damaged.
    """
    path = Path(name) / "tokenizer.json"
    if not path.is_file():
        from huggingface_hub import hf_hub_download

        path = Path(_found(name, hf_hub_download, filename="tokenizer.json"))
    return read_tokenizer(path)


def make_hf_backbone(
    config: HfConfig, *, pretrained: bool = True, architecture: Mapping[str, Any] | None = None
) -> HfBackbone:
    """The backbone for the model's type; see :class:`HfBackbone`."""
    from vla.model.qwen_backbone import QwenBackbone

    kind = QwenBackbone if _config(config, architecture).model_type == "qwen2_5_vl" else HfBackbone
    return kind(config, pretrained=pretrained, architecture=architecture)


def load_config(name: str) -> PreTrainedConfig:
    """A model's own config, from its folder or the Hub.

    Raises:
        ConfigError: it cannot be found.
    """
    return _found(name, AutoConfig.from_pretrained)


def _config(config: HfConfig, architecture: Mapping[str, Any] | None) -> PreTrainedConfig:
    if architecture is not None:
        fields = dict(architecture)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    return load_config(config.name)


def _found(name: str, load: Any, **settings: Any) -> Any:
    try:
        return load(name, **settings)
    except (OSError, ValueError) as error:  # the Hub's errors are of these types
        hint = "name a local folder, or download it where there is a network"
        raise ConfigError(f"model {name!r} cannot be loaded ({error}); {hint}") from error
