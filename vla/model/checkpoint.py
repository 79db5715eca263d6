"""A trained model as one folder, readable without running anybody's code (no pickle).

::

    model.safetensors  ema.safetensors      weights; the averaged ones are of the trained parameters only
    config.json                             format, model config, architecture of a Hugging Face backbone
    statistics.json  embodiments.json       by embodiment name; specs with their fingerprints
    tokenizer.json                          of the ``tokenizers`` library
    fast.json                               words fitted to the data, where a model writes actions as FAST tokens

A run's folder may stand for its newest checkpoint: it has a link ``last``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError, StatisticsMissing
from vla.files import whole_folder
from vla.model.checkpoint_format import FORMAT, OLDEST, current_model, current_tensors
from vla.model.config import HfConfig, VlaConfig
from vla.model.encode import Encoder
from vla.model.fast import FastCodec
from vla.model.text import Text, read_tokenizer
from vla.model.vla_model import VlaModel, build
from vla.normalize import Statistics

LAST = "last"
FAST = "fast.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything needed to feed it and to read its answers.

    Attributes:
        model: on the CPU, in evaluation mode.
        encoder: holds the specs, the statistics and the tokenizer.
        path: the folder it came from.
    """

    model: VlaModel
    encoder: Encoder
    path: Path


def save(path: Path, model: VlaModel, encoder: Encoder, ema: Mapping[str, Tensor] | None = None) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        ConfigError: ``path`` is there already.
    """
    with whole_folder(path) as folder:
        write_into(folder, model, encoder, ema)


def write_into(
    folder: Path,
    model: VlaModel,
    encoder: Encoder,
    ema: Mapping[str, Tensor] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint's files into an existing folder, for those who add files of their own.

    Args:
        folder: to write into.
        model: that the checkpoint is of.
        encoder: of the model.
        ema: averaged weights; the model's own if None.
        weights: whole ones where the model holds only a part of each; its own if None.
    """
    write_tensors(folder / "model.safetensors", model.state_dict() if weights is None else weights)
    write_tensors(folder / "ema.safetensors", trainable(model) if ema is None else ema)
    config = {"format": FORMAT, "model": model.config.to_json(), "architecture": model.backbone.architecture()}
    specs = {spec.name: {"fingerprint": spec.fingerprint, "spec": spec.to_json()} for spec in encoder.specs}
    statistics = {spec.name: encoder.statistics[spec.name].to_json() for spec in encoder.specs}
    _write_json(folder / "config.json", config)
    _write_json(folder / "embodiments.json", specs)
    _write_json(folder / "statistics.json", statistics)
    (folder / "tokenizer.json").write_text(encoder.text.to_json())
    if model.fast is not None:
        (folder / FAST).write_text(model.fast.fitted.to_json())


def load(path: Path, weights: Literal["ema", "model"] = "ema") -> Checkpoint:
    """Read a checkpoint, or a run's newest one.

    Args:
        path: of a checkpoint or of a run.
        weights: the averaged ones, or those that training goes on with.

    Raises:
        DataError: a file is missing, damaged, of another format, or does not fit the others.
        ConfigError: a field of the model's config is missing, unknown or out of range.
        StatisticsMissing: an embodiment or a channel has no statistics.
    """
    folder = resolve(path)
    version, config, architecture = _read_config(folder / "config.json")
    specs = _read_specs(folder / "embodiments.json")
    statistics = _read_statistics(folder / "statistics.json")
    text = Text(read_tokenizer(folder / "tokenizer.json"), config.backbone.text_length, text_suffix(config))
    model = build(config, pretrained=False, architecture=architecture)
    state = current_tensors(version, read_tensors(folder / "model.safetensors"))
    _check_names(folder / "model.safetensors", state, model.state_dict())
    model.load_state_dict(state)
    if weights == "ema":
        averaged = current_tensors(version, read_tensors(folder / "ema.safetensors"))
        _check_names(folder / "ema.safetensors", averaged, trainable(model))
        model.load_state_dict(averaged, strict=False)
    if model.fast is not None:
        model.fast.codec = _read_fast(folder / FAST, config)
    encoder = Encoder(config, specs, statistics, text, model.backbone.image_size)
    return Checkpoint(model.eval(), encoder, folder)


