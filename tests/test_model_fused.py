"""The fused layers that a GPU runs give what the plain network gives; here on the CPU, in float32."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import lerobot_policies as small
import pytest
import torch
from test_model_expert_steps import EXPERTS, make
from test_model_heads import batch

from vla.model.action_network import ActionNetwork
from vla.model.backbone import Prefix
from vla.model.expert_steps import ExpertSteps
from vla.model.flow import solver_times
from vla.model.flow_sampler import FlowSampler, padded, trimmed
from vla.model.fused_expert import Attention, FusedLayers
from vla.model.fused_prefix import FusedPrefix, fusible
from vla.model.hf_backbone import HfBackbone


def close(ours: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(ours, wanted, atol=1e-5 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("attention", ["sdpa", "matmul"])
@pytest.mark.parametrize("expert", EXPERTS)
@torch.inference_mode()
def test_fused_layers_answer_as_the_plain_network(expert: str, attention: Attention, monkeypatch: pytest.MonkeyPatch):
    model = make(expert)
    inputs = replace(batch().inputs, image_mask=torch.tensor([[True, True], [True, False]] * 2))
    prefix = model.prefix(inputs)
    network = model.get_submodule("head.network")
    assert isinstance(network, ActionNetwork)
    monkeypatch.setattr(
        "vla.model.expert_steps._LayersInPlace", lambda *parts: FusedLayers(*parts, attention=attention)
    )
    times = solver_times(4)
    ahead = network.ahead(model.backbone, prefix, inputs, times)
    assert isinstance(ahead, ExpertSteps) and isinstance(ahead.layers, FusedLayers)
    plain = network.given(model.backbone, prefix, inputs)
    chance = torch.Generator().manual_seed(1)
    for place in (2, 0, 3):
        x = torch.randn(4, 6, 4, generator=chance)
        assert close(ahead(x, place), plain(x, torch.full((4,), times[place])))


@pytest.fixture(scope="module")
def pi0(tmp_path_factory: pytest.TempPathFactory):
    tokenizer = small.tokenizer_folder(tmp_path_factory.mktemp("pi0") / "tokenizer")
    model = small.make(small.model_config(tokenizer)).model
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
    return model


def same_where_real(ours: Prefix, wanted: Prefix) -> bool:
    real = wanted.mask[:, None, :, None]
    pairs = zip((*ours.keys, *ours.values), (*wanted.keys, *wanted.values), strict=True)
    return torch.equal(ours.mask, wanted.mask) and all(close(a * real, b * real) for a, b in pairs)


@torch.inference_mode()
def test_a_fused_prefix_is_the_plain_one(pi0):
    inputs = small.example(28, batch=3).inputs()
    inputs = replace(inputs, image_mask=torch.tensor([[True, True], [True, False], [False, True]]))
    backbone = pi0.backbone
    assert fusible(backbone) and isinstance(backbone, HfBackbone)
    assert same_where_real(FusedPrefix(backbone, torch.float32)(inputs), pi0.prefix(inputs))


@torch.inference_mode()
def test_padding_the_prompt_changes_no_key(pi0):
    inputs = small.example(28, batch=2).inputs()
    longer = padded(inputs, 20)
    assert longer.tokens.shape[1] == 20 and not longer.token_mask[:, inputs.tokens.shape[1] :].any()
    fused = FusedPrefix(pi0.backbone, torch.float32)
    short, long = fused(inputs), fused(longer)
    count = short.mask.shape[1]
    assert all(close(a[:, :, :count], b) for a, b in zip(long.keys, short.keys, strict=True))


@torch.inference_mode()
def test_on_a_cpu_padding_is_left_out_and_changes_nothing(pi0):
    given = small.example(28, batch=2)
    inputs = given.inputs()
    assert trimmed(padded(inputs, 20)).tokens.shape[1] == int(inputs.token_mask.any(0).sum())
    noise = given.noise[:, : pi0.config.horizon, : pi0.config.action_size]
    inputs = replace(inputs, state=inputs.state[:, : pi0.config.state_size])
    sampler = FlowSampler(pi0, "cpu", torch.float32)
    assert close(sampler(padded(inputs, 20), noise), sampler(inputs, noise))
    nothing = replace(inputs, token_mask=torch.zeros_like(inputs.token_mask))
    assert trimmed(nothing).tokens.shape[1] == 1


def test_other_backbones_run_as_they_ship(pi0, monkeypatch: pytest.MonkeyPatch):
    assert not fusible(make("nano").backbone)
    monkeypatch.setattr(pi0.backbone.model.config.text_config, "attention_bias", True)
    assert not fusible(pi0.backbone)


@pytest.mark.parametrize("state", ["token", "prefix"])
def test_a_sampler_shows_the_state_wherever_it_enters(tmp_path: Path, state: Literal["token", "prefix"]):
    config = small.model_config(small.tokenizer_folder(tmp_path / "tokenizer"))
    model = small.make(replace(config, expert=replace(config.expert, state=state))).model
    given = small.example(28)
    noise = given.noise[:, : config.horizon, : config.action_size]
    inputs = replace(given.inputs(), state=given.inputs().state[:, : config.state_size])
    wanted = model.sample(inputs, noise=noise)
    assert close(FlowSampler(model, "cpu", torch.float32)(inputs, noise), wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_recorded_chunk_is_the_plain_one(tmp_path: Path, dtype: torch.dtype):
    model = small.make(small.model_config(small.tokenizer_folder(tmp_path / "tokenizer"))).model
    given = small.example(28)
    noise = given.noise[:, : model.config.horizon, : model.config.action_size]
    inputs = replace(given.inputs(), state=given.inputs().state[:, : model.config.state_size])
    wanted = model.sample(inputs, noise=noise)
    torch.compiler.set_stance("force_eager")  # the recording is what is tried here
    sampler = FlowSampler(model, dtype=dtype)
    for _ in range(2):  # recorded, then replayed
        error = (sampler(inputs, noise).cpu() - wanted).abs().max()
        assert error < (1e-3 if dtype == torch.float32 else 0.1)
