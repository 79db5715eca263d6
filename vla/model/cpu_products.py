"""Matrix products of float32 on AMD processors, through oneDNN.

torch multiplies float32 matrices with Intel's MKL, which keeps its AVX-512 kernels for Intel's processors: on others it
reaches less than half of what the same torch reaches through oneDNN (Zen 5, one core: 100 against 220 GFLOP/s). Both
sum in float32; only the order differs. Gradients are products of the same kind.

Hugging Face's modules stay as they are: inside :func:`fast_products` it is ``torch.nn.functional.linear`` that answers
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
from torch.overrides import TorchFunctionMode

CPU_INFO = Path("/proc/cpuinfo")


def fast_products(device: torch.device | str) -> AbstractContextManager[Any]:
    """Inside, linear layers on this device are computed the faster way; outside, and elsewhere, nothing changes."""
    return _Linear() if torch.device(device).type == "cpu" and _mkl_is_slow() else nullcontext()


def linear(x: Float[Tensor, "*n i"], weight: Float[Tensor, "o i"], bias: Tensor | None = None) -> Float[Tensor, "*n o"]:
    """As ``torch.nn.functional.linear``, through oneDNN; differentiable."""
    return _Product.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


def product(x: Float[Tensor, "n i"], weight: Float[Tensor, "o i"], out: Float[Tensor, "n o"]) -> Float[Tensor, "n o"]:
    """Rows times a linear layer's weight, the fastest way there is; ``out`` is room for it, which may stay unused."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and _mkl_is_slow():
        return _one_dnn(x, weight, None)
    return torch.mm(x, weight.t(), out=out)


class _Linear(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and _takes(*args):
            return linear(*args)
        return func(*args, **(kwargs or {}))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _one_dnn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_x = _one_dnn(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        of_weight = _one_dnn(rows.t(), x.reshape(-1, x.shape[-1]).t(), None) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _takes(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Plain float32 on the CPU; under autocast torch goes its own way, which is oneDNN's."""
    plain = all(type(part) in (Tensor, torch.nn.Parameter) for part in (x, weight))
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    return plain and single and x.numel() > 0 and not torch.is_autocast_enabled("cpu")


@cache
def _mkl_is_slow() -> bool:
    """Whether this is a processor of AMD's with AVX-512, and torch has both libraries."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and CPU_INFO.exists()):
        return False
    return "AuthenticAMD" in CPU_INFO.read_text() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