def resolve(path: Path) -> Path:
    """The checkpoint's folder that ``path`` stands for.

    Raises:
        DataError: there is none.
    """
    for folder in (path, path / LAST):
        if (folder / "config.json").is_file():
            return folder.resolve()
    raise DataError(path, "config.json", expected="a checkpoint, or a run with a link 'last'", found="neither")


def embodiments(path: Path) -> list[EmbodimentSpec]:
    """The embodiments of a checkpoint, or of a run's newest one; reads no weights.

    Raises:
        DataError: a file is missing or damaged.
    """
    return _read_specs(resolve(path) / "embodiments.json")


def fingerprint(path: Path) -> str:
    """16 hex digits that change with any byte that decides what the policy does."""
    folder, digest = resolve(path), hashlib.sha256()
    names = [
        "config.json",
        "embodiments.json",
        "ema.safetensors",
        "model.safetensors",
        "statistics.json",
        "tokenizer.json",
    ]
    for name in [*names, FAST] if (folder / FAST).exists() else names:
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(folder / name, "file", expected="readable", found=str(error.strerror)) from error
    return digest.hexdigest()[:16]


def trainable(model: VlaModel) -> dict[str, Tensor]:
    """Trained parameters by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def text_suffix(config: VlaConfig) -> str:
    """What ends every instruction for this model's tokenizer."""
    return config.backbone.text_suffix if isinstance(config.backbone, HfConfig) else ""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        DataError: it cannot be written, e.g. because the disk is full.
    """
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except (OSError, SafetensorError) as error:
        raise DataError(path, "tensors", expected="room to write them", found=str(error)) from error
    path.chmod(0o644)  # the library makes its files readable to their owner only


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(path, "tensors", expected="a whole safetensors file", found=str(error)) from error


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "JSON", expected="a readable JSON file", found=str(error)) from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))


def _read_config(path: Path) -> tuple[int, VlaConfig, dict[str, Any] | None]:
    value = _mapping(path, read_json(path))
    version = value.get("format")
    if not isinstance(version, int) or not OLDEST <= version <= FORMAT:
        raise DataError(path, "format", expected=f"{OLDEST} to {FORMAT}", found=repr(version))
    if "model" not in value:
        raise DataError(path, "model", expected="a model config", found="nothing")
    try:
        config = VlaConfig.from_json(current_model(version, _mapping(path, value["model"])))
    except KeyError as error:
        raise DataError(path, str(error), expected=f"a field of format {version}", found="nothing") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return version, config, value.get("architecture")


def _read_fast(path: Path, config: VlaConfig) -> FastCodec:
    codec = FastCodec.from_json(path)
    if codec.horizon != config.horizon or len(codec.lengths) > config.action_words:
        found = f"{codec.horizon} actions and {len(codec.lengths)} words"
        raise DataError(path, "words", expected=f"{config.horizon} actions, {config.action_words} words", found=found)
    return codec


def _read_specs(path: Path) -> list[EmbodimentSpec]:
    specs = []
    for name, entry in _mapping(path, read_json(path)).items():
        entry = _mapping(path, entry)
        if not {"spec", "fingerprint"} <= entry.keys():
            raise DataError(path, name, expected="a spec and its fingerprint", found=", ".join(entry) or "nothing")
        spec = EmbodimentSpec.from_json(entry["spec"])
        if spec.fingerprint != entry["fingerprint"] or spec.name != name:
            found = f"{spec.name!r} with {spec.fingerprint}"
            raise DataError(path, name, expected=f"fingerprint {entry['fingerprint']}", found=found)
        specs.append(spec)
    return specs


def _read_statistics(path: Path) -> dict[str, Statistics]:
    try:
        return {name: Statistics.from_json(value) for name, value in _mapping(path, read_json(path)).items()}
    except StatisticsMissing as error:
        raise StatisticsMissing(f"{path}: {error}") from error


def _mapping(path: Path, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(path, "JSON", expected="an object", found=type(value).__name__)
    return value


def _check_names(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    have = {name: tuple(value.shape) for name, value in found.items()}
    want = {name: tuple(value.shape) for name, value in wanted.items()}
    if have != want:
        wrong = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
        first = wrong[0]
        raise DataError(
            path, f"{first} and {len(wrong) - 1} more", expected=str(want.get(first)), found=str(have.get(first))
        )
