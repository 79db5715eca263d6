"""``vla model``: checkpoints of other programs as ours and back, and low-rank updates folded in."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from tyro.conf import Positional, subcommand

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError


@dataclass(frozen=True)
class Import:
    """Read a LeRobot policy (pi0, pi05 or smolvla) and save it as a checkpoint that vla eval and vla rollout run."""

    policy: Positional[Path]
    """Folder with config.json, model.safetensors and the policy's pre- and postprocessor."""
    out: Path
    """Folder of the new checkpoint; must not be there."""
    like: str
    """What its numbers mean, which its files do not say: a data set of the same robot, or a JSON file of its
    embodiment (the vla.json of a data set written here is one)."""
    cameras: tuple[str, ...] = ()
    """Which camera fills which of its image features, as FEATURE=CAMERA (FEATURE= for none); same names need none."""
    backbone: str | None = None
    """Folder or Hub id of the vision-language model's config and tokenizer, if not that which its files name."""
    count: int | None = None
    """Steps that its statistics are of, if its files do not say."""

    def run(self, console: Console) -> dict[str, Any]:
        """Return what was read."""
        from vla.model.checkpoint import save
        from vla.model.lerobot import read_lerobot

        checkpoint = read_lerobot(
            self.policy,
            embodiment_like(self.like),
            cameras=camera_map(self.cameras),
            backbone=self.backbone,
            count=self.count,
        )
        save(self.out, checkpoint.model, checkpoint.encoder)
        numbers = sum(parameter.numel() for parameter in checkpoint.model.parameters())
        slots = [name for name in checkpoint.encoder.numbers[0].cameras if name is not None]
        console.print(f"{self.out}: {numbers / 1e6:.1f} million weights, cameras {', '.join(slots)}", markup=False)
        return {"checkpoint": str(self.out), "parameters": numbers, "cameras": slots}


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as a LeRobot policy; its expert must be one that LeRobot has. Low-rank updates are merged."""

    checkpoint: Positional[Path]
    """Folder of a checkpoint, or of a run, which stands for its newest."""
    out: Path
    """Folder of the new policy; must not be there."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged over training, or the last."""

    def run(self, console: Console) -> dict[str, Any]:
        """Return where it was written."""
        from dataclasses import replace

        from vla.model.checkpoint import load
        from vla.model.config import NanoConfig
        from vla.model.lerobot import write_lerobot
        from vla.model.lora import merged

        read = load(self.checkpoint, self.weights)
        backbone = read.model.config.backbone
        if not isinstance(backbone, NanoConfig) and backbone.lora is not None:
            read = replace(read, model=merged(read.model))
        write_lerobot(read, self.out)
        console.print(f"{self.out}: a LeRobot policy", markup=False)
        return {"policy": str(self.out)}


@dataclass(frozen=True)
class Model:
    """Checkpoints of other programs: import them, export ours."""

    command: Annotated[Import, subcommand("import")] | Annotated[Export, subcommand("export")]

    def run(self, console: Console) -> dict[str, Any]:
        """Run the subcommand."""
        return self.command.run(console)


def embodiment_like(path: str) -> EmbodimentSpec:
    """The embodiment of a data set, or in a JSON file.

    Raises:
        DataError: neither is there, or the file is not one.
        ConfigError: the file's fields do not fit.
        QuirksFound: something is wrong with the data set.
    """
    from vla.plugins import open_source

    if not path.endswith(".json"):
        return open_source(path).spec
    try:
        value = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "contents", expected="a JSON file", found=str(error)) from error
    if not isinstance(value, dict):
        raise DataError(path, "contents", expected="an object", found=type(value).__name__)
    return EmbodimentSpec.from_json(value.get("embodiment", value))


def camera_map(pairs: tuple[str, ...]) -> dict[str, str | None]:
    """``FEATURE=CAMERA`` as a mapping; an empty camera is None.

    Raises:
        ConfigError: an entry has no ``=``.
    """
    found: dict[str, str | None] = {}
    for pair in pairs:
        feature, equals, camera = pair.partition("=")
        if not equals:
            raise ConfigError(f"cameras: {pair!r} is no FEATURE=CAMERA")
        found[feature] = camera or None
    return found
