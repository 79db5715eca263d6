"""Two embodiments in one run, with cached features and with pictures decoded as they are needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, SmolVLMConfig

from vla.embodiment import ActionSpec, EmbodimentSpec
from vla.experience import Place, Window
from vla.model.checkpoint import load
from vla.model.config import ExpertConfig, HfConfig, NanoConfig, VlaConfig
from vla.model.text import word_tokenizer
from vla.training.config import TrainConfig
from vla.training.fake import FakeWindows, fake_embodiment
from vla.training.journal import read_metrics
from vla.training.loop import train
from vla.window_batch import WindowBatch, batched


def shorter(spec: EmbodimentSpec) -> EmbodimentSpec:
    """Without the gripper and the state's second channel."""
    action = ActionSpec(spec.action.channels[:2], "delta", "base", None, None, 5.0)
    return replace(spec, state=spec.state[:1], action=action)


class Two:
    """Every third window is of a second arm, which has fewer channels and one more camera."""

    def __init__(self):
        self.arms = (FakeWindows(count=12), FakeWindows(count=6, spec=fake_embodiment("twin", cameras=("a", "b"))))
        self.specs = (self.arms[0].spec, shorter(self.arms[1].spec))

    def place(self, index: int) -> Place:
        arm = int(index % 3 == 2)
        return self.arms[arm].place(index // 3)._replace(source=arm)

    def frames(self) -> list[Place]:
        return [place._replace(source=arm) for arm, source in enumerate(self.arms) for place in source.frames()]

    def window(self, place: Place, *, images: bool = True) -> Window:
        window = self.arms[place.source].window(place, images=images)
        if place.source:
            observation = replace(window.observation, state=window.observation.state[:1])
            window = replace(window, spec=self.specs[1], observation=observation, actions=window.actions[:, :2])
        return replace(window, origin=place)

    def __getitem__(self, index: int) -> Window:
        return self.window(self.place(index))

    def batch(self, indices: Sequence[int]) -> list[WindowBatch]:
        return batched([self[index] for index in indices])

    def statistics(self) -> dict[str, Any]:
        return {name: value for arm in self.arms for name, value in arm.statistics().items()}


NANO = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64)
TRAIN = TrainConfig(steps=6, batch_size=6, warmup=2, save_every=2, keep=9, threads=1, device="cpu")


@pytest.fixture(scope="module")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> HfConfig:
    make: Any = SmolVLMConfig
    vision = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    text = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    config = make(
        vision_config={**vision, "image_size": 32, "patch_size": 8},
        text_config={**text, "model_type": "llama", "vocab_size": 60, "pad_token_id": 0},
        scale_factor=2,
        image_token_id=59,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("vlm")
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(word_tokenizer(["Reach the red square.", "blue"], 50).to_str())
    return HfConfig(str(folder))


@pytest.mark.parametrize("kind", ["cached", "live"])
def test_it_trains_resumes_bit_for_bit_and_acts_for_both(kind: str, tmp_path: Path, tiny_vlm: HfConfig):
    source = Two()
    config = VlaConfig(NANO if kind == "cached" else tiny_vlm, ExpertConfig(width=16, mlp=32), horizon=8)

    def run(out: Path, **settings: Any) -> list[float]:
        train(TRAIN, config, source, source.statistics(), out, cache=tmp_path / "features", quiet=True, **settings)
        return [row["loss"] for row in read_metrics(out / "metrics.jsonl")]

    whole = run(tmp_path / "run")
    (tmp_path / "run" / "last").unlink()
    (tmp_path / "run" / "last").symlink_to("checkpoints/00000002")
    for later in ("00000004", "00000006"):
        (tmp_path / "run" / "checkpoints" / later).rename(tmp_path / later)
    assert run(tmp_path / "run", resume=True) == whole
    after, before = (load(path) for path in (tmp_path / "run", tmp_path / "00000006"))
    assert all(torch.equal(a, b) for a, b in zip(after.model.parameters(), before.model.parameters(), strict=True))
    assert after.model.config.cameras == ("primary", "wrist")
    for body, window in enumerate((source[0], source[2])):
        inputs = after.encoder.inputs(body, window.observation)
        assert inputs.image_mask.tolist() == [[True, bool(body)]]
        actions = after.encoder.decode(body, after.model.sample(inputs, 2)[0].numpy())
        assert actions.shape == window.actions.shape and np.isfinite(actions).all()
