"""What a LeRobot folder must say, and what is refused: each field by its name. No LeRobot is imported here."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lerobot_policies import ARM, PI0_SIZES, RULE, STATE, STATISTICS, make, model_config, tokenizer_folder
from safetensors.torch import load_file, save_file

from vla.embodiment import CameraSpec
from vla.errors import ConfigError, DataError, SpecMismatch, StatisticsMissing, UnknownName
from vla.model import lerobot_config
from vla.model.checkpoint import Checkpoint, load, save
from vla.model.config import HfConfig, VlaConfig, fit_to
from vla.model.head_config import FlowConfig
from vla.model.lerobot import read_lerobot, write_lerobot
from vla.model.lerobot_steps import norm_map, steps_before
from vla.model.presets import preset
from vla.normalize import NormalizeSpec


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def checkpoint(tokenizer: Path) -> Checkpoint:
    return make(model_config(tokenizer))


@pytest.fixture(scope="module", autouse=True)
def _variants():
    with patch.dict(lerobot_config.GEMMA_VARIANTS, PI0_SIZES):
        yield


@pytest.fixture(scope="module")
def written(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "policy"
    write_lerobot(checkpoint, folder)
    return folder


@pytest.fixture
def policy(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "policy"))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def step(pipeline: dict[str, Any], name: str) -> dict[str, Any]:
    return next(step for step in pipeline["steps"] if step["registry_name"] == name)


def reweigh(policy: Path, change: Callable[[dict[str, torch.Tensor]], object], name: str = "model") -> None:
    (path,) = policy.glob(f"{name}.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_model_comes_back_as_it_went(checkpoint: Checkpoint, policy: Path):
    again = read_lerobot(policy, ARM)
    assert again.model.config == checkpoint.model.config
    assert again.encoder.statistics == checkpoint.encoder.statistics
    assert all(map(torch.equal, again.model.state_dict().values(), checkpoint.model.state_dict().values()))


def test_what_was_read_can_be_saved_as_ours(policy: Path, tmp_path: Path):
    read = read_lerobot(policy, ARM)
    save(tmp_path / "ours", read.model, read.encoder)
    again = load(tmp_path / "ours")
    assert all(map(torch.equal, again.model.state_dict().values(), read.model.state_dict().values()))
    assert again.model.config == read.model.config


CONFIG_FAULTS: dict[str, tuple[Any, str]] = {
    "type": ("act", "pi0 or pi05 or smolvla"),
    "time_sampling_beta_alpha": (1.0, "1.5"),
    "max_period": (1.0, "4.0"),
    "use_relative_actions": (True, "False"),
    "n_obs_steps": (2, "1"),
    "use_peft": (True, "False"),
    "image_resolution": ([28, 42], "a square"),
    "input_features": ({"observation.depth": {"type": "ENV", "shape": [3]}}, "images"),
    "output_features": ({"torque": {"type": "ACTION", "shape": [3]}}, "images"),
}


@pytest.mark.parametrize("field", CONFIG_FAULTS)
def test_a_setting_without_an_equal_is_refused(field: str, policy: Path):
    value, expected = CONFIG_FAULTS[field]
    edit(policy / "config.json", lambda config: config.update({field: value}))
    with pytest.raises(DataError, match=expected) as error:
        read_lerobot(policy, ARM)
    assert "config.json" in str(error.value)


@pytest.mark.parametrize("field", ["chunk_size", "num_inference_steps", "image_resolution", "max_state_dim"])
def test_a_setting_that_is_missing_or_no_number_is_named(field: str, policy: Path):
    for change in (lambda config: config.update({field: "many"}), lambda config: config.pop(field)):
        edit(policy / "config.json", change)
        with pytest.raises(DataError, match=field):
            read_lerobot(policy, ARM)


def _add(name: str, **settings: Any) -> Callable[[Any], object]:
    return lambda pipeline: pipeline["steps"].append({"registry_name": name, "config": settings})


def _set(name: str, **settings: Any) -> Callable[[Any], object]:
    return lambda pipeline: step(pipeline, name)["config"].update(settings)


BEFORE, AFTER, NORM = "policy_preprocessor.json", "policy_postprocessor.json", "normalizer_processor"
MODES = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
STEP_FAULTS: list[tuple[str, Callable[[Any], object], str]] = [
    (BEFORE, _add("delta_action_processor"), "delta_action_processor"),
    (BEFORE, _set("relative_actions_processor", enabled=True), "relative"),
    (BEFORE, _set("tokenizer_processor", padding_side="left"), "padding_side"),
    (BEFORE, _set("tokenizer_processor", max_length=None), "max_length"),
    (BEFORE, _set(NORM, eps="small"), "small"),
    (BEFORE, lambda pipeline: pipeline["steps"].pop(), "normalizer_processor"),
    (BEFORE, lambda pipeline: pipeline.update(steps=3), "a list"),
    (BEFORE, lambda pipeline: step(pipeline, NORM).update(state_file="../stolen.safetensors"), "in this folder"),
    (BEFORE, _set(NORM, norm_map=MODES | {"STATE": "QUANTILE10"}), "QUANTILE10"),
    (BEFORE, _set(NORM, norm_map=MODES | {"VISUAL": "MEAN_STD"}), "VISUAL"),
    (AFTER, _set("unnormalizer_processor", norm_map=MODES | {"ACTION": "MIN_MAX"}), "MIN_MAX"),
    (AFTER, _set("unnormalizer_processor", eps=1e-3), "eps"),
    (AFTER, _set("absolute_actions_processor", enabled=True), "absolute"),
]


@pytest.mark.parametrize(("file", "change", "expected"), STEP_FAULTS, ids=[fault[2] for fault in STEP_FAULTS])
def test_a_step_without_an_equal_is_refused(file: str, change: Callable[[Any], object], expected: str, policy: Path):
    edit(policy / file, change)
    with pytest.raises(DataError, match=expected) as error:
        read_lerobot(policy, ARM)
    assert "processor.json" in str(error.value)


def test_actions_must_come_back_by_the_numbers_they_went_by(policy: Path):
    reweigh(policy, lambda tensors: tensors["action.std"].mul_(2), "policy_postprocessor*")
    with pytest.raises(DataError, match=r"action\.std"):
        read_lerobot(policy, ARM)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tensors: tensors.pop("model.state_proj.bias"), r"model\.state_proj\.bias"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "more"),
        (lambda tensors: tensors.update({"model.action_out_proj.bias": torch.zeros(3)}), r"action_out_proj\.bias"),
    ],
)
def test_weights_must_be_all_there_and_nothing_else(change: Callable[[Any], object], expected: str, policy: Path):
    reweigh(policy, change)
    with pytest.raises(DataError, match=expected):
        read_lerobot(policy, ARM)


def test_a_cut_off_file_is_one_clear_error(policy: Path):
    whole = (policy / "model.safetensors").read_bytes()
    (policy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors"):
        read_lerobot(policy, ARM)


def test_other_names_and_precisions_of_the_same_weights(checkpoint: Checkpoint, policy: Path):
    """As some published files have them: no ``model.`` in front, the word table as the language head only, bfloat16."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop("model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight")
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name).bfloat16()

    reweigh(policy, change)
    again = read_lerobot(policy, ARM).model.state_dict()
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(again[name], value.bfloat16().float()), name


