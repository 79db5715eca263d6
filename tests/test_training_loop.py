"""Training on a made-up task: it learns, a run that was stopped goes on, settings that do not fit are refused."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vla.errors import ConfigError, DataError, StatisticsMissing
from vla.experience import Place
from vla.model.checkpoint import load, trainable
from vla.model.config import ExpertConfig, NanoConfig, VlaConfig, fit_to
from vla.model.head_config import FlowConfig
from vla.model.vla_model import build
from vla.normalize import Statistics
from vla.training.checkpoint import saved
from vla.training.config import TrainConfig
from vla.training.fake import FakeWindows, fake_embodiment
from vla.training.journal import read_metrics
from vla.training.loop import Result, train
from vla.training.optimizer import learning_rate, make_optimizer, set_rate

MODEL = VlaConfig(
    NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64),
    ExpertConfig(width=32, mlp=64),
    horizon=8,
    head=FlowConfig(samples=2),
)
SOURCE = FakeWindows(count=24)
SHORT = TrainConfig(steps=8, batch_size=8, warmup=2, save_every=3, threads=1, seed=7, device="cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def run(out: Path, cache: Path, config: TrainConfig = SHORT, source: FakeWindows = SOURCE, **settings: Any) -> Result:
    return train(config, MODEL, source, source.statistics(), out, cache=cache, quiet=True, **settings)


def losses(out: Path) -> list[tuple[float, float, float]]:
    return [(row["step"], row["loss"], row["lr"]) for row in read_metrics(out / "metrics.jsonl")]


def weights(out: Path) -> dict[str, bytes]:
    folder = (out / "last").resolve()
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("whole")
    result = run(out, cache)
    assert result.finished and result.steps == 8
    return out


def test_a_run_leaves_what_it_promises(uninterrupted: Path):
    assert [row[0] for row in losses(uninterrupted)] == list(range(1, 9))
    assert [folder.name for folder in saved(uninterrupted)] == ["00000006", "00000008"]  # keep=2
    assert (uninterrupted / "last").readlink() == Path("checkpoints/00000008")
    assert list((uninterrupted / "tensorboard").iterdir())
    assert read_metrics(uninterrupted / "metrics.jsonl")[0]["samples_per_s"] > 0


class Stopping(FakeWindows):
    """Asks for a stop when a certain index is drawn, as Ctrl-C would."""

    def place(self, index: int) -> Place:
        if index == 4 * SHORT.batch_size:
            signal.raise_signal(signal.SIGINT)
        return super().place(index)


def test_ctrl_c_saves_and_the_run_goes_on_bit_for_bit(uninterrupted: Path, tmp_path: Path, cache: Path):
    result = run(tmp_path, cache, replace(SHORT, steps=8), Stopping(count=24))
    assert not result.finished and 0 < result.steps < 8
    handler = signal.getsignal(signal.SIGINT)
    assert handler is signal.default_int_handler  # the usual one is back
    assert run(tmp_path, cache, resume=True).finished
    assert losses(tmp_path) == losses(uninterrupted)
    assert weights(tmp_path) == weights(uninterrupted)


def test_a_finished_run_resumes_to_nothing(uninterrupted: Path, cache: Path):
    before = weights(uninterrupted)
    result = run(uninterrupted, cache, resume=True)
    assert result.finished and result.steps == 8 and weights(uninterrupted) == before


def test_a_run_is_not_overwritten_nor_resumed_as_another(uninterrupted: Path, cache: Path):
    with pytest.raises(ConfigError, match="resume"):
        run(uninterrupted, cache)
    with pytest.raises(ConfigError, match="batch_size"):
        run(uninterrupted, cache, replace(SHORT, batch_size=4), resume=True)
    with pytest.raises(ConfigError, match="statistics"):
        run(uninterrupted, cache, source=FakeWindows(count=24, seed=1), resume=True)
    with pytest.raises(ConfigError, match="embodiments"):
        run(uninterrupted, cache, source=FakeWindows(count=24, spec=fake_embodiment(size=48)), resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path, cache: Path):
    config = replace(SHORT, steps=3)
    run(tmp_path, cache, config)
    path = tmp_path / "last" / "training_state.json"
    path.write_text("{}")
    with pytest.raises(DataError, match="training_state"):
        run(tmp_path, cache, config, resume=True)
    path.write_text(json.dumps({"step": 3, "minutes": 0.0, "config": {}})[:-9])
    with pytest.raises(DataError, match="training_state"):
        run(tmp_path, cache, config, resume=True)


def test_missing_statistics_are_an_error_before_anything_is_written(tmp_path: Path, cache: Path):
    channels = dict(SOURCE.statistics()["fake_arm"].channels)
    del channels["dy"]
    with pytest.raises(StatisticsMissing, match="dy"):
        train(SHORT, MODEL, SOURCE, {"fake_arm": Statistics(channels)}, tmp_path / "run", cache=cache, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_leaves_the_last_whole_checkpoint(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path, cache, replace(SHORT, minutes=0.001, steps=None))
    last, whole = (tmp_path / "last").resolve(), weights(tmp_path)

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vla.model.checkpoint.save_file", full)
    with pytest.raises(DataError, match="No space left"):
        run(tmp_path, cache, replace(SHORT, minutes=0.01, steps=None), resume=True)
    assert (tmp_path / "last").resolve() == last and weights(tmp_path) == whole
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_minutes_are_kept_over_a_resume(tmp_path: Path, cache: Path):
    config = TrainConfig(minutes=0.02, batch_size=8, save_every=2, threads=1, device="cpu")
    first = run(tmp_path, cache, config)
    assert first.finished and first.minutes >= 0.02
    assert run(tmp_path, cache, config, resume=True).steps == first.steps
    longer = run(tmp_path, cache, replace(config, minutes=0.04), resume=True)
    assert longer.minutes >= 0.04 and longer.steps > first.steps


def test_parts_of_a_model_have_their_own_learning_rate():
    model = build(fit_to(MODEL, SOURCE.specs))
    optimizer = make_optimizer(model, replace(SHORT, backbone_rate=0.25))
    set_rate(optimizer, 0.1)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    names = trainable(model)
    assert len(rates) == len(names)
    for name, value in names.items():
        assert rates[id(value)] == pytest.approx(0.025 if name.startswith("backbone.") else 0.1)


def test_with_bf16_weights_moments_and_averages_stay_float32(uninterrupted: Path, tmp_path: Path, cache: Path):
    run(tmp_path, cache, replace(SHORT, precision="bf16"))
    for name in ("model", "ema", "optimizer"):
        tensors = load_file(tmp_path / "last" / f"{name}.safetensors")
        assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float32}
    exact, rounded = ([row[1] for row in losses(out)] for out in (uninterrupted, tmp_path))
    assert exact != rounded and rounded == pytest.approx(exact, rel=0.03)


def test_the_learning_rate_warms_up_and_falls():
    config = TrainConfig(steps=1000, warmup=100, learning_rate=1.0, final_rate=0.1)
    rates = [learning_rate(config, step, step / 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01, rel=0.01) and np.argmax(rates) in range(90, 101)
    assert rates[-1] == pytest.approx(0.1, abs=0.001) and max(rates) < 1.0


@pytest.mark.parametrize("wrong", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"steps": 1, "ema": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ConfigError):
        TrainConfig(**wrong)


def test_windows_of_another_horizon_are_refused(tmp_path: Path, cache: Path):
    with pytest.raises(ConfigError, match="horizon"):
        run(tmp_path, cache, source=FakeWindows(count=8, horizon=5))


def test_it_learns_to_look_and_to_listen(tmp_path: Path):
    """Errors on windows never trained on, with the truth, with blank pictures, and with the other colour's name."""
    source = FakeWindows(count=1200)
    config = TrainConfig(steps=300, batch_size=48, learning_rate=4e-3, warmup=20, versions=0, shift=0, ema=0.98)
    run(tmp_path, tmp_path / "features", config, source)
    checkpoint = load(tmp_path)
    unseen = FakeWindows(count=100, seed=99)

    def error(swap: bool = False, blank: bool = False) -> float:
        found = []
        for number in range(60):
            window = unseen.window(Place(0, 0, number))
            observation = window.observation
            if swap:
                words = {"red": "blue", "blue": "red"}
                other = " ".join(words.get(word, word) for word in observation.instruction.split())
                observation = replace(observation, instruction=other)
            if blank:
                grey = {name: np.full_like(image, 110) for name, image in observation.images.items()}
                observation = replace(observation, images=grey)
            chance = torch.Generator().manual_seed(number)
            actions = checkpoint.model.sample(checkpoint.encoder.inputs(0, observation), 5, chance)[0].numpy()
            found.append(np.abs(checkpoint.encoder.decode(0, actions) - window.actions)[:, :2].sum(0).mean())
        return float(np.mean(found))

    truth = error()
    assert truth < 0.6 * error(blank=True)
    assert truth < 0.6 * error(swap=True)
