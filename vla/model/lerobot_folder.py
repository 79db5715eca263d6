"""The files of a LeRobot 0.6 policy, read with every field checked that changes what the policy does.

::

    config.json                                     what the policy is: type, features, sizes
    model.safetensors                               weights
    policy_preprocessor.json                        steps before the model: tokenizer, normalisation ...
    policy_preprocessor_step_<n>_normalizer_processor.safetensors       its statistics
    policy_postprocessor.json  policy_postprocessor_step_...            steps after the model

A step or a setting that our modules have no equal of is an error that names it; none is passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vla.errors import DataError
from vla.model.checkpoint import read_json, read_tensors
from vla.normalize import NormalizeSpec

Family = Literal["pi0", "pi05", "smolvla"]
FAMILIES: tuple[Family, ...] = get_args(Family)
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
NEW_LINE = {"pi0": "pi0_new_line_processor", "smolvla": "smolvla_new_line_processor"}
PROMPT = "pi05_prepare_state_tokenizer_processor_step"

_PLAIN = {"to_batch_processor", "device_processor"}  # change nothing that a number depends on
_SAME = {"n_obs_steps": 1, "use_peft": False}
_SAME_IN: dict[str, dict[str, Any]] = {
    "pi0": {"min_period": 4e-3, "max_period": 4.0, "use_relative_actions": False}
    | {f"time_sampling_{name}": value for name, value in (("beta_alpha", 1.5), ("beta_beta", 1.0))}
    | {f"time_sampling_{name}": value for name, value in (("scale", 0.999), ("offset", 0.001))},
    "smolvla": {
        "min_period": 4e-3,
        "max_period": 4.0,
        "add_image_special_tokens": False,
        "adapt_to_pi_aloha": False,
        "use_delta_joint_actions_aloha": False,
    },
}
_SAME_IN["pi05"] = _SAME_IN["pi0"]
KINDS = {"MEAN_STD": "mean_std", "QUANTILES": "quantile", "MIN_MAX": "min_max", "IDENTITY": "identity"}
"""LeRobot's names of normalisations, and ours."""


@dataclass(frozen=True)
class LerobotFolder:
    """What the files say, still in their own words.

    Attributes:
        path: the folder.
        family: type of the policy.
        config: of ``config.json``.
        cameras: names of the image features in the order that the model takes them.
        state_size: length of the state feature.
        action_size: length of the action feature.
        tokenizer: Hub id of the tokenizer; None where the files name none.
        text_length: longest prompt in tokens.
        suffix: what is put behind every instruction.
        state_norm: rule for states.
        action_norm: rule for actions.
        statistics: feature, then field, then numbers; empty where the files hold none.
        renamed: other names under which image features may come.
    """

    path: Path
    family: Family
    config: Mapping[str, Any]
    cameras: tuple[str, ...]
    state_size: int
    action_size: int
    tokenizer: str | None
    text_length: int
    suffix: str
    state_norm: NormalizeSpec
    action_norm: NormalizeSpec
    statistics: Mapping[str, Mapping[str, list[float]]]
    renamed: Mapping[str, str]

    def setting[T: (int, bool, str, list)](self, name: str, kind: type[T]) -> T:
        """A field of ``config.json``.

        Raises:
            DataError: it is not there, or of another type.
        """
        value = self.config.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise DataError(self.path / CONFIG, name, expected=kind.__name__, found=repr(value))
        return value


def read_folder(path: Path) -> LerobotFolder:
    """Read all but the weights.

    Raises:
        DataError: a file or field is missing, or says something that our modules have no equal of.
    """
    file = path / CONFIG
    config = _mapping(file, "contents", read_json(file))
    family = _family(file, config.get("type"))
    for name, expected in (_SAME | _SAME_IN[family]).items():
        if config.get(name, expected) != expected:
            raise DataError(file, name, expected=repr(expected), found=repr(config[name]))
    inputs, outputs = (_mapping(file, name, config.get(name)) for name in ("input_features", "output_features"))
    cameras = tuple(name for name, feature in inputs.items() if _mapping(file, name, feature).get("type") == "VISUAL")
    if strange := sorted(inputs.keys() - set(cameras) - {STATE}) + sorted(outputs.keys() - {ACTION}):
        raise DataError(file, strange[0], expected=f"{STATE}, {ACTION} and images", found="another feature")
    before = _steps(path / PREPROCESSOR, _allowed(family))
    after = _steps(path / POSTPROCESSOR, {*_PLAIN, "unnormalizer_processor", "absolute_actions_processor"})
    tokens = _one(path / PREPROCESSOR, before, "tokenizer_processor")
    if tokens.get("padding_side", "right") != "right":
        raise DataError(path / PREPROCESSOR, "padding_side", expected="'right'", found=repr(tokens["padding_side"]))
    if family == "pi05":
        _one(path / PREPROCESSOR, before, PROMPT)
    normalize = _one(path / PREPROCESSOR, before, "normalizer_processor")
    unnormalize = _one(path / POSTPROCESSOR, after, "unnormalizer_processor")
    statistics = _statistics(path, normalize)
    _agree(path, normalize, unnormalize, statistics.get(ACTION, {}))
    return LerobotFolder(
        path,
        family,
        config,
        cameras,
        _size(file, STATE, inputs.get(STATE)),
        _size(file, ACTION, outputs.get(ACTION)),
        tokens.get("tokenizer_name"),
        _number(path / PREPROCESSOR, "max_length", tokens.get("max_length")),
        "\n" if NEW_LINE.get(family, PROMPT) in before and family != "pi05" else "",
        _norm(path, normalize, "STATE", STATE),
        _norm(path, normalize, "ACTION", ACTION),
        statistics,
        before.get("rename_observations_processor", {}).get("rename_map", {}),
    )


