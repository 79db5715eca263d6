"""A policy of LeRobot (act, diffusion, pi0, pi05, smolvla, ...) with its own processors, as a policy of ours.

::

    Observation ─ table ─▶ LeRobot's features ─ preprocessor ─▶ policy ─ postprocessor ─▶ numbers ─ table ─▶ ActionChunk

A policy that looks at one moment answers with a chunk. One that looks at several, or that averages its own chunks
(``temporal_ensemble_coeff``), must see every step: it answers with one action at a time, and LeRobot's own
``select_action`` decides when it infers.
"""

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError, DependencyMissing, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.policies.lerobot_features import FILE, Features, read_features

_PROCESSORS = ("policy_preprocessor", "policy_postprocessor")
_INNER = "pretrained_model"  # where LeRobot's training puts what it saves


class LeRobotPolicy:
    """See the module's docstring.

    Args:
        policy: LeRobot's, with weights, in evaluation mode.
        preprocessor: its own.
        postprocessor: its own.
        features: what its features mean.
        rows: of each chunk; those that the policy's config says are executed if None.
        fingerprint: of its files.

    Raises:
        ConfigError: ``rows`` is below 1, or the policy must see every step and gives one action at a time.
    """

    def __init__(
        self,
        policy: Any,
        preprocessor: Any,
        postprocessor: Any,
        features: Features,
        *,
        rows: int | None = None,
        fingerprint: str = "",
    ):
        self.policy, self.features, self._fingerprint = policy, features, fingerprint
        self._before, self._after = preprocessor, postprocessor
        config = policy.config
        self.every_step = config.n_obs_steps > 1 or getattr(config, "temporal_ensemble_coeff", None) is not None
        if rows is not None and (rows < 1 or self.every_step):
            raise ConfigError("rows start at 1; a policy that must see every step gives one action at a time")
        self.rows = rows or getattr(config, "n_action_steps", None)
        self._instruction, self._seed, self._asked = "", 0, 0

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the data that it was trained on, as the table says."""
        return self.features.spec

    @property
    def fingerprint(self) -> str:
        """Of its weights, configs and table."""
        return self._fingerprint

    def reset(self, instruction: str, *, seed: int) -> None:
        """Begin an episode: LeRobot's queues are emptied."""
        self._instruction, self._seed, self._asked = instruction, seed, 0
        for part in (self.policy, self._before, self._after):
            part.reset()

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk, or the next action of a policy that must see every step.

        Raises:
            PolicyFault: the observation does not fit, or the policy returned NaN or too few rows.
        """
        batch = self._before(
            self._batch(replace(observation, instruction=observation.instruction or self._instruction))
        )
        seed = int(np.random.SeedSequence([self._seed, self._asked]).generate_state(1)[0])
        self._asked += 1
        with torch.random.fork_rng(), torch.inference_mode():  # LeRobot draws from the global generator
            torch.manual_seed(seed)
            rows = (
                self.policy.select_action(batch)[None] if self.every_step else self.policy.predict_action_chunk(batch)
            )
            numbers = self._numbers(rows[0])
        return ActionChunk(self.features.actions(numbers), observation.time, 1 / self.spec.action.rate)

    def _batch(self, observation: Observation) -> dict[str, Any]:
        """LeRobot's features of one moment, as its data sets have them: pictures Float[3 h w] in [0, 1]."""
        batch: dict[str, Any] = {"task": observation.instruction}
        for feature, name in self.features.images.items():
            camera, image = self.spec.camera(name), observation.images.get(name)
            if image is None or image.shape != (camera.height, camera.width, 3):
                found = "none" if image is None else str(image.shape)
                raise PolicyFault(f"camera {name}: expected ({camera.height}, {camera.width}, 3), found {found}")
            batch[feature] = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        if observation.state.shape != (len(self.spec.state),):
            raise PolicyFault(f"the state has shape {observation.state.shape}; expected ({len(self.spec.state)},)")
        for feature in self.features.state:
            batch[feature] = torch.from_numpy(self.features.numbers(observation, feature))
        return batch

    def _numbers(self, rows: torch.Tensor) -> Float32[np.ndarray, "h n"]:
        """Raw units, step by step as LeRobot's processors expect it."""
        count = 1 if self.every_step else self.rows or len(rows)
        if len(rows) < count:
            raise PolicyFault(f"a chunk of {len(rows)} rows cannot be used for {count}")
        found = [self._after(row[None]).reshape(-1).float().cpu().numpy() for row in rows[:count]]
        if any(row.shape != (len(self.features.action),) for row in found):
            raise PolicyFault(f"actions have {found[0].shape} numbers; the table names {len(self.features.action)}")
        return np.stack(found)


