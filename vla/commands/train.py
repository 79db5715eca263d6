"""``vla train``: a policy from one data set or a mixture."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.commands.mixtures import DEPARTURES, mixture_data, open_data, training_mixture
from vla.datasets.mixture_shares import WeightKind
from vla.errors import ConfigError

DATA_FILE = "data.json"
"""In a run's folder: what each data set that was trained on holds; the evaluation's report shows it."""


@dataclass(frozen=True)
class Train:
    """Train a policy on one data set or a weighted mixture; the same command goes on after a kill."""

    out: Path
    """The run's folder; its checkpoints, metrics and TensorBoard log."""
    data: tuple[str, ...] = ()
    """Folders, files or URLs of RLDS/TFDS, LeRobot or HDF5 data sets."""
    mixture: str | None = None
    """Or a published mixture of Open X data sets, e.g. oxe_magic_soup_plus, its weights times the sets' sizes."""
    root: str = ""
    """Folder or URL that holds the mixture's data sets."""
    partly: bool = False
    """Leave out data sets of the mixture that are not there."""
    preset: str = "nano"
    """Model: nano (trains on a CPU), smolvlm-256m, paligemma-3b."""
    head: str = "flow"
    """How actions are made: flow, insulated (flow; the backbone learns FAST tokens), l1, diffusion, tokens, fast."""
    weights: tuple[float, ...] = ()
    """One for each data set; by their size if not given."""
    weights_are: WeightKind = "share"
    """Whether weights are shares of the draws, or multiply the data sets' sizes (as Octo's and OpenVLA's do)."""
    temperature: float = 1.0
    """Sizes count as size^(1/temperature): above 1, small data sets come more often."""
    split: str = "train"
    """Of the data sets; TFDS slices such as train[:90%] too."""
    sample: tuple[str, ...] = ()
    """For each data set, or one for all, the episodes to use: all, a number (100) or a part (25%) by the seed."""
    tolerate: tuple[str, ...] = ()
    """Kinds of quirks of the data sets to read around, or: all."""
    description: tuple[Path, ...] = ()
    """Files that say what the fields of data sets mean (TOML) that are not known already, each for those it names."""
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
        from vla.datasets.oxe.mixtures import mixture
        from vla.describe import info
        from vla.files import cache_folder, write_text
        from vla.model.presets import preset, with_head
        from vla.statistics_cache import pooled
        from vla.training.config import TrainConfig
        from vla.training.loop import train

        paths, weights, kind = self._chosen()
        if self.mixture:
            for name in mixture(self.mixture).keys() & DEPARTURES.keys():
                console.print(f"not as published: {name}: {DEPARTURES[name]}")
        model = with_head(preset(self.preset), self.head)
        sources = open_data(paths, split=self.split, tolerate=self.tolerate, descriptions=self.description)
        names = dict.fromkeys(source.spec.name for source in sources)
        with counted(console, "measuring", "steps") as show:
            measured = {
                name: pooled([one for one in sources if one.spec.name == name], cache=cache_folder(), progress=show)
                for name in names
            }
        windows = training_mixture(
            sources,
            weights,
            kind,
            temperature=self.temperature,
            sample=self.sample,
            horizon=model.horizon,
            seed=self.seed,
            stride=self.stride,
        )
        config = TrainConfig(
            steps=self.steps,
            minutes=self.minutes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            save_every=self.save_every,
            seed=self.seed,
            order=windows.order,
            workers=self.workers,
            threads=self.threads,
            device=self.device,  # pyright: ignore[reportArgumentType]
        )
        result = train(config, model, windows, measured, self.out, resume=True)
        described = {str(path): info(source) for path, source in zip(paths, sources, strict=True)}
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

    def _chosen(self) -> tuple[tuple[str, ...], tuple[float, ...], WeightKind]:
        """The data sets, their weights and what these mean."""
        if (self.mixture is None) == (not self.data):
            raise ConfigError("training needs either data sets (--data) or a mixture (--mixture and --root)")
        if self.mixture is None:
            return self.data, self.weights, self.weights_are
        if self.weights:
            raise ConfigError("a published mixture brings its own weights")
        return *mixture_data(self.mixture, self.root or ".", partly=self.partly), "times-size"