def _family(file: Path, found: Any) -> Family:
    for family in FAMILIES:
        if found == family:
            return family
    raise DataError(file, "type", expected=" or ".join(FAMILIES), found=repr(found))


def _allowed(family: str) -> set[str]:
    own = {PROMPT} if family == "pi05" else {NEW_LINE[family]}
    shared = {"rename_observations_processor", "relative_actions_processor", "tokenizer_processor"}
    return {*_PLAIN, *own, *shared, "normalizer_processor"}


def _steps(file: Path, allowed: set[str]) -> dict[str, dict[str, Any]]:
    """Settings of each step by its name, the file of its tensors among them."""
    steps = _mapping(file, "contents", read_json(file)).get("steps")
    if not isinstance(steps, list):
        raise DataError(file, "steps", expected="a list", found=type(steps).__name__)
    found: dict[str, dict[str, Any]] = {}
    for number, step in enumerate(steps):
        name = _mapping(file, f"steps[{number}]", step).get("registry_name")
        if name not in allowed:
            raise DataError(file, f"steps[{number}]", expected=f"one of {', '.join(sorted(allowed))}", found=repr(name))
        settings = dict(_mapping(file, f"steps[{number}].config", step.get("config", {})))
        if settings.get("enabled", False):
            raise DataError(file, f"{name}: enabled", expected="False (actions that are not relative)", found="True")
        found[str(name)] = settings | {"state_file": step.get("state_file")}
    return found


def _one(file: Path, steps: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in steps:
        raise DataError(file, "steps", expected=f"a {name}", found=", ".join(steps) or "none")
    return steps[name]


def _statistics(path: Path, step: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    if step.get("state_file") is None:
        return {}
    if (name := str(step["state_file"])) != Path(name).name:
        raise DataError(path / PREPROCESSOR, "state_file", expected="a name in this folder", found=repr(name))
    found: dict[str, dict[str, list[float]]] = {}
    for key, tensor in read_tensors(path / name).items():
        feature, _, field = key.rpartition(".")
        found.setdefault(feature, {})[field] = tensor.double().flatten().tolist()
    return found


def _agree(
    path: Path, normalize: Mapping[str, Any], unnormalize: Mapping[str, Any], action: Mapping[str, list[float]]
) -> None:
    """What turns actions into the model's numbers must be what turns them back."""
    file = path / POSTPROCESSOR
    for name in ("norm_map", "eps"):
        first, second = normalize.get(name), unnormalize.get(name)
        if name == "norm_map":
            first, second = (_mapping(file, name, item).get("ACTION") for item in (first, second))
        if first != second:
            raise DataError(file, f"{name} of actions", expected=f"the preprocessor's {first!r}", found=repr(second))
    back = _statistics(path, unnormalize).get(ACTION, {})
    for field in ("mean", "std", "min", "max", "q01", "q99"):
        if action.get(field) != back.get(field):
            raise DataError(file, f"{ACTION}.{field}", expected="the preprocessor's numbers", found="others")


def _norm(path: Path, step: Mapping[str, Any], kind: str, feature: str) -> NormalizeSpec:
    """LeRobot's rule: no mask, no clipping; bounds use ``eps`` only where they coincide, mean and std always add it."""
    file = path / PREPROCESSOR
    mode = _mapping(file, "norm_map", step.get("norm_map")).get(kind, "IDENTITY")
    if mode not in KINDS:
        raise DataError(file, f"norm_map.{kind}", expected=" or ".join(KINDS), found=repr(mode))
    if _mapping(file, "norm_map", step["norm_map"]).get("VISUAL", "IDENTITY") != "IDENTITY":
        raise DataError(file, "norm_map.VISUAL", expected="'IDENTITY'", found=repr(step["norm_map"]["VISUAL"]))
    keys = step.get("normalize_observation_keys")
    if kind == "STATE" and keys is not None and feature not in keys:
        mode = "IDENTITY"
    constant = "scaled" if mode in ("MEAN_STD", "IDENTITY") else "epsilon"
    return NormalizeSpec(KINDS[mode], epsilon=_positive(file, "eps", step.get("eps")), constant=constant)  # pyright: ignore[reportArgumentType]


def _number(file: Path, field: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise DataError(file, field, expected="a whole number above 0", found=repr(value))
    return value


def _positive(file: Path, field: str, value: Any) -> float:
    if type(value) is not float or not 0 < value < 1:
        raise DataError(file, field, expected="a number between 0 and 1", found=repr(value))
    return value


def _size(file: Path, name: str, feature: Any) -> int:
    shape = _mapping(file, name, feature).get("shape")
    if not isinstance(shape, list) or len(shape) != 1:
        raise DataError(file, f"{name}: shape", expected="one number in a list", found=repr(shape))
    return _number(file, f"{name}: shape", shape[0])


def _mapping(file: Path, field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(file, field, expected="an object", found=type(value).__name__)
    return value