def test_what_the_files_do_not_say_must_be_said(policy: Path):
    edit(policy / BEFORE, lambda pipeline: step(pipeline, NORM).pop("state_file"))
    edit(policy / AFTER, lambda pipeline: step(pipeline, "unnormalizer_processor").pop("state_file"))
    with pytest.raises(StatisticsMissing, match=r"observation\.state, action.*statistics"):
        read_lerobot(policy, ARM)
    assert read_lerobot(policy, ARM, statistics=STATISTICS).encoder.statistics["arm"] == STATISTICS
    edit(policy / BEFORE, lambda pipeline: step(pipeline, "tokenizer_processor")["config"].pop("tokenizer_name"))
    with pytest.raises(ConfigError, match="backbone"):
        read_lerobot(policy, ARM, statistics=STATISTICS)


def test_a_backbone_that_is_not_there_is_named(policy: Path):
    with pytest.raises(ConfigError, match="nowhere/nothing"):
        read_lerobot(policy, ARM, backbone="nowhere/nothing")


def test_the_embodiment_must_have_the_policys_sizes(policy: Path):
    with pytest.raises(SpecMismatch, match=r"observation\.state: 7 channels here, 8 in the policy"):
        read_lerobot(policy, replace(ARM, state=ARM.state[:-1]))


def test_cameras_are_said_or_have_the_features_name(policy: Path):
    renamed = replace(ARM, cameras=(CameraSpec("top", 28, 28, role="primary"), *ARM.cameras[1:]))
    with pytest.raises(ConfigError, match=r"which camera is observation\.images\.front"):
        read_lerobot(policy, renamed)
    said = {"observation.images.front": "top"}
    assert read_lerobot(policy, renamed, cameras=said).encoder.numbers[0].cameras == ("top", "hand")
    assert read_lerobot(policy, renamed, cameras={"observation.images.front": None}).model.config.cameras == ("wrist",)
    with pytest.raises(UnknownName, match=r"observation\.images\.frnt"):
        read_lerobot(policy, renamed, cameras={"observation.images.frnt": "top"})
    with pytest.raises(UnknownName, match="tip"):
        read_lerobot(policy, renamed, cameras={"observation.images.front": "tip"})
    same = replace(ARM, cameras=tuple(replace(camera, role="primary") for camera in ARM.cameras))
    with pytest.raises(ConfigError, match="role 'primary'"):
        read_lerobot(policy, same)


