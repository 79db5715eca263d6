"""A checkpoint as a policy: its answers follow from the seed, and what does not fit is an error."""

from dataclasses import replace
from pathlib import Path

import lerobot_policies as small
import numpy as np
import pytest
import torch

from vla.asynchronous import ContinuingPolicy
from vla.errors import ConfigError, DataError, PolicyFault, UnknownName
from vla.experience import ActionChunk, Observation
from vla.model.checkpoint import save
from vla.model.config import ExpertConfig, NanoConfig, VlaConfig, fit_to
from vla.model.encode import Encoder
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import build
from vla.policies.vla_policy import Config, VlaPolicy
from vla.protocols import BatchPolicy, Policy, Query
from vla.training.fake import FakeWindows, fake_embodiment

NANO = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64)
ARM, TWIN = FakeWindows(count=8), FakeWindows(count=8, spec=fake_embodiment("twin", cameras=("front", "hand")))
OBSERVATION = ARM[0].observation


def write(folder: Path, *sources: FakeWindows) -> Path:
    specs = [source.spec for source in sources]
    statistics = {name: value for source in sources for name, value in source.statistics().items()}
    config = fit_to(VlaConfig(NANO, ExpertConfig(width=16, mlp=32), horizon=8), specs)
    model = build(config, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    save(folder, model, Encoder(config, specs, statistics, Text(word_tokenizer(["reach red"], 64), 40), 32))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("run") / "one", ARM)


@pytest.fixture
def policy(checkpoint: Path) -> VlaPolicy:
    made = Config(checkpoint, ode_steps=3).make()
    made.reset(OBSERVATION.instruction, seed=1)
    return made


def test_it_is_a_policy_in_raw_units_of_its_spec(policy: VlaPolicy):
    assert isinstance(policy, Policy) and policy.spec == ARM.spec
    chunk = policy.act(replace(OBSERVATION, time=2.5))
    assert chunk.actions.shape == (8, 3) and chunk.actions.dtype == np.float32
    assert chunk.time == 2.5 and chunk.dt == pytest.approx(0.1)
    assert ((chunk.actions[:, 2] >= 0) & (chunk.actions[:, 2] <= 1)).all()


def test_the_seed_and_the_count_decide_the_noise(policy: VlaPolicy):
    first = [policy.act(OBSERVATION).actions for _ in range(2)]
    policy.reset(OBSERVATION.instruction, seed=1)
    second = [policy.act(OBSERVATION).actions for _ in range(2)]
    policy.reset(OBSERVATION.instruction, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], policy.act(OBSERVATION).actions)


def test_the_instruction_of_the_reset_stands_in_for_none(policy: VlaPolicy):
    asked = policy.act(OBSERVATION).actions
    policy.reset(OBSERVATION.instruction, seed=1)
    assert np.array_equal(policy.act(replace(OBSERVATION, instruction="")).actions, asked)


def test_a_chunk_goes_on_from_what_is_planned(policy: VlaPolicy):
    assert isinstance(policy, ContinuingPolicy) and policy.continues
    first = policy.act(OBSERVATION).actions
    policy.reset(OBSERVATION.instruction, seed=3)
    free = policy.act(OBSERVATION).actions
    policy.reset(OBSERVATION.instruction, seed=3)
    bound = policy.act_continuing(OBSERVATION, first[2:], 3).actions
    spread = np.abs(free - bound).mean()
    assert np.abs(bound[:3] - first[2:5]).mean() < 0.6 * np.abs(free[:3] - first[2:5]).mean() and spread > 0
    policy.reset(OBSERVATION.instruction, seed=3)
    assert np.array_equal(policy.act_continuing(OBSERVATION, first[2:], 3).actions, bound)
    assert bound.shape == first.shape and all(parameter.grad is None for parameter in policy.model.parameters())


def test_half_precision_is_the_same_policy_but_for_rounding(tmp_path: Path):
    whole = small.make(small.model_config(small.tokenizer_folder(tmp_path / "tokenizer")))
    save(tmp_path / "pi0", whole.model, whole.encoder)
    chance = np.random.default_rng(0)
    images = {
        camera.name: chance.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for camera in small.ARM.cameras
    }
    seen = Observation(images, np.zeros(small.STATE, np.float32), "pick up the bowl", 0.0)
    chunks = {}
    for precision in ("fp32", "bf16"):
        policy = Config(tmp_path / "pi0", precision=precision).make()
        policy.reset(seen.instruction, seed=1)
        chunks[precision] = policy.act(seen).actions
        assert np.isfinite(policy.act_continuing(seen, chunks[precision][1:], 1).actions).all()
        many = policy.act_many([Query(seen, 1, 0)], 2)[0]
        assert isinstance(many, ActionChunk) and np.abs(many.actions - chunks[precision]).max() < 0.1
    difference = np.abs(chunks["fp32"] - chunks["bf16"]).max()
    assert 0 < difference < 0.05 * np.abs(chunks["fp32"]).max()


def test_half_precision_is_for_flows_on_a_hugging_face_backbone(checkpoint: Path):
    with pytest.raises(ConfigError, match="bf16"):
        Config(checkpoint, precision="bf16").make()


@pytest.mark.parametrize("device", ["mps", "gpu", "cuda:", "cuda:one", "cuda:99"])
def test_a_device_that_is_not_there_is_named(checkpoint: Path, device: str):
    with pytest.raises(ConfigError, match=f"device '{device}'"):
        Config(checkpoint, device=device).make()


