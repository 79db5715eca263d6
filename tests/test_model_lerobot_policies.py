"""Our modules with LeRobot's weights against LeRobot's own policies: same loss, same chunks, there and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_policies import (
    ACTION,
    ARM,
    HORIZON,
    SIDE,
    SMOLVLA_SIDE,
    STATE,
    Example,
    example,
    make_policy,
    save_policy,
    small,
    smolvlm_folder,
    tokenizer_folder,
)
from torch import Tensor

from vla.experience import Observation
from vla.model.batch import Batch
from vla.model.checkpoint import Checkpoint
from vla.model.lerobot import read_lerobot, write_lerobot
from vla.model.vla_model import VlaModel

FAMILIES = ("pi0", "pi05", "smolvla")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lerobot")


@pytest.fixture(scope="module", autouse=True)
def _small(folder: Path):
    with small(tokenizer_folder(folder / "tokenizer")):
        yield


def imported(path: Path, folder: Path, family: str, **settings: Any) -> Checkpoint:
    backbone = folder / ("smolvlm" if family == "smolvla" else "tokenizer")
    return read_lerobot(path, ARM, backbone=str(backbone), **settings)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, folder: Path) -> tuple[Any, Checkpoint]:
    """A policy of theirs and the same as ours."""
    policy = make_policy(request.param, smolvlm_folder(folder / "smolvlm"))
    save_policy(policy, folder / request.param)
    return policy, imported(folder / request.param, folder, request.param)


def side(policy: Any) -> int:
    return SMOLVLA_SIDE if policy.name == "smolvla" else SIDE


def their_loss(policy: Any, given: Example) -> Tensor:
    """Their policies draw noise and time themselves; SmolVLA's can be given them."""
    policy.model.sample_noise = lambda *_: given.noise
    policy.model.sample_time = lambda *_: given.time
    return policy.forward(given.batch())[0]


def their_chunk(policy: Any, given: Example) -> Tensor:
    batch = {name: value for name, value in given.batch().items() if name != "action"}
    return policy.predict_action_chunk(batch, noise=given.noise)


def our_loss(model: VlaModel, given: Example) -> Tensor:
    actions = torch.nn.functional.pad(given.actions, (0, 32 - ACTION))
    valid = torch.ones(actions.shape[:2], dtype=torch.bool)
    return model.loss(Batch(given.inputs(), actions, valid), given.noise, given.time)


def our_chunk(model: VlaModel, given: Example) -> Tensor:
    return model.sample(given.inputs(), noise=given.noise)[..., :ACTION]


