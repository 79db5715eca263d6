"""Qwen2.5-VL as a backbone: what is its own about pictures and positions.

Its tower takes patches instead of pictures, each twice (it was made for films), four neighbours together; the merger at
the tower's end is its connector. Its decoder turns by three positions: time, row and column. Words count all three on
together; a picture stands still in time, counts rows and columns from there, and words go on after its longer side.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vla.errors import ConfigError
from vla.model.backbone import Inputs
from vla.model.config import HfConfig
from vla.model.hf_backbone import HfBackbone

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's pictures, as Qwen's processor has them
STD = (0.26862954, 0.26130258, 0.27577711)


class QwenBackbone(HfBackbone):
    """See the module's docstring.

    Args:
        config: with an ``image_size``; the merger is part of the tower, so ``freeze_vision`` freezes it too.
        pretrained: load the weights that the config names, if it wants any.
        architecture: the model's own config, if it is known; else it is looked up by name.

    Raises:
        ConfigError: as :class:`HfBackbone`, or the picture's size is no multiple of a merged patch.
    """

    def __init__(self, config: HfConfig, *, pretrained: bool = True, architecture: Mapping[str, Any] | None = None):
        super().__init__(config, pretrained=pretrained, architecture=architecture)
        vision: Any = self.vision.config
        self._patch, self._merge, self._films = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        if self.image_size % (self._patch * self._merge):
            raise ConfigError(f"{config.name}: image_size must be a multiple of {self._patch * self._merge}")
        self._side = self.image_size // (self._patch * self._merge)  # places of the decoder along a side

    def rotary(self, positions: Int64[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """The decoder's own rotations, of places whose three positions are the same."""
        table = self.decoder.get_input_embeddings().weight
        cos, sin = self.decoder.rotary_emb(table, position_ids=positions[None].expand(3, -1, -1))
        return cos[0], sin[0]

    def _see(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n p w"]:
        weight = next(self.vision.parameters())
        mean, std = (torch.tensor(values, device=weight.device) for values in (MEAN, STD))
        pixels = ((images / 255 - mean) / std).to(weight.dtype)
        across = (self._side, self._merge, self._patch)
        patches = pixels.unflatten(2, across).unflatten(1, across).permute(0, 1, 4, 2, 5, 7, 3, 6)
        patches = patches[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, self._films, -1, -1)
        steps = self._side * self._merge
        grid = torch.tensor([[1, steps, steps]] * len(images), device=weight.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vision):
            seen: Any = self.vision(patches.flatten(6).flatten(0, 4).flatten(1), grid_thw=grid)
        return seen.pooler_output.unflatten(0, (len(images), -1))

    def _positions(self, inputs: Inputs) -> Int64[Tensor, "3 b p"]:
        device, side = inputs.tokens.device, self._side
        counted = side * (inputs.image_mask.cumsum(1) - 1).clamp(min=0)  # where each camera starts
        line = torch.arange(side, device=device)
        axes = torch.stack(
            [torch.zeros(side**2, dtype=torch.long, device=device), line.repeat_interleave(side), line.repeat(side)]
        )
        seen = (counted[None, :, :, None] + axes[:, None, None, :]).flatten(2)
        words = side * inputs.image_mask.sum(1, keepdim=True) + (inputs.token_mask.cumsum(1) - 1).clamp(min=0)
        return torch.cat([seen, words.expand(3, -1, -1)], 2)
