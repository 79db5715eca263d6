"""A checkpoint gives back what was saved, and says clearly what is wrong with it otherwise."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla.errors import ConfigError, DataError, StatisticsMissing, VlaError
from vla.model.checkpoint import Checkpoint, load, resolve, save
from vla.model.checkpoint_format import current_model
from vla.model.config import STATE, ExpertConfig, HfConfig, NanoConfig, VlaConfig, fit_to
from vla.model.encode import Encoder
from vla.model.head_config import MEAN_STD, FlowConfig
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import VlaModel, build
from vla.training.fake import FakeWindows

NANO = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64)
SOURCE = FakeWindows(count=8)


@pytest.fixture(scope="module")
def made() -> tuple[VlaModel, Encoder]:
    config = fit_to(VlaConfig(NANO, ExpertConfig(width=16, mlp=32), horizon=8), SOURCE.specs)
    text = Text(word_tokenizer(["reach the red square"], 64), 40)
    return build(config), Encoder(config, SOURCE.specs, SOURCE.statistics(), text, 32)


@pytest.fixture
def folder(made: tuple[VlaModel, Encoder], tmp_path: Path) -> Path:
    save(tmp_path / "checkpoint", *made)
    return tmp_path / "checkpoint"


def sample(model: VlaModel, encoder: Encoder) -> torch.Tensor:
    inputs = encoder.inputs(0, SOURCE[0].observation)
    return model.eval().sample(inputs, 3, torch.Generator().manual_seed(0))


def test_it_comes_back_whole(made: tuple[VlaModel, Encoder], folder: Path):
    again = load(folder)
    assert isinstance(again, Checkpoint)
    assert again.model.config == made[0].config
    assert again.encoder.specs == made[1].specs
    assert again.encoder.statistics == made[1].statistics
    assert torch.equal(sample(again.model, again.encoder), sample(*made))


def test_averaged_weights_are_loaded_unless_told_otherwise(made: tuple[VlaModel, Encoder], tmp_path: Path):
    model, encoder = made
    ema = {name: value + 1.0 for name, value in model.named_parameters() if value.requires_grad}
    save(tmp_path / "other", model, encoder, ema)
    assert torch.equal(places(load(tmp_path / "other").model), places(model) + 1.0)
    assert torch.equal(places(load(tmp_path / "other", "model").model), places(model))


def places(model: VlaModel) -> torch.Tensor:
    return model.get_parameter("head.network.places")


def test_the_first_format_is_still_read(made: tuple[VlaModel, Encoder], folder: Path):
    """It knew one head, and did not name it; one expert, of which it told the size; and scalars."""

    def older(config: dict) -> None:
        config["format"] = 1
        model = config["model"]
        head = model.pop("head")
        model |= {"flow_samples": 3, "action_norm": head["action_norm"]}
        model["expert"] = {name: model["expert"][name] for name in ("width", "mlp", "heads")}
        for name in ("backbone_loss", "padded", "recompute"):
            model.pop(name)

    edit("config.json", older)(folder)
    for name in ("model.safetensors", "ema.safetensors"):
        tensors = {key.removeprefix("head.network."): value for key, value in load_file(folder / name).items()}
        scalars = {key: value.squeeze() for key, value in tensors.items() if key.endswith(".sharpness")}
        assert scalars
        save_file(tensors | scalars, folder / name)
    again = load(folder)
    assert again.model.config == replace(made[0].config, head=replace(made[0].config.head, samples=3))
    assert torch.equal(sample(again.model, again.encoder), sample(*made))
    edit("config.json", lambda config: config["model"].pop("flow_samples"))(folder)
    with pytest.raises(DataError, match="flow_samples"):
        load(folder)


def test_the_first_format_knew_fewer_settings_of_hugging_face_models():
    expert, norm = {"width": 16, "mlp": 32, "heads": None}, dataclasses.asdict(MEAN_STD)
    backbone = {"kind": "hf", "name": "some/model", "pretrained": True, "attention": "bidirectional", "layers": 2}
    backbone |= {"image_size": 64, "freeze_vision": True, "freeze_text": False, "text_suffix": "", "text_length": 48}
    old = {"backbone": backbone, "expert": expert, "horizon": 8, "flow_samples": 2, "insulate": False}
    old |= {"bodies": [], "cameras": ["primary"], "state_norm": dataclasses.asdict(STATE), "action_norm": norm}
    wanted = VlaConfig(
        HfConfig("some/model", attention="bidirectional", layers=2, image_size=64),
        ExpertConfig(width=16, mlp=32),
        horizon=8,
        head=FlowConfig(samples=2),
        cameras=("primary",),
    )
    assert VlaConfig.from_json(current_model(1, json.loads(json.dumps(old)))) == wanted


def test_nothing_is_pickled_and_nothing_overwritten(made: tuple[VlaModel, Encoder], folder: Path):
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    with pytest.raises(ConfigError, match="there already"):
        save(folder, *made)
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_run_stands_for_its_newest(folder: Path):
    (folder.parent / "last").symlink_to("checkpoint")
    assert resolve(folder.parent) == folder.resolve()
    with pytest.raises(DataError, match="last"):
        resolve(folder.parent / "nowhere")


def edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return do


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (cut("model.safetensors"), DataError, "model.safetensors"),
        (cut("ema.safetensors"), DataError, "ema.safetensors"),
        (cut("config.json"), DataError, "config.json"),
        (cut("tokenizer.json"), DataError, "tokenizer.json"),
        (lambda folder: (folder / "statistics.json").unlink(), DataError, "statistics.json"),
        (edit("config.json", lambda v: v.update(format=99)), DataError, "format"),
        (edit("config.json", lambda v: v["model"].pop("horizon")), ConfigError, "config.json.*horizon"),
        (edit("config.json", lambda v: v["model"]["expert"].update(norm="batch")), ConfigError, "config.json.*'batch'"),
        (edit("config.json", lambda v: v["model"]["expert"].update(state="suffix")), ConfigError, "'suffix'.*prefix"),
        (edit("config.json", lambda v: v["model"]["head"].update(kind="guess")), ConfigError, "guess"),
        (edit("config.json", lambda v: v["model"].update(horizon=9)), DataError, "places"),
        (edit("statistics.json", lambda v: v.pop("fake_arm")), StatisticsMissing, "fake_arm"),
        (edit("statistics.json", lambda v: v["fake_arm"].pop("dx")), StatisticsMissing, "dx"),
        (edit("statistics.json", lambda v: v["fake_arm"]["dx"].pop("std")), StatisticsMissing, "std"),
        (
            edit("embodiments.json", lambda v: v["fake_arm"]["spec"]["action"].update(rate=11.0)),
            DataError,
            "fingerprint",
        ),
        (edit("embodiments.json", lambda v: v["fake_arm"].pop("spec")), DataError, "spec"),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], object], error: type[VlaError], words: str):
    damage(folder)
    with pytest.raises(error, match=words):
        load(folder)
