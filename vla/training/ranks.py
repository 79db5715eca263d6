"""One process, or several that ``torchrun`` or ``accelerate launch`` started: who they are, what they tell each other.

Torch's own DDP and ``fully_shard`` (FSDP2) do the work, on GPUs through NCCL and on CPUs through gloo: ``accelerate``
offers FSDP on accelerators only, and a second way for CPUs would be the one that is tested.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from vla.errors import ConfigError

PATIENCE = timedelta(hours=12)  # the others wait while the first rank reads pictures or evaluates
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        device: of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows what happens."""
        return self.rank == 0

    @property
    def here(self) -> int:
        """How many of them are on this machine, as ``torchrun`` says."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest that any rank has, number by number."""
        if self.size == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return together.tolist()

    def mean(self, value: Tensor) -> float:
        """Mean over the ranks of one number each."""
        if self.size == 1:
            return value.item()
        total = value.detach().double().cpu()
        dist.all_reduce(total)
        return total.item() / self.size

    def wait(self) -> None:
        """Go on when all ranks are here."""
        self.largest([0.0])

    @contextmanager
    def one_after_first(self) -> Iterator[None]:
        """The first rank goes through the block alone; the others follow and find what it left on the disk."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that may be spread over the ranks, whole and on the CPU; empty on all ranks but the first.

        Every rank has to call it.
        """
        found = {}
        for name, value in tensors.items():
            full = value.full_tensor() if isinstance(value, DTensor) else value
            if self.first:
                found[name] = full.detach().cpu()
        return found


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that were started together; one process alone joins nobody.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no GPU, or the processes do not find each other.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for; torch finds none")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(0, 1, torch.device(kind))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if dist.is_initialized():  # by whoever called us
        yield Ranks(dist.get_rank(), dist.get_world_size(), where)
        return
    if kind == "cuda":
        torch.cuda.set_device(where)
    try:
        dist.init_process_group(_BACKENDS[kind], timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"WORLD_SIZE is {size}, but the ranks do not find each other: {error}") from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), where)
    finally:
        dist.destroy_process_group()


def laid_out_as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, on the device of ``like`` and spread over the ranks as it is; all ranks have the same value."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return value.to(like.device)


def own_part(value: Tensor) -> Tensor:
    """What this rank holds of a tensor, the memory itself."""
    return value.to_local() if isinstance(value, DTensor) else value
