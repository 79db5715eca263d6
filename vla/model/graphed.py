"""A function of tensors as a CUDA graph: its thousands of small launches become one."""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before recording, so that whatever is compiled, tuned or allocated once is there."""


class Graphed:
    """The function, recorded at its first call with arguments of each shapes and replayed afterwards.

    Args:
        function: waits for nothing and decides nothing by its arguments' values.
        device: a GPU.
    """

    def __init__(self, function: Callable[..., Tensor], device: str | torch.device = "cuda"):
        self._function, self._device = function, torch.device(device)
        self._recorded: dict[tuple[tuple[torch.Size, torch.dtype], ...], _Recording] = {}

    def __call__(self, *arguments: Tensor) -> Tensor:
        """The function's answer, the caller's to keep; arguments may come from any device."""
        key = tuple((argument.shape, argument.dtype) for argument in arguments)
        with torch.cuda.device(self._device):  # streams are the current device's
            if key not in self._recorded:
                self._recorded[key] = _Recording(self._function, arguments, self._device)
            return self._recorded[key](arguments)


class _Recording:
    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Tensor, ...], device: torch.device):
        self._arguments = tuple(argument.to(device, copy=True) for argument in arguments)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                function(*self._arguments)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._answer = function(*self._arguments)

    def __call__(self, arguments: tuple[Tensor, ...]) -> Tensor:
        for own, given in zip(self._arguments, arguments, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._answer.clone()
