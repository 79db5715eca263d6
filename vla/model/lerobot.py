"""Policies of LeRobot 0.6 (``pi0``, ``pi05``, ``smolvla``) as checkpoints of ours, and back.

Weights go into our own modules; nothing of LeRobot runs. What its files do not say has to be said by the caller: which
number is which channel, and which camera is which. The round trip gives the same chunks for the same noise.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vla.embodiment import EmbodimentSpec, Role
from vla.errors import ConfigError, SpecMismatch, StatisticsMissing, UnknownName
from vla.files import whole_folder
from vla.model import lerobot_config as settings
from vla.model.checkpoint import Checkpoint, read_tensors, write_tensors
from vla.model.encode import Encoder
from vla.model.hf_backbone import load_config, load_tokenizer
from vla.model.lerobot_folder import (
    ACTION,
    CONFIG,
    IMAGES,
    POSTPROCESSOR,
    PREPROCESSOR,
    STATE,
    WEIGHTS,
    LerobotFolder,
    read_folder,
)
from vla.model.lerobot_steps import norm_map, steps_after, steps_before, vectors
from vla.model.lerobot_weights import from_theirs, to_theirs
from vla.model.text import Text
from vla.model.vla_model import build
from vla.normalize import Statistics
from vla.statistics_files import lerobot_statistics


def read_lerobot(
    path: Path,
    spec: EmbodimentSpec,
    *,
    cameras: Mapping[str, str | None] | None = None,
    backbone: str | None = None,
    statistics: Statistics | None = None,
    count: int | None = None,
) -> Checkpoint:
    """The policy in a LeRobot folder.

    Args:
        path: the folder.
        spec: whose numbers the policy takes and gives, channel by channel.
        cameras: for each of the policy's image features the spec's camera that fills it, or None for a picture that
            this embodiment does not have. Features that are not named go to the camera of the same name.
        backbone: folder or Hub id of the vision-language model's config and tokenizer, where not that which the files
            name.
        statistics: to normalise with, where not those of the files (base policies have none).
        count: steps that the files' statistics are of, where they do not say.

    Raises:
        DataError: a file is missing, damaged, or says something that our modules have no equal of.
        SpecMismatch: state or action have another size.
        StatisticsMissing: there are none.
        ConfigError: a picture's camera is not said, or the backbone's config or tokenizer cannot be found.
        UnknownName: a camera that the spec does not have, or an image feature that the policy does not have.
    """
    folder = read_folder(path)
    roles = _roles(folder, spec, cameras or {})
    if statistics is None:
        statistics = _statistics(folder, spec, count)
    tensors = _tensors(folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    name = backbone or folder.config.get("vlm_model_name") or folder.tokenizer
    if name is None:
        raise ConfigError(f"{path} does not say which vision-language model it was made from; name one (backbone)")
    config = settings.model_config(folder, shapes, spec, roles, name)
    if folder.family == "smolvla":
        architecture = load_config(name).to_dict()
    else:
        architecture = settings.paligemma(folder, shapes)
    model = build(config, pretrained=False, architecture=architecture)
    model.load_state_dict(from_theirs(path / WEIGHTS, folder.family, config, model.state_dict(), tensors))
    text = Text(load_tokenizer(name), folder.text_length, folder.suffix)
    encoder = Encoder(config, [spec], {spec.name: statistics}, text, model.backbone.image_size)
    return Checkpoint(model.eval(), encoder, path)


def write_lerobot(checkpoint: Checkpoint, path: Path) -> None:
    """Write a policy that LeRobot loads, whole or not at all.

    Image features are named after the embodiment's cameras. LeRobot's decode of a gripper is not clipped, ours is.

    Args:
        checkpoint: with the expert of one of the three policies.
        path: a folder that is not there yet.

    Raises:
        ConfigError: LeRobot has no equal of a setting, or ``path`` is there.
        StatisticsMissing: a channel lacks what its rule needs.
    """
    model, encoder = checkpoint.model, checkpoint.encoder
    family = settings.family_of(model.config)
    config = settings.lerobot_config(family, model.config, model.backbone.architecture() or {})
    (spec,) = encoder.specs
    tensors = to_theirs(family, model.config, model.state_dict())
    cameras = [camera for camera in encoder.numbers[0].cameras if camera is not None]
    images = {f"{IMAGES}{name}": _image(spec, name) for name in cameras}
    numbers = {STATE: {"type": "STATE", "shape": [len(spec.state)]}, ACTION: _action(spec)}
    rules = norm_map(model.config)
    config |= {
        "input_features": images | {STATE: numbers[STATE]},
        "output_features": {ACTION: numbers[ACTION]},
        "empty_cameras": len(encoder.numbers[0].cameras) - len(cameras),
        "normalization_mapping": rules,
    }
    statistics = vectors(encoder.statistics[spec.name], spec)
    pipelines = {
        PREPROCESSOR: steps_before(family, model.config, images | numbers, rules),
        POSTPROCESSOR: steps_after(family, model.config, numbers, rules),
    }
    with whole_folder(path) as target:
        (target / CONFIG).write_text(json.dumps(config, indent=4))
        write_tensors(target / WEIGHTS, tensors)
        for name, steps in pipelines.items():
            for step in steps:
                if "state_file" in step:
                    write_tensors(target / step["state_file"], statistics)
            (target / name).write_text(json.dumps({"name": name.removesuffix(".json"), "steps": steps}, indent=2))


def _roles(folder: LerobotFolder, spec: EmbodimentSpec, said: Mapping[str, str | None]) -> tuple[Role, ...]:
    """Roles of the cameras that fill the policy's image features, in its order; none is the same as a masked one."""
    if strange := sorted(said.keys() - set(folder.cameras)):
        raise UnknownName("image feature of the policy", strange[0], folder.cameras)
    others: dict[str, list[str]] = {}
    for old, new in folder.renamed.items():
        others.setdefault(new, []).append(old.removeprefix(IMAGES))
    roles: list[Role] = []
    for feature in folder.cameras:
        own = feature.removeprefix(IMAGES)
        if feature in said:
            camera = said[feature]
        elif own.startswith("empty_camera_"):  # LeRobot's name for one that nobody fills
            camera = None
        else:
            camera = next((name for name in (own, *others.get(feature, [])) if name in spec.camera_names), None)
            if camera is None:
                known = ", ".join(spec.camera_names) or "none"
                raise ConfigError(
                    f"{folder.path}: which camera is {feature}? {spec.name} has {known}; say it (cameras)"
                )
        if camera is not None:
            role = spec.camera(camera).role
            first = next(item.name for item in spec.cameras if item.role == role)
            if role in roles or first != camera:
                raise ConfigError(f"{spec.name}: two cameras have the role {role!r}; {feature} needs one of its own")
            roles.append(role)
    if not roles:
        raise ConfigError(f"{folder.path}: {spec.name} fills none of {', '.join(folder.cameras) or 'no features'}")
    return tuple(roles)


