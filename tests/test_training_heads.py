"""Every head through the same trainer, checkpoint and policy; a killed run goes on bit for bit with any of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla.errors import ConfigError, DataError, UnknownName
from vla.model.checkpoint import fingerprint, load
from vla.model.config import ExpertConfig, NanoConfig, VlaConfig, fit_to
from vla.model.encode import Encoder
from vla.model.head_config import FastConfig, FlowConfig
from vla.model.presets import PRESETS, preset, with_head
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import build
from vla.policies.vla_policy import Config
from vla.training.config import TrainConfig
from vla.training.fake import FakeWindows, fake_embodiment
from vla.training.fit_words import fit_words
from vla.training.loop import train

MODEL = VlaConfig(
    NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64),
    ExpertConfig(width=32, mlp=64),
    horizon=8,
    head=FlowConfig(samples=2),
)
SOURCE = FakeWindows(count=24)
SHORT = TrainConfig(steps=5, batch_size=8, warmup=2, save_every=2, threads=1, seed=7, device="cpu")
NAMES = ("flow", "insulated", "l1", "diffusion", "tokens", "fast")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def weights(out: Path) -> dict[str, bytes]:
    folder = (out / "last").resolve()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "training_state.json"}


@pytest.mark.parametrize("name", NAMES)
def test_training_resuming_and_acting(name: str, tmp_path: Path, cache: Path):
    model = with_head(MODEL, name)

    def run(out: Path, config: TrainConfig) -> None:
        train(config, model, SOURCE, SOURCE.statistics(), out, cache=cache, quiet=True, resume=True)

    run(tmp_path / "whole", SHORT)

    class Stopping(FakeWindows):
        def place(self, index: int):
            if index == 3 * SHORT.batch_size:
                raise KeyboardInterrupt
            return super().place(index)

    with pytest.raises(KeyboardInterrupt):  # after the checkpoint of step 2
        train(SHORT, model, Stopping(count=24), SOURCE.statistics(), tmp_path / "cut", cache=cache, quiet=True)
    assert load(tmp_path / "cut").path.name == "00000002"
    run(tmp_path / "cut", SHORT)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")

    for untrained in (False, True):
        policy = Config(tmp_path / "whole", untrained=untrained).make()
        answers = []
        for _ in range(2):
            policy.reset("Reach the red square.", seed=1)
            answers.append(policy.act(SOURCE[0].observation).actions)
        assert answers[0].shape == (8, 3) and np.array_equal(*answers)
    with pytest.raises(ConfigError, match="model config"):
        other = with_head(MODEL, "l1" if name != "l1" else "flow")
        train(SHORT, other, SOURCE, SOURCE.statistics(), tmp_path / "whole", cache=cache, quiet=True, resume=True)


def test_fast_words_are_fitted_to_the_data_and_kept_with_the_weights(tmp_path: Path, cache: Path):
    twin = replace(SOURCE, seed=3)
    found = []
    for place, source in enumerate((SOURCE, twin)):
        out = tmp_path / str(place)
        train(
            replace(SHORT, steps=1), with_head(MODEL, "fast"), source, source.statistics(), out, cache=cache, quiet=True
        )
        found.append(out)
    first, second = (load(out) for out in found)
    codecs = [checkpoint.model.fast.fitted for checkpoint in (first, second)]  # pyright: ignore[reportOptionalMemberAccess]
    assert codecs[0].to_json() != codecs[1].to_json()
    window = SOURCE[0]
    chunk = first.encoder.actions(0, window.actions)
    assert np.abs(codecs[0].decode(codecs[0].encode([chunk])[0], 3) - chunk).mean() < 0.05
    before = fingerprint(found[0])
    path = first.path / "fast.json"
    path.write_text(codecs[1].to_json())
    assert fingerprint(found[0]) != before
    path.write_text(codecs[1].to_json().replace('"horizon": 8', '"horizon": 9'))
    with pytest.raises(DataError, match="8 actions"):
        load(found[0])
    path.unlink()
    with pytest.raises(DataError, match="fast"):
        load(found[0])


def test_heads_differ_in_nothing_but_themselves():
    nano = preset("nano")
    for name in NAMES:
        model = with_head(nano, name)
        assert (model.backbone, model.expert, model.horizon) == (nano.backbone, nano.expert, nano.horizon)
        assert VlaConfig.from_json(model.to_json()) == model
    for own in PRESETS.values():
        assert with_head(own, "flow") == own
        assert all(with_head(with_head(own, "insulated"), name) == with_head(own, name) for name in ("l1", "fast"))
    insulated = with_head(nano, "insulated")
    assert insulated.insulate and isinstance(insulated.backbone_loss, FastConfig)
    with pytest.raises(UnknownName, match="diffusion"):
        with_head(nano, "difusion")


def test_two_embodiments_share_the_words(tmp_path: Path, cache: Path):
    """The trainer's data have one embodiment each; the policy is asked as both."""

    class Both(FakeWindows):
        @property
        def specs(self):
            return SOURCE.spec, fake_embodiment("twin")

    statistics = SOURCE.statistics() | {"twin": SOURCE.statistics()["fake_arm"]}
    for name in ("tokens", "fast"):
        train(SHORT, with_head(MODEL, name), Both(count=24), statistics, tmp_path / name, cache=cache, quiet=True)
        for body in ("fake_arm", "twin"):
            policy = Config(tmp_path / name, embodiment=body).make()
            policy.reset("Reach the red square.", seed=1)
            assert torch.isfinite(torch.from_numpy(policy.act(SOURCE[0].observation).actions)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_cameras_and_their_names_changes_nothing(name: str):
    """A spec that lists its cameras the other way round, and an observation that does: the same chunk, bit for bit."""
    spec = fake_embodiment(cameras=("front", "hand"))
    turned = replace(spec, cameras=spec.cameras[::-1])
    observation = FakeWindows(spec=spec)[0].observation
    other = replace(observation, images=dict(list(observation.images.items())[::-1]))
    chunks = []
    for own, seen in ((spec, observation), (turned, other)):
        model = build(fit_to(with_head(MODEL, name), (own,)), seed=1).eval()
        source = FakeWindows(spec=own)
        text = Text(word_tokenizer(["reach the red square"], 64), 40)
        encoder = Encoder(model.config, (own,), source.statistics(), text, 32)
        fit_words(model, encoder, source)
        chunks.append(model.sample(encoder.inputs(0, seen), generator=torch.Generator().manual_seed(0)))
        blind = replace(seen, images={**seen.images, "hand": 255 - seen.images["hand"]})
        assert not torch.equal(encoder.inputs(0, blind).images, encoder.inputs(0, seen).images)  # pyright: ignore
    assert torch.equal(*chunks)