def assert_same(policy: Any, model: VlaModel, given: Example) -> None:
    torch.testing.assert_close(our_loss(model, given), their_loss(policy, given), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(our_chunk(model, given), their_chunk(policy, given), atol=1e-4, rtol=1e-4)


def test_same_loss_and_same_chunk(pair: tuple[Any, Checkpoint]):
    policy, checkpoint = pair
    assert_same(policy, checkpoint.model, example(side(policy)))


def test_same_gradients(pair: tuple[Any, Checkpoint]):
    """Of a part that only the cache connects with the loss, and of the way in."""
    policy, checkpoint = pair
    given, model = example(side(policy), seed=3), checkpoint.model
    policy.zero_grad()
    model.zero_grad()
    their_loss(policy, given).backward()
    our_loss(model, given).backward()
    theirs = {name: value.grad for name, value in policy.named_parameters()}
    ours = {name: value.grad for name, value in model.named_parameters()}
    tail = "layers.0.self_attn.v_proj.weight"
    backbone = f"{'text_model' if policy.name == 'smolvla' else 'language_model'}.{tail}"
    first = next(value for name, value in ours.items() if name.endswith(backbone) and value is not None)
    second = next(value for name, value in theirs.items() if name.endswith(backbone) and value is not None)
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    way_in, theirs_in = ours["head.network.action_in.weight"], theirs["model.action_in_proj.weight"]
    assert way_in is not None and theirs_in is not None and first.abs().max() > 1e-4
    torch.testing.assert_close(way_in[0].t(), theirs_in, atol=1e-4, rtol=1e-4)
    policy.zero_grad()
    model.zero_grad()


def test_missing_cameras_and_padded_prompts(pair: tuple[Any, Checkpoint]):
    """LeRobot appends -1 for a camera that a batch lacks; ours is masked where it stands, whatever it holds."""
    policy, checkpoint = pair
    given = example(side(policy), 3, seed=1, padding=9)
    for missing in (0, 1):
        mask = torch.ones(3, 2, dtype=torch.bool)
        mask[:, missing] = False
        assert_same(policy, checkpoint.model, replace(given, image_mask=mask))


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_each_example_of_a_batch_may_lack_others(pair: tuple[Any, Checkpoint], fill: float):
    """As their networks take pictures and masks: openpi fills what is missing with 0, LeRobot with -1."""
    policy, checkpoint = pair
    given = replace(
        example(side(policy), 3, seed=2), image_mask=torch.tensor([[True, True], [False, True], [True, False]])
    )
    pixels = given.images.permute(1, 0, 4, 2, 3).float() / 127.5 - 1
    masks = list(given.image_mask.t())
    images = [torch.where(mask[:, None, None, None], image, fill) for image, mask in zip(pixels, masks, strict=True)]
    inputs = given.inputs()
    state = {} if policy.name == "pi05" else {"state": inputs.state}
    words = (given.tokens, given.token_mask)
    with torch.no_grad():
        theirs = policy.model.sample_actions(images, masks, *words, **state, noise=given.noise)
    torch.testing.assert_close(our_chunk(checkpoint.model, given), theirs[..., :ACTION], atol=1e-4, rtol=1e-4)


def test_there_and_back(pair: tuple[Any, Checkpoint], folder: Path, tmp_path: Path):
    policy, checkpoint = pair
    write_lerobot(checkpoint, tmp_path / "back")
    again = type(policy).from_pretrained(tmp_path / "back").eval()
    if policy.name != "smolvla":
        assert again.config.image_resolution == policy.config.image_resolution
    assert again.config.input_features == policy.config.input_features
    unused = ("lm_head.weight", "gemma_expert.model.norm.dense")
    for (name, one), two in zip(policy.state_dict().items(), again.state_dict().values(), strict=True):
        assert any(part in name for part in unused) or torch.equal(one, two), name
    assert_same(again, checkpoint.model, example(side(policy)))
    twice = imported(tmp_path / "back", folder, policy.name)
    assert twice.model.config == checkpoint.model.config
    for (name, one), two in zip(checkpoint.model.state_dict().items(), twice.model.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert twice.encoder.statistics == checkpoint.encoder.statistics


def observation(seed: int = 0) -> Observation:
    chance = np.random.default_rng(seed)
    images = {
        camera.name: chance.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for camera in ARM.cameras[:2]
    }
    return Observation(images, chance.normal(scale=0.6, size=STATE).astype(np.float32), "pick_up the black bowl ", 0.0)


@pytest.mark.parametrize("written", [False, True], ids=["theirs", "written by us"])
def test_the_whole_way_from_raw_numbers_to_raw_actions(
    pair: tuple[Any, Checkpoint], folder: Path, tmp_path: Path, written: bool
):
    """Pictures fitted, prompt, normalisation and its inverse: their pipelines around their policy, our encoder."""
    from lerobot.policies.factory import make_pre_post_processors

    policy, checkpoint = pair
    path = folder / policy.name
    if written:
        path = tmp_path / "back"
        write_lerobot(checkpoint, path)
    before, after = make_pre_post_processors(policy.config, str(path))
    seen, encoder = observation(), checkpoint.encoder
    raw = {
        f"observation.images.{name}": torch.from_numpy(image).permute(2, 0, 1) / 255
        for name, image in seen.images.items()
    }
    batch = before(raw | {"observation.state": torch.from_numpy(seen.state), "task": seen.instruction})
    inputs, noise = encoder.inputs(0, seen), torch.randn(1, HORIZON, 32, generator=torch.Generator().manual_seed(5))
    mask = batch["observation.language.attention_mask"][0]
    assert batch["observation.language.tokens"][0][mask].tolist() == inputs.tokens[0].tolist()
    if policy.name == "pi05":  # the state's bins are words that the tokenizer knows
        assert encoder.text.tokenizer.token_to_id("<unk>") not in inputs.tokens
    assert inputs.images is not None
    pixels, _ = policy.prepare_images(batch) if policy.name == "smolvla" else policy._preprocess_images(batch)
    for place, name in enumerate(seen.images):
        ours = inputs.images[0, place].permute(2, 0, 1) / 255
        assert (2 * ours - 1 - pixels[place][0]).abs().max() <= 1.001 / 255  # rounded to whole numbers
        batch[f"observation.images.{name}"] = ours[None]
    theirs = after(policy.predict_action_chunk(batch, noise=noise))[0].numpy()
    ours = encoder.decode(0, checkpoint.model.sample(inputs, noise=noise)[0].numpy())
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cameras", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_sweep(family: str, cameras: int, batch: int, folder: Path, tmp_path: Path):
    """Batch sizes, image counts, masks, prompts and their padding, chunk lengths of sampling."""
    policy = make_policy(family, smolvlm_folder(folder / "smolvlm"), cameras)
    save_policy(policy, tmp_path / "policy")
    model = imported(tmp_path / "policy", folder, family).model
    write_lerobot(imported(tmp_path / "policy", folder, family), tmp_path / "back")
    again = type(policy).from_pretrained(tmp_path / "back").eval()
    chance = torch.Generator().manual_seed(batch + 10 * cameras)
    for seed in range(4):
        words, padding = 3 + 4 * seed, int(torch.randint(0, 12, (), generator=chance))
        given = example(side(policy), batch, cameras, seed=seed, words=words, padding=padding)
        present = torch.rand(cameras, generator=chance) < 0.6
        present[seed % cameras] = True
        given = replace(given, image_mask=present.expand(batch, -1).clone())
        assert_same(policy, model, given)
        assert_same(again, model, given)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"attention_mode": "self_attn"}, {"self_attn_every_n_layers": 4}, {"num_vlm_layers": 6}]
)
def test_other_patterns_of_smolvla(settings: dict[str, Any], folder: Path, tmp_path: Path):
    policy = make_policy("smolvla", smolvlm_folder(folder / "smolvlm"), **settings)
    save_policy(policy, tmp_path / "policy")
    assert_same(policy, imported(tmp_path / "policy", folder, "smolvla").model, example(SMOLVLA_SIDE))