def test_names_that_the_pipeline_renames_are_known(policy: Path):
    renamed = replace(ARM, cameras=(CameraSpec("top", 28, 28, role="primary"), *ARM.cameras[1:]))
    names = {"observation.images.top": "observation.images.front"}
    edit(policy / BEFORE, _set("rename_observations_processor", rename_map=names))
    assert read_lerobot(policy, renamed).encoder.numbers[0].cameras == ("top", "hand")


def _backbone(config: VlaConfig, **change: Any) -> VlaConfig:
    assert isinstance(config.backbone, HfConfig)
    return replace(config, backbone=replace(config.backbone, **change))


UNWRITABLE: list[tuple[Callable[[VlaConfig], VlaConfig], str]] = [
    (lambda config: replace(config, expert=replace(config.expert, places=True)), "places"),
    (lambda config: replace(config, padded=None), "padded"),
    (lambda config: replace(config, head=replace(config.head, solver="heun")), "solver"),
    (lambda config: replace(config, state_norm=replace(RULE, clip=5.0)), "clip"),
    (lambda config: replace(config, state_norm=replace(RULE, epsilon=1e-3)), "epsilon"),
    (lambda config: replace(config, expert=replace(config.expert, width=16)), "16"),
    (lambda config: _backbone(config, fit="stretch"), "fit"),
    (lambda config: _backbone(config, text_suffix=""), "new line"),
]


@pytest.mark.parametrize(("change", "expected"), UNWRITABLE, ids=[case[1] for case in UNWRITABLE])
def test_what_lerobot_has_no_equal_of_is_not_written(
    change: Callable[[VlaConfig], VlaConfig], expected: str, checkpoint: Checkpoint, tmp_path: Path
):
    with pytest.raises(ConfigError, match=expected):
        write_lerobot(make(change(checkpoint.model.config)), tmp_path / "policy")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(checkpoint: Checkpoint, policy: Path):
    with pytest.raises(ConfigError, match="policy"):
        write_lerobot(checkpoint, policy)


def test_bounds_follow_lerobots_rule(checkpoint: Checkpoint, tokenizer: Path, tmp_path: Path):
    """2 (x - q01) / (q99 - q01) - 1 with ``eps`` for an empty range only, neither clipped nor masked."""
    rule = NormalizeSpec("quantile", constant="epsilon")
    config = replace(checkpoint.model.config, state_norm=rule, head=FlowConfig(action_norm=rule))
    write_lerobot(make(config), tmp_path / "policy")
    read = read_lerobot(tmp_path / "policy", ARM)
    assert (read.model.config.state_norm, read.model.config.action_norm) == (rule, rule)
    raw = np.linspace(-3, 3, STATE, dtype=np.float32)
    table = STATISTICS.arrays(ARM.state_names, ("q01", "q99"))
    expected = 2 * (raw - table["q01"]) / (table["q99"] - table["q01"]) - 1
    np.testing.assert_allclose(read.encoder.state(0, raw)[:STATE], expected, rtol=1e-6)


@pytest.mark.parametrize("family", lerobot_config.FAMILIES)
def test_presets_of_the_same_names_can_be_exported(family: Any):
    """At full size: the settings of LeRobot's own published configurations come out."""
    config = fit_to(preset(family), [ARM])
    sizes = {"smolvla": {"hidden_size": 960, "num_hidden_layers": 32, "rms_norm_eps": 1e-5}}
    text = sizes.get(family, {"hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 18})
    written = lerobot_config.lerobot_config(family, config, {"text_config": text, "vision_config": {"image_size": 224}})
    assert (written["type"], written["chunk_size"], written["max_action_dim"]) == (family, 50, 32)
    if family == "smolvla":
        assert (written["expert_width_multiplier"], written["num_vlm_layers"]) == (0.75, 16)
        assert (written["self_attn_every_n_layers"], written["resize_imgs_with_padding"]) == (2, [512, 512])
    else:
        assert (written["paligemma_variant"], written["action_expert_variant"]) == ("gemma_2b", "gemma_300m")
        assert written["tokenizer_max_length"] == {"pi0": 48, "pi05": 200}[family]
    rules = norm_map(config)
    assert rules["ACTION"] == ("QUANTILES" if family == "pi05" else "MEAN_STD")
    steps_before(family, config, {}, rules)  # nothing in it that cannot be written
