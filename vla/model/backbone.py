"""What the action expert needs from any vision-language backbone: its keys and values, layer by layer.

::

    pictures ─ vision ─┐
                       ├─▶ embeddings ─▶ decoder layers ─▶ DynamicCache: (K, V) of each layer ─▶ Prefix
    instruction ───────┘

The decoder is run as Hugging Face ships it (:mod:`vla.model.decoder`). Its cache carries gradients, so one code path
serves training and inference; and because the prefix never attends to the actions, this is pi0's mixture of
transformers exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn


@dataclass(frozen=True)
class CacheShape:
    """What an expert must match.

    Attributes:
        layers: decoder layers, each of which caches.
        heads: query heads of the backbone.
        kv_heads: heads of the cached keys and values.
        head_dim: size of one head.
        width: of the backbone's own tokens.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int


@dataclass(frozen=True)
class Inputs:
    """What a model sees, batched; numbers normalised and padded, missing cameras masked.

    Attributes:
        images: in the order of the config's camera slots; None where ``features`` replace them.
        features: what :meth:`Backbone.features` made of the images, each (batch, camera, ...); None otherwise.
        image_mask: False where a camera is missing.
        tokens: of the instruction.
        token_mask: False on padding.
        state: normalised, zero beyond the embodiment's own channels.
        embodiment: number of the embodiment in the config's ``bodies``.
    """

    images: UInt8[Tensor, "b c h w 3"] | None
    features: tuple[Float[Tensor, "b c ..."], ...] | None
    image_mask: Bool[Tensor, "b c"]
    tokens: Int64[Tensor, "b l"]
    token_mask: Bool[Tensor, "b l"]
    state: Float[Tensor, "b s"]
    embodiment: Int64[Tensor, "b"]

    def to(self, device: torch.device | str) -> "Inputs":
        """The same on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        features = None if self.features is None else tuple(feature.to(device) for feature in self.features)
        return replace(self, **moved, features=features)


@dataclass(frozen=True)
class Prefix:
    """Keys (already rotated) and values of each layer, and which places of the prefix are real.

    Attributes:
        keys: one tensor (batch, kv head, place, head dim) for each layer.
        values: as ``keys``.
        mask: False where nobody may look.
        after: the position of whatever comes next, where it is not the number of real places.
    """

    keys: tuple[Float[Tensor, "b k p d"], ...]
    values: tuple[Float[Tensor, "b k p d"], ...]
    mask: Bool[Tensor, "b p"]
    after: Int64[Tensor, "b"] | None = None

    @property
    def lengths(self) -> Int64[Tensor, "b"]:
        """Real places of each example, or what else the position of whatever comes next is."""
        return self.mask.sum(1) if self.after is None else self.after

    def detach(self) -> "Prefix":
        """The same without gradients (knowledge insulation)."""
        return replace(self, keys=tuple(k.detach() for k in self.keys), values=tuple(v.detach() for v in self.values))

    def repeat(self, times: int) -> "Prefix":
        """Each example ``times`` times, one after the other, so that several noises share one prefix."""
        if times == 1:
            return self
        return Prefix(
            tuple(k.repeat_interleave(times, 0) for k in self.keys),
            tuple(v.repeat_interleave(times, 0) for v in self.values),
            self.mask.repeat_interleave(times, 0),
            None if self.after is None else self.after.repeat_interleave(times, 0),
        )


class Backbone(nn.Module, ABC):
    """Pictures and an instruction in, a :class:`Prefix` out.

    Attributes:
        image_size: pictures are resized to this many pixels, squares.
    """

    image_size: int

    @property
    def frozen_vision(self) -> nn.Module | None:
        """What :meth:`features` follow from, if it never changes in training; they can then be computed once."""
        return None

    @property
    @abstractmethod
    def layers(self) -> Iterable[nn.Module]:
        """Those of the decoder and of a vision part that learns: what :func:`~vla.model.recompute.recompute` takes."""

    @property
    @abstractmethod
    def shape(self) -> CacheShape:
        """What the expert must match."""

    @abstractmethod
    def prefix(self, inputs: Inputs, state: Float[Tensor, "b n w"] | None = None) -> Prefix:
        """Run the backbone; uses ``inputs.features`` if they are there, else ``inputs.images``.

        Args:
            inputs: pictures and words.
            state: tokens of the backbone's width that come last: they see everything, what is before does not see them.
        """

    @abstractmethod
    def rotary(self, positions: Int64[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """Cosines and sines that the backbone rotates its own queries and keys with at ``positions``."""

    @property
    @abstractmethod
    def words(self) -> nn.Embedding:
        """The word table; heads that write actions as words use its last rows."""

    @property
    def end_of_text(self) -> int | None:
        """The word that ends a text, if there is one."""
        return None

    @abstractmethod
    def decode(
        self, prefix: Prefix, embeddings: Float[Tensor, "b n w"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n w"], Prefix]:
        """Run the decoder on over more places, each seeing the prefix and those before it.

        Args:
            prefix: of this backbone, or what an earlier call returned.
            embeddings: of the places to add.
            mask: False on padding.

        Returns:
            the decoder's last hidden states, normalised as for its language head, and the longer prefix.
        """

    def features(self, images: UInt8[Tensor, "n h w 3"]) -> tuple[Float[Tensor, "n ..."], ...]:
        """What the frozen part of the vision makes of pictures.

        Raises:
            NotImplementedError: there is no ``frozen_vision``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no frozen vision part")

    def architecture(self) -> dict[str, Any] | None:
        """Whatever beyond the config is needed to build the same network without its weights; a JSON value."""
        return None