@dataclass(frozen=True)
class Config:
    """A LeRobot policy from a folder.

    Attributes:
        checkpoint: ``pretrained_model`` of a LeRobot training run, or the folder above it.
        features: the table of its features; None if it is beside the weights, as ``vla_features.json``.
        rows: of each chunk; None for as many as LeRobot would execute.
        threads: of torch for the whole process; None leaves them.
        device: ``cpu`` or ``cuda``.
    """

    checkpoint: Path
    features: Path | None = None
    rows: int | None = None
    threads: int | None = None
    device: str = "cpu"

    def make(self) -> LeRobotPolicy:
        """Read the folder; nothing is fetched from elsewhere if LeRobot's policy does not ask for it.

        Raises:
            DataError: it is no LeRobot policy, a file is damaged, or the table and the policy's features differ.
            DependencyMissing: that kind of policy needs a package that is not installed.
            ConfigError: ``rows`` is below 1, or the policy gives one action at a time.
        """
        folder = _folder(self.checkpoint)
        table = Path(self.features) if self.features else folder / FILE
        features = read_features(table)
        _check_processors(folder)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints while it loads; standard output is for results
            policy, before, after = _load(folder, self.device)
        shapes = [
            {name: tuple(feature.shape) for name, feature in (given or {}).items()}
            for given in (policy.config.input_features, policy.config.output_features)
        ]
        features.check(shapes[0], shapes[1], table)
        return LeRobotPolicy(policy, before, after, features, rows=self.rows, fingerprint=_fingerprint(folder, table))


def is_checkpoint(path: Path) -> bool:
    """Whether a folder holds a policy of LeRobot."""
    return any((folder / f"{_PROCESSORS[0]}.json").exists() for folder in (path, path / _INNER))


def _folder(path: Path) -> Path:
    if not is_checkpoint(path):
        raise DataError(path, "folder", expected=f"a LeRobot policy with {_PROCESSORS[0]}.json", found="none")
    return path if (path / f"{_PROCESSORS[0]}.json").exists() else path / _INNER


def _check_processors(folder: Path) -> None:
    """A processor that is named by its Python path could be anybody's code: only LeRobot's registered ones are run."""
    for name in _PROCESSORS:
        path = folder / f"{name}.json"
        try:
            steps = json.loads(path.read_text())["steps"]
            strange = [step for step in steps if not isinstance(step.get("registry_name"), str)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(path, "steps", expected="LeRobot's processor steps", found=repr(error)) from error
        if strange:
            raise DataError(path, "steps", expected="steps with a registry_name", found=str(strange[0])[:120])


def _load(folder: Path, device: str) -> tuple[Any, Any, Any]:
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    try:
        config: Any = PreTrainedConfig.from_pretrained(folder, local_files_only=True)
        config.device, config.pretrained_path = device, folder
        if hasattr(config, "pretrained_backbone_weights"):
            config.pretrained_backbone_weights = None  # the checkpoint has them
        policy = get_policy_class(config.type).from_pretrained(
            folder, config=config, local_files_only=True, strict=True
        )
        placed = {"device_processor": {"device": device}}
        before, after = make_pre_post_processors(
            config, str(folder), preprocessor_overrides=placed, postprocessor_overrides=placed
        )
    except ImportError as error:
        raise DependencyMissing(f"{folder}: {error}") from error  # LeRobot's message names its extra
    except Exception as error:
        raise DataError(
            folder, "policy", expected="a LeRobot policy", found=f"{type(error).__name__}: {error}"
        ) from error
    return policy.eval(), before, after


def _fingerprint(folder: Path, table: Path) -> str:
    digest = hashlib.sha256(table.read_bytes())
    for file in sorted({*folder.glob("*.safetensors"), *folder.glob("*.json")} - {folder / FILE}):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]
