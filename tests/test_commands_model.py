"""``vla model import|export``: there and back through the command, and what it says when something is not said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from lerobot_policies import ARM, PI0_SIZES, make, model_config, tokenizer_folder

from vla.commands.model import embodiment_like
from vla.model import lerobot_config
from vla.model.checkpoint import load, save
from vla.model.config import LoraConfig
from vla.model.lerobot import read_lerobot, write_lerobot
from vla.model.lora import adapted


@pytest.fixture(scope="module", autouse=True)
def _variants():
    with patch.dict(lerobot_config.GEMMA_VARIANTS, PI0_SIZES):
        yield


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    write_lerobot(make(model_config(tokenizer_folder(folder / "tokenizer"))), folder / "policy")
    return folder / "policy"


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    (tmp_path / "arm.json").write_text(json.dumps(ARM.to_json()))
    return tmp_path / "arm.json"


def test_there_and_back(vla: Any, policy: Path, arm: Path, tmp_path: Path):
    code, out, _ = vla("--json", "model", "import", policy, "--out", tmp_path / "ours", "--like", arm)
    assert code == 0 and json.loads(out)["cameras"] == ["front", "hand"]
    code, out, _ = vla("model", "export", tmp_path / "ours", "--out", tmp_path / "back")
    assert code == 0
    for name in ("config.json", "policy_preprocessor.json", "policy_postprocessor.json"):
        assert (tmp_path / "back" / name).read_text() == (policy / name).read_text()
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (policy / "model.safetensors").read_bytes()


def test_low_rank_updates_are_merged(vla: Any, policy: Path, tmp_path: Path):
    read = read_lerobot(policy, ARM)
    model = adapted(read.model, LoraConfig(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter) if "lora_B" in name else 0.0)
    save(tmp_path / "tuned", model, replace(read, model=model).encoder)
    assert vla("model", "export", tmp_path / "tuned", "--out", tmp_path / "back")[0] == 0
    noise, inputs = torch.ones(1, 4, 9), _inputs(read)
    again = read_lerobot(tmp_path / "back", ARM).model.sample(inputs, noise=noise)
    torch.testing.assert_close(again, model.eval().sample(inputs, noise=noise), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(again, read.model.sample(inputs, noise=noise), atol=1e-4)
    assert load(tmp_path / "tuned").model.config == model.config


def _inputs(checkpoint: Any) -> Any:
    import numpy as np

    from vla.experience import Observation

    images = {camera.name: np.full((camera.height, camera.width, 3), 99, dtype=np.uint8) for camera in ARM.cameras[:2]}
    return checkpoint.encoder.inputs(0, Observation(images, np.ones(8, dtype=np.float32), "pick up the bowl", 0.0))


def test_cameras_are_said(vla: Any, policy: Path, tmp_path: Path):
    renamed = replace(ARM, cameras=(replace(ARM.cameras[0], name="top"), *ARM.cameras[1:]))
    (tmp_path / "arm.json").write_text(json.dumps({"embodiment": renamed.to_json()}))
    asked = ("model", "import", policy, "--like", tmp_path / "arm.json", "--out", tmp_path / "ours")
    code, _, errors = vla(*asked)
    assert code == 2 and "observation.images.front" in errors and not (tmp_path / "ours").exists()
    code, _, errors = vla(*asked, "--cameras", "observation.images.front")
    assert code == 2 and "FEATURE=CAMERA" in errors
    code, _, _ = vla(*asked, "--cameras", "observation.images.front=top", "observation.images.hand=")
    assert code == 0 and load(tmp_path / "ours").encoder.numbers[0].cameras == ("top",)


def test_a_data_set_of_the_same_robot_says_it(shared_data: Path):
    spec = embodiment_like(str(shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"))
    assert spec.state and spec.cameras


def test_what_cannot_be_used_is_one_clear_error(vla: Any, policy: Path, arm: Path, tmp_path: Path):
    code, _, errors = vla("model", "import", tmp_path / "none", "--like", arm, "--out", tmp_path / "ours")
    assert code == 2 and "config.json" in errors
    (tmp_path / "broken.json").write_text("[]")
    code, _, errors = vla("model", "import", policy, "--like", tmp_path / "broken.json", "--out", tmp_path / "ours")
    assert code == 2 and "broken.json" in errors
    code, _, errors = vla("model", "export", policy, "--out", tmp_path / "back")
    assert code == 2 and "format" in errors
