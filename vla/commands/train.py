"""``vla train``: a policy from one data set or a mixture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from vla.errors import ConfigError
from vla.protocols import EpisodeSource

if TYPE_CHECKING:
    from vla.datasets.mixture import Mixture

DATA_FILE = "data.json"
"""In a run's folder: what each data set that was trained on holds; the evaluation's report shows it."""


@dataclass(frozen=True)
class Train:
    """Train a policy on one data set or a weighted mixture; the same command goes on after a kill."""

    data: tuple[str, ...]
    """Folders, files or URLs of RLDS/TFDS, LeRobot or HDF5 data sets."""
    out: Path
    """The run's folder; its checkpoints, metrics and TensorBoard log."""
    preset: str = "nano"
    """Model: nano (trains on a CPU), smolvlm-256m, paligemma-3b."""
    weights: tuple[float, ...] = ()
    """One for each data set; by their size if not given."""
    weights_are: Literal["share", "times-size"] = "share"
    """Whether weights are shares of the draws, or multiply the data sets' sizes (as Octo's and OpenVLA's do)."""
    temperature: float = 1.0
    """Sizes count as size^(1/temperature): above 1, small data sets come more often."""
    sample: tuple[str, ...] = ()
    """For each data set, or one for all, the episodes to use: all, a number (100) or a part (25%) by the seed."""
    tolerate: tuple[str, ...] = ()
    """Kinds of quirks of the data sets to read around, or: all."""
    steps: int | None = None
    """Optimizer steps: such a run repeats bit for bit."""
    minutes: float | None = None
    """Or wall-clock minutes."""
    batch_size: int = 64
    """Observations a step."""
    learning_rate: float = 7e-4
    """Highest learning rate of the cosine."""
    stride: int = 2
    """Windows begin at every n-th step of an episode."""
    save_every: int | None = None
    """Steps between checkpoints, from which a killed run goes on; by default one every five minutes."""
    seed: int = 0
    """Everything random follows from it."""
    workers: int = 0
    """Processes that decode pictures where the vision is trained too; 0 for threads of this one, mostly enough."""
    threads: int | None = None
    """CPU threads of torch."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> dict[str, Any]:
        """Train or resume."""
        from vla.commands.progress import counted
        from vla.describe import info
        from vla.files import cache_folder, write_text
        from vla.model.presets import preset
        from vla.plugins import open_source
        from vla.statistics_cache import pooled
        from vla.training.config import TrainConfig
        from vla.training.loop import train

        if not self.data:
            raise ConfigError("training needs at least one data set")
        model = preset(self.preset)
        sources = [open_source(path, tolerate=self.tolerate) for path in self.data]
        names = dict.fromkeys(source.spec.name for source in sources)
        with counted(console, "measuring", "steps") as show:
            measured = {
                name: pooled([one for one in sources if one.spec.name == name], cache=cache_folder(), progress=show)
                for name in names
            }
        mixture = self._mixture(sources, model.horizon)
        config = TrainConfig(
            steps=self.steps,
            minutes=self.minutes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            save_every=self.save_every,
            seed=self.seed,
            order=mixture.order,
            workers=self.workers,
            threads=self.threads,
            device=self.device,  # pyright: ignore[reportArgumentType]
        )
        result = train(config, model, mixture, measured, self.out, resume=True)
        described = {str(path): info(source) for path, source in zip(self.data, sources, strict=True)}
        write_text(self.out / DATA_FILE, json.dumps(described, indent=1))
        if not result.finished:
            raise KeyboardInterrupt
        console.print(
            f"{result.checkpoint}: {result.steps} steps in {result.minutes:.1f} min, loss {result.loss:.4f}, "
            f"{result.samples_per_second:.0f} samples/s"
        )
        return {
            "checkpoint": str(result.checkpoint),
            "steps": result.steps,
            "minutes": round(result.minutes, 3),
            "loss": result.loss,
            "samples_per_second": round(result.samples_per_second, 1),
        }

    def _mixture(self, sources: Sequence[EpisodeSource], horizon: int) -> "Mixture":
        """The windows to train on, in their order."""
        from vla.datasets.mixture import Mixture
        from vla.datasets.mixture_shares import draw_shares, sampled_episodes

        samples = self.sample * len(sources) if len(self.sample) == 1 else self.sample or ("all",) * len(sources)
        if len(samples) != len(sources):
            raise ConfigError(f"{len(samples)} samples were given for {len(sources)} data sets")
        chosen = [
            None if sample == "all" else sampled_episodes(len(source), sample, seed=self.seed).tolist()
            for source, sample in zip(sources, samples, strict=True)
        ]
        plain = Mixture(sources, horizon=horizon, seed=self.seed, stride=self.stride, episodes=chosen)
        if not self.weights and self.temperature == 1.0:
            return plain
        shares = draw_shares(plain.windows, self.weights, kind=self.weights_are, temperature=self.temperature)
        return Mixture(sources, shares, horizon=horizon, seed=self.seed, stride=self.stride, episodes=chosen)
