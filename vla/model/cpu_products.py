"""Matrix products of float32 on AMD processors, through oneDNN.

torch multiplies float32 matrices with Intel's MKL, which keeps its AVX-512 kernels for Intel's processors: on others it
reaches less than half of what the same torch reaches through oneDNN (Zen 5, one core: 100 against 220 GFLOP/s). Both
sum in float32; only the order differs. Gradients are products of the same kind. Attention is two products and a
softmax, so torch's own is replaced as well where no gradient is wanted, in bfloat16 too.

Hugging Face's modules stay as they are: inside :func:`fast_products` it is ``torch.nn.functional`` that answers
differently.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

CPU_INFO = Path("/proc/cpuinfo")
WORTHWHILE = 1 << 20
"""Multiplications of one head's scores below which torch's own attention, a single call, is not slower."""


def fast_products(device: torch.device | str) -> AbstractContextManager[Any]:
    """Inside, linear layers and attention on this device take the faster way; outside, and elsewhere, nothing changes.

    Under autocast everything is as usual: torch's way for bfloat16 is oneDNN's.
    """
    wanted = torch.device(device).type == "cpu" and _mkl_is_slow()
    return _Faster() if wanted and not _inside() else nullcontext()  # every mode costs each call of torch's some time


def as_now() -> AbstractContextManager[Any]:
    """What is computed again inside, at another time, is computed as it would be at the time of this call."""
    return _Faster() if _inside() else nullcontext()


def fast(x: Tensor) -> bool:
    """Whether products of ``x`` are of the kind that has a faster way here."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and _mkl_is_slow()


def linear(x: Float[Tensor, "*n i"], weight: Float[Tensor, "o i"], bias: Tensor | None = None) -> Float[Tensor, "*n o"]:
    """As ``torch.nn.functional.linear``, through oneDNN; differentiable."""
    return _Product.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


def product(x: Float[Tensor, "n i"], weight: Float[Tensor, "o i"], out: Float[Tensor, "n o"]) -> Float[Tensor, "n o"]:
    """Rows times a linear layer's weight, the fastest way there is; ``out`` is room for it, which may stay unused."""
    return _one_dnn(x, weight) if fast(x) else torch.mm(x, weight.t(), out=out)


def gated(x: Float[Tensor, "*n i"], gate: Float[Tensor, "f i"], up: Float[Tensor, "f i"]) -> Float[Tensor, "*n f"]:
    """``gelu(x gate) * (x up)``, gelu in its tanh form, for an ``x`` that is :func:`fast`; without gradients."""
    x = _dense(x)
    opened = torch.ops.mkldnn._linear_pointwise(x, _dense(gate), None, "gelu", [], "tanh")
    return opened.mul_(_one_dnn(x, up))


def attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m d"],
    allowed: Float[Tensor, "#b #h n m"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h n d"]:
    """Attention with an additive mask, the fastest way there is; without gradients."""
    half = q.device.type == "cpu" and q.dtype == torch.bfloat16
    if not (fast(q) or half) or q.shape[2] * k.shape[2] * q.shape[3] < WORTHWHILE:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
    times = torch.mm if half else _times
    scaled = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    mixed = torch.empty_like(q)
    masks = None if allowed is None else allowed.expand(*q.shape[:2], -1, -1)
    for batch in range(q.shape[0]):
        for head in range(q.shape[1]):  # one head's scores stay in the cache
            scores = times(scaled[batch, head], k[batch, head].t())
            if masks is not None:
                scores += masks[batch, head]
            mixed[batch, head] = times(scores.softmax(-1), v[batch, head])
    return mixed


class _Faster(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.linear and not given and _plain(*args[:2]) and fast(args[0]) and args[0].numel():
            return linear(*args)
        if func is F.scaled_dot_product_attention and len(args) == 3 and _attends(args, given):
            q, k, v = args
            return attention(q, k, v, given.get("attn_mask"), given.get("scale"))
        return func(*args, **given)


def _inside() -> bool:
    """Whether this thread is inside :func:`fast_products`."""
    return any(isinstance(mode, _Faster) for mode in _get_current_function_mode_stack())


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)  # no more than torch keeps
        return _one_dnn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_x = _one_dnn(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = _one_dnn(rows.t(), x.reshape(-1, x.shape[-1]).t()) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    bias = None if bias is None else bias.contiguous()  # one with gaps would be read as if it had none
    return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")


def _times(a: Float[Tensor, "n i"], b: Float[Tensor, "i o"]) -> Float[Tensor, "n o"]:
    return _one_dnn(a, _dense(b).t())


def _dense(part: Tensor) -> Tensor:
    """Without gaps, transposed or not: for anything else oneDNN has no fast kernel, only a very slow one."""
    turned = part.ndim == 2 and part.t().is_contiguous()
    return part if turned or part.is_contiguous() else part.contiguous()


def _plain(*parts: Any) -> bool:
    """Ordinary tensors of one type on the CPU, without autocast."""
    ordinary = all(type(part) in (Tensor, torch.nn.Parameter) for part in parts)
    single = ordinary and all(part.dtype == parts[0].dtype and part.device.type == "cpu" for part in parts)
    return single and not torch.is_autocast_enabled("cpu")


def _attends(parts: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Whether :func:`attention` can answer such a call."""
    mask = given.get("attn_mask")
    masked = mask is None or (_plain(mask, parts[0]) and mask.ndim == 4)
    known = given.keys() <= {"attn_mask", "scale", "dropout_p", "is_causal", "enable_gqa"}
    simple = not (given.get("dropout_p") or given.get("is_causal") or given.get("enable_gqa"))
    shaped = _plain(*parts) and parts[0].ndim == parts[1].ndim == 4 and parts[1].shape == parts[2].shape
    alike = shaped and all(parts[1].shape[axis] == parts[0].shape[axis] for axis in (0, 1, 3))  # nothing is broadcast
    learns = any(_learns(part) for part in (*parts, mask) if part is not None)
    return known and simple and masked and alike and not learns


def _learns(part: Tensor) -> bool:
    return torch.is_grad_enabled() and part.requires_grad


@cache
def _mkl_is_slow() -> bool:
    """Whether this is a processor of AMD's with AVX-512, and torch has both libraries."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and CPU_INFO.exists()):
        return False
    return "AuthenticAMD" in CPU_INFO.read_text() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
