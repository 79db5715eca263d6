"""What every head must do: fit a batch, ignore padding, keep embodiments apart, follow its seed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.errors import ConfigError
from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.model.config import BodyShape, ExpertConfig, NanoConfig, VlaConfig
from vla.model.fast import FastCodec
from vla.model.head import Chance
from vla.model.head_config import (
    BOUNDED,
    MEAN_STD,
    DiffusionConfig,
    FastConfig,
    FlowConfig,
    HeadConfig,
    L1Config,
    TokensConfig,
)
from vla.model.noise import ExampleNoise
from vla.model.vla_model import HEADS, VlaModel, build

NANO = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64)
FAST = FastConfig(vocabulary=128, scale=20.0)
KINDS: dict[str, HeadConfig] = {
    "flow": FlowConfig(samples=4),
    "l1": L1Config(),
    "diffusion": DiffusionConfig(samples=8),
    "tokens": TokensConfig(),
    "fast": FAST,
}
HORIZON, SIZES = 6, (4, 2)
EVERY = pytest.mark.parametrize("kind", KINDS)


def config(kind: str, **changes: Any) -> VlaConfig:
    return VlaConfig(
        NANO,
        ExpertConfig(width=32, mlp=64),
        HORIZON,
        KINDS[kind],
        bodies=(BodyShape("long", 5, 4), BodyShape("short", 3, 2)),
        cameras=("primary", "wrist"),
        **changes,
    )


def batch(bodies: tuple[int, ...] = (0, 1, 0, 1), seed: int = 0) -> Batch:
    """Smooth chunks within -1..1, both cameras there."""
    chance, size = torch.Generator().manual_seed(seed), len(bodies)
    turns = torch.linspace(0, 3, HORIZON)[:, None] + 6 * torch.rand(size, 1, 4, generator=chance)
    inputs = Inputs(
        torch.randint(0, 256, (size, 2, 32, 32, 3), dtype=torch.uint8, generator=chance),
        None,
        torch.ones(size, 2, dtype=torch.bool),
        torch.randint(3, 64, (size, 4), generator=chance),
        torch.ones(size, 4, dtype=torch.bool),
        torch.randn(size, 5, generator=chance),
        torch.tensor(bodies),
    )
    return Batch(inputs, 0.9 * turns.sin(), torch.ones(size, HORIZON, dtype=torch.bool))


def real(examples: Batch) -> Tensor:
    sizes = torch.tensor(SIZES)[examples.inputs.embodiment]
    return (torch.arange(4) < sizes[:, None])[:, None].expand_as(examples.actions)


def make(kind: str, **changes: Any) -> VlaModel:
    """With every weight moved: what starts at zero can leak nothing."""
    model, chance = build(config(kind, **changes)), torch.Generator().manual_seed(5)
    fitted(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return model.eval()


def fitted(model: VlaModel) -> None:
    if model.fast is not None:
        chunks = [batch(seed=seed).actions[0].numpy() for seed in range(20)]
        model.fast.codec = FastCodec.fit(chunks, horizon=HORIZON, scale=FAST.scale, vocabulary=FAST.vocabulary)


def loss(model: VlaModel, examples: Batch) -> Tensor:
    return model.loss(examples, generator=torch.Generator().manual_seed(1))


def sample(model: VlaModel, inputs: Inputs) -> Tensor:
    return model.sample(inputs, generator=torch.Generator().manual_seed(1))


def test_every_head_is_tested_here():
    assert KINDS.keys() == HEADS.keys()


@EVERY
def test_overfitting_one_batch_drives_the_action_error_near_zero(kind: str):
    model, examples = build(config(kind)), batch()
    fitted(model)
    assert examples.inputs.images is not None
    maps = model.backbone.features(examples.inputs.images.flatten(0, 1))
    features = tuple(item.unflatten(0, (4, 2)) for item in maps)
    examples = replace(examples, inputs=replace(examples.inputs, images=None, features=features))
    steps = {"flow": 200, "diffusion": 300}.get(kind, 120)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    chance = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(examples, generator=chance).backward()
        optimizer.step()
        schedule.step()
    error = (model.eval().sample(examples.inputs, generator=chance) - examples.actions).abs()[real(examples)].mean()
    assert error < {"l1": 0.02, "tokens": 0.01, "fast": 0.02}.get(kind, 0.08)


@EVERY
def test_a_seed_decides_loss_and_samples(kind: str):
    first, second = make(kind), make(kind)
    assert loss(first, batch()) == loss(second, batch())
    assert torch.equal(sample(first, batch().inputs), sample(second, batch().inputs))


@EVERY
def test_numbers_beyond_a_bodys_channels_never_matter(kind: str):
    model, examples = make(kind), batch()
    actions = torch.where(real(examples), examples.actions, torch.nan)
    assert loss(model, examples) == loss(model, replace(examples, actions=actions))


@EVERY
def test_steps_past_the_end_never_matter(kind: str):
    model, examples = make(kind), batch()
    valid = examples.valid.clone()
    valid[:2, 4:] = False
    other = examples.actions.clone()
    other[:2, 4:] = -0.77
    losses = [loss(model, Batch(examples.inputs, actions, valid)) for actions in (examples.actions, other)]
    assert losses[0] == losses[1]
    whole = loss(model, examples)
    assert losses[0] != whole
    assert loss(model, replace(examples, valid=torch.zeros_like(valid))) == 0


@pytest.mark.parametrize("kind", [*KINDS, "insulated"])
def test_the_loss_of_a_batch_is_the_mean_of_its_examples_losses(kind: str):
    """Which is why several ranks, and several parts of a step, give what one batch gives."""
    model, examples = insulated() if kind == "insulated" else make(kind), batch()
    examples.valid[0, 2:] = False
    together = model.loss(examples, generator=ExampleNoise(3, [7, 8, 9, 10]))
    apart = []
    for place in range(4):
        rows = slice(place, place + 1)
        own = {name: value[rows] for name, value in vars(examples.inputs).items() if value is not None}
        alone = Batch(Inputs(**own, features=None), examples.actions[rows], examples.valid[rows])
        apart.append(model.loss(alone, generator=ExampleNoise(3, [7 + place])))
    torch.testing.assert_close(torch.stack(apart).mean(), together, atol=1e-5, rtol=1e-5)


@EVERY
def test_embodiments_in_one_batch_do_not_touch_each_other(kind: str):
    model, examples = make(kind), batch((0, 1, 1, 0))
    noise = torch.randn(4, HORIZON, 4)
    together = model.sample(examples.inputs, noise=noise)
    for place in range(4):
        own = {name: value[place : place + 1] for name, value in vars(examples.inputs).items() if value is not None}
        alone = model.sample(Inputs(**own, features=None), noise=noise[place : place + 1])
        size = SIZES[int(examples.inputs.embodiment[place])]
        assert torch.allclose(together[place, :, :size], alone[0, :, :size], atol=1e-4)


@EVERY
def test_padded_words_and_missing_cameras_never_matter(kind: str):
    model, examples = make(kind), batch()
    inputs = examples.inputs
    assert inputs.images is not None
    mask = torch.tensor([[True, False]] * 4)
    images = inputs.images.clone()
    images[:, 1] = 0
    longer = torch.cat([inputs.tokens, torch.full((4, 3), 7)], 1)
    longer_mask = torch.cat([inputs.token_mask, torch.zeros(4, 3, dtype=torch.bool)], 1)
    first = replace(inputs, image_mask=mask)
    second = replace(first, images=images, tokens=longer, token_mask=longer_mask)
    assert torch.allclose(sample(model, first), sample(model, second), atol=1e-4)
    losses = [loss(model, replace(examples, inputs=item)) for item in (first, second)]
    assert torch.allclose(*losses, rtol=1e-5)
    assert not torch.allclose(losses[0], loss(model, examples), rtol=1e-4)  # and what is seen does matter


@EVERY
def test_configs_survive_json(kind: str):
    assert VlaConfig.from_json(config(kind).to_json()) == config(kind)


def insulated(**changes: Any) -> VlaModel:
    settings = {"insulate": True, "backbone_loss": FAST} | changes
    model = build(replace(config("flow"), head=FlowConfig(action_norm=BOUNDED), **settings))
    fitted(model)
    return model


def gradients(model: VlaModel, value: Tensor) -> dict[str, Tensor]:
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None and grad.abs().sum() > 0}


def test_insulation_the_backbone_learns_from_words_only_and_the_expert_from_the_flow_only():
    model, examples = insulated(), batch()
    assert model.backbone_loss is not None
    both = gradients(model, loss(model, examples))
    prefix = model.backbone.prefix(examples.inputs)
    chance = Chance(torch.Generator().manual_seed(1))
    words = gradients(model, model.backbone_loss.loss(model.backbone, prefix, examples, chance))
    flow = gradients(model, model.head.loss(model.backbone, prefix.detach(), examples, chance))
    assert words.keys() | flow.keys() == both.keys() and not words.keys() & flow.keys()
    assert all(name.startswith("head.") for name in flow)
    assert all(name.startswith(("backbone.", "backbone_loss.")) for name in words)
    assert any(name.startswith("backbone.cameras") for name in words)
    for name, gradient in both.items():
        assert torch.allclose(gradient, words[name] if name in words else flow[name], atol=1e-6), name


def test_without_insulation_the_backbone_learns_from_both():
    model, examples = insulated(insulate=False), batch()
    both = gradients(model, loss(model, examples))
    other = insulated()
    words = gradients(other, loss(other, examples))
    name = "backbone.trunk.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(both[name], words[name])


def test_combinations_without_a_meaning_are_refused():
    with pytest.raises(ConfigError, match="insulate"):
        config("tokens", insulate=True)
    with pytest.raises(ConfigError, match="alike"):
        config("flow", backbone_loss=FAST)
    with pytest.raises(ConfigError, match="normalised to"):
        TokensConfig(action_norm=MEAN_STD)
    with pytest.raises(ConfigError, match="solver"):
        FlowConfig(solver="rk45")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="steps"):
        DiffusionConfig(levels=5, steps=10)
    with pytest.raises(ConfigError, match="vocabulary"):
        build(replace(config("fast"), head=FastConfig(vocabulary=40)))
    with pytest.raises(ConfigError, match="fitted"):
        build(config("fast")).loss(batch())
