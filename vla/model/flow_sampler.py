"""Sampling at full speed: the same chunks as :meth:`VlaModel.sample`, on a GPU as one CUDA graph where it can be.

::

    pictures, words, state, noise ─▶ [ prefix ─▶ all steps of the flow ] ─▶ actions      one graph: PaliGemma
                        prefix, as it ships ─▶ [ all steps of the flow ] ─▶ actions      other backbones

On a GPU prompts are padded to the model's full length, so that one recording serves every instruction; on a CPU, where
nothing is recorded, padding is left out.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vla.errors import ConfigError
from vla.model.backbone import Inputs, Prefix
from vla.model.flow import integrate, solver_times
from vla.model.fused_prefix import FusedPrefix, fusible
from vla.model.graphed import Graphed
from vla.model.head_flow import FlowHead
from vla.model.vla_model import VlaModel


class FlowSampler:
    """Chunks of one model with a flow's head.

    Args:
        model: whose weights are used as they are now; it is moved to the device and to ``dtype``.
        device: ``cuda``, or one of several by its number; on ``cpu`` the same is done without a recording.
        dtype: of weights and products; the flow itself stays in float32, and so do sums and norms, but for those of an
            expert on a CPU.

    Raises:
        ConfigError: the head is no flow.
    """

    def __init__(self, model: VlaModel, device: str = "cuda", dtype: torch.dtype = torch.bfloat16):
        if not isinstance(model.head, FlowHead):
            raise ConfigError(f"only a flow is sampled as a CUDA graph; this head is {model.config.head.kind}")
        self.model, self.head, self.device = with_weights_of(model.to(device), dtype).eval(), model.head, device
        self.on_gpu, self.length = torch.device(device).type == "cuda", model.config.backbone.text_length
        whole = model.state_in is None and fusible(model.backbone)  # a state in the prefix is the model's to add
        self.fused = FusedPrefix(model.backbone, dtype) if whole else None  # pyright: ignore[reportArgumentType]
        self._chunks: dict[int, Callable[..., Tensor]] = {}

    @torch.inference_mode()
    def __call__(
        self, inputs: Inputs, noise: Float[Tensor, "b h a"], steps: int | None = None
    ) -> Float[Tensor, "b h a"]:
        """Chunks of normalised actions, on the device.

        Args:
            inputs: what is seen now.
            noise: to start from.
            steps: of the solver; the head's own number if None.
        """
        steps = self.head.config.steps if steps is None else steps
        if steps not in self._chunks:
            chunk = self._whole(steps) if self.fused else self._steps(steps)
            self._chunks[steps] = Graphed(chunk, self.device) if self.on_gpu else chunk
        inputs = padded(inputs, self.length) if self.on_gpu else trimmed(inputs)
        if self.fused:
            return self._chunks[steps](*_tensors(inputs), noise)
        prefix = self.model.prefix(replace(inputs.to(self.device), state=inputs.state.to(self.device, self._dtype)))
        after = () if prefix.after is None else (prefix.after,)
        rest = (inputs.state, inputs.embodiment, noise)
        return self._chunks[steps](*prefix.keys, *prefix.values, prefix.mask, *after, *rest)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def _whole(self, steps: int) -> Callable[..., Tensor]:
        fused = cast(FusedPrefix, self.fused)

        def chunk(*tensors: Tensor) -> Tensor:
            *parts, noise = tensors
            inputs = _inputs(parts)
            return self._flow(fused(inputs), inputs, noise, steps)

        return chunk

    def _steps(self, steps: int) -> Callable[..., Tensor]:
        layers = self.model.backbone.shape.layers

        def chunk(*tensors: Tensor) -> Tensor:
            keys, values, (mask, *after, state, body, noise) = (
                tensors[:layers],
                tensors[layers : 2 * layers],
                tensors[2 * layers :],
            )
            inputs = Inputs(None, None, mask[:, :0], body[:, None], mask[:, :0], state, body)
            return self._flow(Prefix(keys, values, mask, after[0] if after else None), inputs, noise, steps)

        return chunk

    def _flow(self, prefix: Prefix, inputs: Inputs, noise: Tensor, steps: int) -> Tensor:
        solver, network = self.head.config.solver, self.head.network
        ahead = network.ahead(self.model.backbone, prefix, inputs, solver_times(steps, solver))
        place = itertools.count()
        return integrate(lambda x, time: ahead(x, next(place)), noise, steps, solver)


def with_weights_of(model: VlaModel, dtype: torch.dtype) -> VlaModel:
    """The model with its parameters in ``dtype``; its buffers stay, because rotary frequencies need float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def padded(inputs: Inputs, length: int) -> Inputs:
    """The same with prompts of at least ``length`` places; what is added is masked."""
    more = max(0, length - inputs.tokens.shape[1])
    tokens, mask = (functional.pad(part, (0, more)) for part in (inputs.tokens, inputs.token_mask))
    return replace(inputs, tokens=tokens, token_mask=mask)


def trimmed(inputs: Inputs) -> Inputs:
    """The same without the places at the prompts' end that are padding in all of them; one place stays at least."""
    real = inputs.token_mask.any(0).nonzero()
    length = int(real[-1]) + 1 if len(real) else 1
    return replace(inputs, tokens=inputs.tokens[:, :length], token_mask=inputs.token_mask[:, :length])


def _tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    assert inputs.images is not None  # a backbone that is fused has no cached features
    return (inputs.images, inputs.image_mask, inputs.tokens, inputs.token_mask, inputs.state, inputs.embodiment)


def _inputs(parts: list[Tensor]) -> Inputs:
    images, image_mask, tokens, token_mask, state, body = parts
    return Inputs(images, None, image_mask, tokens, token_mask, state, body)
