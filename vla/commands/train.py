"""``vla train``: a policy from one data set or a mixture."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.errors import ConfigError

DATA_FILE = "data.json"
"""In a run's folder: what each data set that was trained on holds; the evaluation's report shows it."""


@dataclass(frozen=True)
class Train:
    """Train a policy on one data set or a weighted mixture; the same command goes on after a kill."""

    data: tuple[Path, ...]
    """Folders of RLDS/TFDS or LeRobot data sets."""
    out: Path
    """The run's folder; its checkpoints, metrics and TensorBoard log."""
    preset: str = "nano"
    """Model: nano (trains on a CPU), smolvlm-256m, paligemma-3b."""
    weights: tuple[float, ...] = ()
    """Share of each data set; by their size if not given."""
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
    threads: int | None = None
    """CPU threads of torch."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> dict[str, Any]:
        """Train or resume."""
        from vla.datasets.mixture import Mixture
        from vla.commands.progress import counted
        from vla.describe import info
        from vla.files import write_text
        from vla.model.presets import preset
        from vla.plugins import open_source
        from vla.statistics_cache import default_cache, pooled
        from vla.training.config import TrainConfig
        from vla.training.loop import train

        if not self.data:
            raise ConfigError("training needs at least one data set")
        model = preset(self.preset)
        config = TrainConfig(
            steps=self.steps,
            minutes=self.minutes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            save_every=self.save_every,
            seed=self.seed,
            threads=self.threads,
            device=self.device,  # pyright: ignore[reportArgumentType]
        )
        sources = [open_source(path) for path in self.data]
        names = dict.fromkeys(source.spec.name for source in sources)
        with counted(console, "measuring", "steps") as show:
            measured = {
                name: pooled([one for one in sources if one.spec.name == name], cache=default_cache(), progress=show)
                for name in names
            }
        mixture = Mixture(sources, self.weights or None, horizon=model.horizon, seed=self.seed, stride=self.stride)
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
