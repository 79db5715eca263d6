"""Options of ``vla train`` by what they are about; ``--help`` shows one group after the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from vla.datasets.mixture_shares import WeightKind

# names for the help that leave room for what it says
Words = Annotated[tuple[str, ...], arg(metavar="[STR ...]")]
Numbers = Annotated[tuple[float, ...], arg(metavar="[FLOAT ...]")]
Files = Annotated[tuple[Path, ...], arg(metavar="[PATH ...]")]
MaybePath = Annotated[Path | None, arg(metavar="PATH")]
MaybeInt = Annotated[int | None, arg(metavar="INT")]
MaybeFloat = Annotated[float | None, arg(metavar="FLOAT")]
MaybeWords = Annotated[tuple[str, ...] | None, arg(metavar="[STR ...]")]
MaybeWord = Annotated[str | None, arg(metavar="STR")]
Trackers = Annotated[tuple[Literal["tensorboard", "wandb"], ...], arg(metavar="[STR ...]")]


@dataclass(frozen=True)
class DataOptions:
    """What is trained on."""

    data: Words = ()
    """Folders, files or URLs of RLDS/TFDS, LeRobot or HDF5 data sets."""
    human: Words = ()
    """Those of them of which only a person's corrections are learned."""
    mixture: MaybeWord = None
    """Or a published mixture of Open X: oxe_magic_soup_plus, ..."""
    root: str = ""
    """Folder or URL that holds the mixture's data sets."""
    partly: bool = False
    """Leave out data sets of the mixture that are not there."""
    weights: Numbers = ()
    """One for each data set; by their size if not given."""
    weights_are: WeightKind = "share"
    """Shares of the draws, or factors of the sets' sizes (Octo)."""
    temperature: float = 1.0
    """Sizes count as size^(1/n): above 1, small sets come more often."""
    split: str = "train"
    """Of each data set: a split, or a slice of one: train[:90%]."""
    sample: Words = ()
    """Episodes of each data set: all, a number or a part (25%)."""
    stride: int = 2
    """Windows begin at every n-th step of an episode."""
    pairs: Files = ()
    """Parquet files or folders of pictures, questions and answers, to learn too."""
    pairs_share: float = 0.2
    """Share of a step's examples that are such pairs."""
    tolerate: Words = ()
    """Kinds of quirks of the data sets to read around, or: all."""
    description: Files = ()
    """Files (TOML) that say what the fields of unknown data sets mean."""
    statistics: MaybePath = None
    """File to normalise with: openpi, OpenVLA, LeRobot or ours."""


@dataclass(frozen=True)
class ModelOptions:
    """What is trained."""

    preset: str = "nano"
    """nano and offline (train on a CPU), smolvlm-256m, smolvla, pi0, pi05."""
    head: str = "flow"
    """flow, insulated (flow beside FAST words), l1, diffusion, tokens, fast."""
    init: MaybePath = None
    """Checkpoint to start from; what does not fit is listed."""
    lora: int = 0
    """Rank of updates that the decoder learns through; 0: none."""
    freeze: MaybeWords = None
    """Of vision, connector and text, what does not learn; default: the preset's."""
    recompute: bool = False
    """Compute activations twice, to save memory."""


@dataclass(frozen=True)
class StepOptions:
    """How it is trained."""

    steps: MaybeInt = None
    """Optimizer steps: such a run repeats bit for bit."""
    minutes: MaybeFloat = None
    """Or wall-clock minutes."""
    batch_size: int = 64
    """Observations a step, of all processes together."""
    accumulate: int = 1
    """Parts that a step is computed in, to save memory."""
    learning_rate: float = 7e-4
    """Highest of the cosine."""
    backbone_rate: float = 1.0
    """The backbone's learning rate, as a multiple of it."""
    image_dropout: float = 0.0
    """Share of an example's cameras hidden in training."""
    language_dropout: float = 0.0
    """Share of instructions hidden."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass; weights are kept in fp32."""
    seed: int = 0
    """Everything random follows from it."""


@dataclass(frozen=True)
class MachineOptions:
    """Where; two processes or GPUs: torchrun --nproc-per-node 2 -m vla.cli train ..."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """A process has the whole model (ddp) or a part of it (fsdp)."""
    threads: MaybeInt = None
    """CPU threads of torch."""
    workers: MaybeInt = None
    """Processes that decode pictures, 0: threads; some beside a GPU."""


@dataclass(frozen=True)
class WatchOptions:
    """What is kept and measured on the way."""

    save_every: MaybeInt = None
    """Steps between checkpoints; by default every five minutes."""
    track: Trackers = ("tensorboard",)
    """tensorboard, wandb (or offline: WANDB_MODE=offline)."""
    eval_every: MaybeInt = None
    """Steps between evaluations in LIBERO; the best is kept."""
    eval_suite: str = "libero_spatial"
    """Suite of the evaluations."""
    eval_tasks: Words = ()
    """Its tasks by number or name; all if none is given."""
    eval_sampled: int = 5
    """Scenes a task, objects placed anew; in no other evaluation."""
    eval_inits: MaybeInt = None
    """Or LIBERO's first n initial states: no fair test then."""
    eval_workers: int = 0
    """Processes; 0 for one a CPU core."""