def _statistics(folder: LerobotFolder, spec: EmbodimentSpec, count: int | None) -> Statistics:
    sizes = ((STATE, folder.state_size, len(spec.state)), (ACTION, folder.action_size, spec.action.size))
    lines = [f"{name}: {ours} channels here, {theirs} in the policy" for name, theirs, ours in sizes if theirs != ours]
    if lines:
        raise SpecMismatch(lines, have=spec.name, want=str(folder.path))
    missing = [name for name in (STATE, ACTION) if name not in folder.statistics]
    if missing:
        raise StatisticsMissing(f"{folder.path} holds no statistics of {', '.join(missing)}; give some (statistics)")
    return lerobot_statistics(folder.path / PREPROCESSOR, folder.statistics, spec, count=count)


def _tensors(folder: LerobotFolder) -> dict[str, Tensor]:
    """Weights by the names that today's LeRobot gives them."""
    found = read_tensors(folder.path / WEIGHTS)
    named = {name if name.startswith("model.") else f"model.{name}": tensor for name, tensor in found.items()}
    return settings.with_words(folder.family, named)


def _image(spec: EmbodimentSpec, name: str) -> dict[str, object]:
    camera = spec.camera(name)
    return {"type": "VISUAL", "shape": [3, camera.height, camera.width]}


def _action(spec: EmbodimentSpec) -> dict[str, object]:
    return {"type": "ACTION", "shape": [spec.action.size]}
