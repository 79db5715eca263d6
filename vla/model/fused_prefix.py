"""PaliGemma's prefix at full speed: the same weights and equations as Hugging Face's modules, in fewer operations.

Queries, keys and values are one product, gate and up another; the last layer stops at its keys and values; nothing
waits for the host, so that a CUDA graph can hold all of it. For sampling only. Other backbones run as they ship.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vla.model.action_expert import gelu
from vla.model.attention import PrefixAttention, additive, within_prefix
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.cpu_products import fast_products
from vla.model.fused_layers import (
    GatedLayer,
    Norm,
    VisionLayer,
    fused,
    layer_normed,
    normed,
    prefix_end,
    prefix_layer,
    vision_layer,
)
from vla.model.hf_backbone import HfBackbone, encoder_layers


class FusedPrefix:
    """What :meth:`HfBackbone.prefix` gives, for a backbone that is :func:`fusible`.

    Args:
        backbone: whose weights are used, as they are now; those that are fused become parts of one tensor.
        dtype: of weights and products.
    """

    def __init__(self, backbone: HfBackbone, dtype: torch.dtype):
        decoder, vision = backbone.decoder, backbone.vision
        text = decoder.config
        self.backbone, self.dtype, self.kv_heads = backbone, dtype, text.num_key_value_heads
        self.attention: PrefixAttention = backbone.config.attention
        self.layers = [_gated(layer, dtype) for layer in decoder.layers]
        self.before = [_gemma_norm(layer.input_layernorm) for layer in decoder.layers]
        self.between = [_gemma_norm(layer.post_attention_layernorm) for layer in decoder.layers]
        found = encoder_layers(vision)
        self.seen = [_vision(layer, dtype) for layer in found]
        after = _named(vision, "post_layernorm")
        norms = [_layer_norm(module) for module in (*(layer.layer_norm1 for layer in found), after)]
        self.seen_first, self.seen_after = norms[0], norms[1:]
        self.embed = _named(vision, "embeddings")

    def __call__(self, inputs: Inputs) -> Prefix:
        """The prefix of ``inputs``, its keys and values of the chosen type."""
        with fast_products(inputs.state.device):
            return self._run(inputs)

    def _run(self, inputs: Inputs) -> Prefix:
        assert inputs.images is not None  # this backbone has no cached features
        batch, cameras = inputs.images.shape[:2]
        seen = self.see(inputs.images.flatten(0, 1)).unflatten(0, (batch, cameras))
        words = self.backbone.words(inputs.tokens)
        mask = torch.cat([inputs.image_mask[:, :, None].expand(-1, -1, seen.shape[2]).flatten(1), inputs.token_mask], 1)
        x = torch.cat([seen.flatten(1, 2).float(), words.float()], 1)
        if self.backbone.config.scale_embeddings:
            x = x * x.shape[-1] ** 0.5
        cos, sin = (part[:, :, None] for part in self.backbone.rotary((mask.cumsum(1) - 1).clamp(min=0)))
        allowed = additive(within_prefix(mask, 0, self.attention), self.dtype)[:, None]
        step, end = (fused(function, x.device.type) for function in (prefix_layer, prefix_end))
        h, cached = normed(x, self.before[0], self.dtype), []
        for place, layer in enumerate(self.layers[:-1]):
            rest = (cos, sin, allowed, self.kv_heads)
            x, h, keys, values = step(x, h, layer, self.between[place], self.before[place + 1], *rest)
            cached.append((keys, values))
        cached.append(end(h, self.layers[-1].projection, cos, sin, self.kv_heads))
        keys, values = zip(*cached, strict=True)
        return Prefix(keys, values, mask)

    def see(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n p w"]:
        """Tokens of pictures."""
        pixels = images.permute(0, 3, 1, 2).to(self.dtype).div(127.5).sub(1.0)
        patches, places = self.embed.patch_embedding, self.embed.position_embedding.weight
        weight, bias = patches.weight.to(self.dtype), patches.bias.to(self.dtype)
        x = F.conv2d(pixels, weight, bias, stride=patches.stride).flatten(2).transpose(1, 2).float() + places.float()
        step, h = fused(vision_layer, x.device.type), layer_normed(x, self.seen_first, self.dtype)
        for layer, following in zip(self.seen, self.seen_after, strict=True):
            x, h = step(x, h, layer, following)
        linear: Any = self.backbone.connector.get_submodule("linear")
        return F.linear(h, linear.weight.to(self.dtype), linear.bias.to(self.dtype))


def fusible(backbone: Backbone) -> bool:
    """Whether :class:`FusedPrefix` knows the backbone: PaliGemma as published, without low-rank updates."""
    if not isinstance(backbone, HfBackbone) or backbone.config.lora is not None:
        return False
    model = backbone.model.config
    own_size = backbone.image_size == getattr(model.vision_config, "image_size", None)
    kinds = (model.model_type, model.text_config.model_type, model.vision_config.model_type)
    activations = {model.text_config.hidden_act, model.vision_config.hidden_act}
    known = kinds == ("paligemma", "gemma", "siglip_vision_model") and activations == {"gelu_pytorch_tanh"}
    return known and own_size and not getattr(model.text_config, "attention_bias", False)


def _gated(layer: Any, dtype: torch.dtype) -> GatedLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return GatedLayer(
        _stacked(dtype, *(part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj))),
        _stacked(dtype, attention.o_proj.weight),
        _stacked(dtype, mlp.gate_proj.weight, mlp.up_proj.weight),
        _stacked(dtype, mlp.down_proj.weight),
        gelu,
    )


def _vision(layer: Any, dtype: torch.dtype) -> VisionLayer:
    attention, mlp = layer.self_attn, layer.mlp
    three = (attention.q_proj, attention.k_proj, attention.v_proj)
    return VisionLayer(
        attention.num_heads,
        (_stacked(dtype, *(part.weight for part in three)), _stacked(dtype, *(part.bias for part in three))),
        (_stacked(dtype, attention.out_proj.weight), _stacked(dtype, attention.out_proj.bias)),
        _layer_norm(layer.layer_norm2),
        (_stacked(dtype, mlp.fc1.weight), _stacked(dtype, mlp.fc1.bias)),
        (_stacked(dtype, mlp.fc2.weight), _stacked(dtype, mlp.fc2.bias)),
        gelu,
    )


def _stacked(dtype: torch.dtype, *parts: Tensor) -> Tensor:
    """Rows one after the other; of the same type, the parts share its memory from now on."""
    whole = torch.cat([part.detach().to(dtype) for part in parts])
    for part, rows in zip(parts, whole.split([len(part) for part in parts]), strict=True):
        if part.dtype == dtype:
            part.data = rows
    return whole


def _gemma_norm(norm: Any) -> Norm:
    return Norm(norm.eps, 1.0 + norm.weight.detach().float())


def _layer_norm(norm: Any) -> tuple[Tensor, Tensor, float]:
    return norm.weight.detach().float(), norm.bias.detach().float(), norm.eps


def _named(module: nn.Module, name: str) -> Any:
    """The part of that name, however deep."""
    return next(part for path, part in module.named_modules() if path.rpartition(".")[2] == name)
