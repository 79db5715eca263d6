"""What the backbones for small machines share: frozen ImageNet maps below, a stock ``transformers`` Llama above."""

from typing import Any

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla.model.backbone import Backbone, CacheShape, Inputs, Prefix
from vla.model.decoder import continue_decoder
from vla.model.efficientnet import EfficientNetFeatures


class TrunkBackbone(Backbone):
    """All of a backbone but what its prefix is made of.

    Attributes:
        vision: the ImageNet network.
        trunk: the Llama, which the action expert attends to.
    """

    vision: EfficientNetFeatures
    trunk: Any

    @property
    def shape(self) -> CacheShape:
        """What the expert must match."""
        config = self.trunk.config
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        return CacheShape(config.num_hidden_layers, heads, kv_heads, config.head_dim, config.hidden_size)

    @property
    def layers(self) -> list[nn.Module]:
        """The trunk's."""
        return list(self.trunk.layers)

    @property
    def frozen_vision(self) -> nn.Module:
        """The ImageNet network."""
        return self.vision

    def features(self, images: UInt8[Tensor, "n h w 3"]) -> tuple[Float[Tensor, "n p 40"], Float[Tensor, "n q 112"]]:
        """Maps at strides 8 and 16, flattened row by row; never changes in training."""
        return self.vision(images)

    def rotary(self, positions: Int64[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """The trunk's own rotations."""
        return self.trunk.rotary_emb(self.words.weight, position_ids=positions)

    @property
    def words(self) -> nn.Embedding:
        """The trunk's own word table."""
        return self.trunk.embed_tokens

    def decode(
        self, prefix: Prefix, embeddings: Float[Tensor, "b n w"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n w"], Prefix]:
        """The trunk, going on from its cache."""
        return continue_decoder(self.trunk, prefix, embeddings, mask)

    def maps(self, inputs: Inputs) -> tuple[Float[Tensor, "b c ..."], ...]:
        """Those that come with the inputs, or else of their pictures."""
        if inputs.features is not None:
            return inputs.features
        assert inputs.images is not None, "inputs need images or features"  # the encoder gives one of the two
        cameras = inputs.images.shape[:2]
        return tuple(maps.unflatten(0, cameras) for maps in self.features(inputs.images.flatten(0, 1)))