def test_blank_images_hide_the_pictures(checkpoint: Path):
    other = replace(OBSERVATION, images={"front": 255 - OBSERVATION.images["front"]})
    for blank in (False, True):
        answers = []
        for observation in (OBSERVATION, other):
            policy = Config(checkpoint, ode_steps=2, blank_images=blank).make()
            policy.reset("reach", seed=0)
            answers.append(policy.act(observation).actions)
        assert np.array_equal(*answers) == blank


def test_untrained_is_the_same_network_with_fresh_weights(checkpoint: Path):
    trained, fresh = Config(checkpoint).make(), Config(checkpoint, untrained=True).make()
    assert fresh.spec == trained.spec and fresh.model.config == trained.model.config
    places = [item.model.get_parameter("head.network.places") for item in (fresh, trained)]
    assert not torch.equal(*places)
    vision = [item.model.backbone.frozen_vision for item in (trained, fresh)]
    assert torch.equal(vision[0].stem.weight, vision[1].stem.weight)  # pyright: ignore


def test_one_of_several_embodiments_must_be_named(tmp_path: Path):
    path = write(tmp_path / "two", ARM, TWIN)
    with pytest.raises(ConfigError, match="fake_arm, twin"):
        Config(path).make()
    with pytest.raises(UnknownName, match="twin"):
        Config(path, embodiment="twon").make()
    policy = Config(path, embodiment="twin", ode_steps=2).make()
    policy.reset("reach", seed=0)
    assert policy.spec.name == "twin"
    policy.act(TWIN[0].observation)
    with pytest.raises(PolicyFault, match="hand"):
        policy.act(OBSERVATION)


def test_observations_that_do_not_fit_are_faults(policy: VlaPolicy):
    with pytest.raises(PolicyFault, match="state"):
        policy.act(replace(OBSERVATION, state=np.zeros(3, np.float32)))
    with torch.no_grad():
        policy.model.get_parameter("head.network.places").fill_(torch.nan)
    with pytest.raises(PolicyFault, match="nan"):
        policy.act(OBSERVATION)


def test_what_is_not_a_checkpoint_is_one_clear_error(tmp_path: Path, checkpoint: Path):
    with pytest.raises(DataError, match="checkpoint"):
        Config(tmp_path).make()
    with pytest.raises(ConfigError, match="ode_steps"):
        Config(checkpoint, ode_steps=0).make()


def asked(seed: int, number: int = 0, text: str = "reach red") -> Query:
    rng = np.random.default_rng((seed, number))
    images = {name: rng.integers(0, 255, image.shape, dtype=np.uint8) for name, image in OBSERVATION.images.items()}
    state = rng.standard_normal(OBSERVATION.state.shape).astype(np.float32)
    return Query(replace(OBSERVATION, images=images, state=state, instruction=text, time=float(seed)), seed, number)


QUERIES = [asked(seed, number, text) for seed in range(4) for number, text in ((0, "reach red"), (3, "red"))]


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_a_batched_answer_follows_from_the_query_and_the_size_bit_for_bit(policy: VlaPolicy, size: int):
    """Whatever else is asked, however much, in whatever place, in whatever words."""
    alone = [policy.act_many([query], size)[0] for query in QUERIES]
    rng = np.random.default_rng(size)
    for count in range(2, size + 1):
        for _ in range(3):
            chosen = rng.permutation(len(QUERIES))[:count]
            for place, answer in zip(chosen, policy.act_many([QUERIES[p] for p in chosen], size), strict=True):
                expected = alone[place]
                assert isinstance(answer, ActionChunk) and isinstance(expected, ActionChunk)
                assert np.array_equal(answer.actions, expected.actions) and answer.time == expected.time


def test_a_batched_answer_is_the_single_one_but_for_rounding(policy: VlaPolicy):
    assert isinstance(policy, BatchPolicy)
    for query in QUERIES[:3]:
        policy.reset(query.observation.instruction, seed=query.seed)
        for _ in range(query.number + 1):
            single = policy.act(query.observation)
        (batched,) = policy.act_many([query], 4)
        assert isinstance(batched, ActionChunk)
        np.testing.assert_allclose(batched.actions, single.actions, atol=2e-5)  # pyright: ignore


def test_what_is_wrong_with_one_of_a_batch_is_said_of_it_alone(policy: VlaPolicy):
    bad = replace(QUERIES[1], observation=replace(QUERIES[1].observation, state=np.zeros(3, np.float32)))
    first, second = policy.act_many([bad, QUERIES[0]], 2)
    (alone,) = policy.act_many([QUERIES[0]], 2)
    assert isinstance(first, PolicyFault) and isinstance(second, ActionChunk) and isinstance(alone, ActionChunk)
    assert np.array_equal(second.actions, alone.actions)
    assert isinstance(policy.act_many([bad], 2)[0], PolicyFault)
    with pytest.raises(ConfigError, match="do not fit into a batch of 1"):
        policy.act_many(QUERIES[:2], 1)
    with pytest.raises(ConfigError, match="expected 1 to 40"):
        policy.act_many([asked(0, text=" ".join(["red"] * 40))], 2)


def test_the_longest_instruction_fits_into_a_batch_too(policy: VlaPolicy):
    """39 words behind the start token; and the same question twice is still two rows."""
    query = asked(0, text=" ".join(["red"] * 39))
    policy.reset(query.observation.instruction, seed=query.seed)
    single = policy.act(query.observation)
    answers = policy.act_many([query, QUERIES[0], query], 4)
    (alone,) = policy.act_many([query], 4)
    for answer in (answers[0], answers[2], alone):
        assert isinstance(answer, ActionChunk)
        np.testing.assert_allclose(answer.actions, single.actions, atol=2e-5)
    assert np.array_equal(answers[0].actions, alone.actions)  # pyright: ignore
