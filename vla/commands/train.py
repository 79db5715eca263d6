"""``vla train``: a policy from one data set or a mixture."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.commands.mixtures import mixture_data, only_human, open_data, training_mixture
from vla.commands.train_options import DataOptions, MachineOptions, ModelOptions, StepOptions, WatchOptions
from vla.datasets.mixture_shares import WeightKind
from vla.errors import ConfigError

DATA_FILE = "data.json"
"""In a run's folder: what each data set that was trained on holds; the evaluation's report shows it."""


@dataclass(frozen=True)
class Train:
    """Train a policy on one data set or a weighted mixture; the same command goes on after a kill."""

    out: Path
    """The run's folder: checkpoints, metrics, TensorBoard's log."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    step: StepOptions = field(default_factory=StepOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)
    watch: WatchOptions = field(default_factory=WatchOptions)

    def run(self, console: Console) -> dict[str, Any]:
        """Train or resume."""
        from vla.commands.train_evaluation import libero_examiner
        from vla.describe import info
        from vla.files import write_text
        from vla.model.presets import preset, with_head, with_learning
        from vla.training.config import TrainConfig
        from vla.training.loop import train
        from vla.training.pairs import Pairs
        from vla.training.ranks import joined

        paths, weights, kind = self._chosen()
        model = with_learning(
            replace(with_head(preset(self.model.preset), self.model.head), recompute=self.model.recompute),
            lora=self.model.lora,
            freeze=self.model.freeze,
        )
        with joined(self.machine.device) as ranks:
            console = console if ranks.first else Console(quiet=True)
            with ranks.one_after_first():
                sources, measured = self._opened(paths, console)
            windows = training_mixture(
                sources,
                weights,
                kind,
                temperature=self.data.temperature,
                sample=self.data.sample,
                horizon=model.horizon,
                seed=self.step.seed,
                stride=self.data.stride,
            )
            pairs = Pairs(self.data.pairs) if self.data.pairs else None
            config = TrainConfig(
                **vars(self.step),
                **vars(self.machine),
                pairs_share=self.data.pairs_share if pairs else 0.0,
                pairs=pairs.content if pairs else None,
                order=windows.order,
                save_every=self.watch.save_every,
                track=self.watch.track,
            )
            examiner = libero_examiner(self.watch, windows.specs, self.out)
            init = self.model.init
            result = train(
                config, model, windows, measured, self.out, pairs=pairs, init=init, examiner=examiner, resume=True
            )
            if ranks.first:
                described = {str(path): info(source) for path, source in zip(paths, sources, strict=True)}
                write_text(self.out / DATA_FILE, json.dumps(described, indent=1))
        if not result.finished:
            raise KeyboardInterrupt
        console.print(
            f"{result.checkpoint}: {result.steps} steps in {result.minutes:.1f} min, loss {result.loss:.4f}, "
            f"{result.samples_per_second:.0f} samples/s"
        )
        best = self.out / "best"
        if best.exists():
            console.print(f"{best}: {best.resolve().name}, the best of {self.out / 'evaluations.jsonl'}")
        return {
            "checkpoint": str(result.checkpoint),
            "best": str(best.resolve()) if best.exists() else None,
            "steps": result.steps,
            "minutes": round(result.minutes, 3),
            "loss": result.loss,
            "samples_per_second": round(result.samples_per_second, 1),
        }

    def _opened(self, paths: tuple[str, ...], console: Console) -> tuple[list[Any], dict[str, Any]]:
        """The data sets, and the statistics of each embodiment in them."""
        from vla.commands.progress import counted
        from vla.files import cache_folder
        from vla.statistics_cache import pooled

        sources = open_data(
            paths, split=self.data.split, tolerate=self.data.tolerate, descriptions=self.data.description
        )
        sources = only_human(sources, paths, self.data.human)
        names = dict.fromkeys(source.spec.name for source in sources)
        if self.data.statistics is not None:
            return sources, {next(iter(names)): self._given(self.data.statistics, paths, sources)}
        with counted(console, "measuring", "steps") as show:
            measured = {
                name: pooled([one for one in sources if one.spec.name == name], cache=cache_folder(), progress=show)
                for name in names
            }
        return sources, measured

    def _given(self, file: Path, paths: tuple[str, ...], sources: list[Any]) -> Any:
        """The statistics in a file, as those of the one embodiment there is."""
        from vla.statistics_layout import layout_of, read_statistics

        if len({source.spec.name for source in sources}) > 1:
            raise ConfigError(f"{file} has statistics of one embodiment; the data sets have several")
        data = self.data
        stored = [
            source.spec
            for source in open_data(
                paths, split=data.split, raw=True, tolerate=data.tolerate, descriptions=data.description
            )
        ]
        forms = [(spec.state, spec.state_rotation, spec.action) for spec in stored]
        if forms.count(forms[0]) < len(forms) and layout_of(file) in ("openpi", "lerobot"):
            raise ConfigError(f"{file} is of numbers as they are stored, and the data sets store them in several ways")
        steps = sum(int(source.lengths.sum()) for source in sources)
        return read_statistics(file, stored=stored[0], canonical=sources[0].spec, count=steps)

    def _chosen(self) -> tuple[tuple[str, ...], tuple[float, ...], WeightKind]:
        """The data sets, their weights and what these mean."""
        data = self.data
        if (data.mixture is None) == (not data.data):
            raise ConfigError("training needs either data sets (--data) or a mixture (--mixture and --root)")
        if data.mixture is None:
            return data.data, data.weights, data.weights_are
        if data.weights:
            raise ConfigError("a published mixture brings its own weights")
        return *mixture_data(data.mixture, data.root or ".", partly=data.partly), "times-size"
