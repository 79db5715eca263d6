"""What is made ahead of the steps changes nothing: the answers are those of the network that is trained."""

from dataclasses import replace

import pytest
import torch
from test_model_heads import NANO, batch, config

from vla.model.action_network import ActionNetwork
from vla.model.config import ExpertConfig, VlaConfig
from vla.model.flow import integrate, solver_times
from vla.model.head_config import FlowConfig, Solver
from vla.model.vla_model import VlaModel, build

EXPERTS = {
    "nano": ExpertConfig(width=32, mlp=64),
    "pi0": ExpertConfig(width=32, mlp=64, norm="gemma", places=False),
    "pi05": ExpertConfig(width=32, mlp=64, state="prompt", places=False),
    "smolvla": ExpertConfig(
        width=32, mlp=64, norm="llama", activation="silu", state="prefix", joint_every=2, causal=True, places=False
    ),
    "grouped": ExpertConfig(width=32, mlp=64, heads=4),
}


def make(expert: str) -> VlaModel:
    settings: VlaConfig = replace(config("flow"), expert=EXPERTS[expert])
    model, chance = build(settings), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
    return model.eval()


@pytest.mark.parametrize("expert", EXPERTS)
@torch.inference_mode()
def test_the_answers_are_those_of_the_plain_network(expert: str):
    model = make(expert)
    inputs = replace(batch().inputs, image_mask=torch.tensor([[True, True], [True, False]] * 2))
    prefix = model.prefix(inputs)
    network = model.get_submodule("head.network")
    assert isinstance(network, ActionNetwork)
    plain = network.given(model.backbone, prefix, inputs)
    times = solver_times(4)
    ahead = network.ahead(model.backbone, prefix, inputs, times)
    chance = torch.Generator().manual_seed(1)
    for place in (2, 0, 3):
        x = torch.randn(4, 6, 4, generator=chance)
        wanted = plain(x, torch.full((4,), times[place]))
        assert torch.allclose(ahead(x, place), wanted, atol=1e-5 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
def test_every_solver_asks_for_the_times_it_says(solver: Solver):
    asked: list[float] = []

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        asked.append(time[0].item())
        return x

    integrate(velocity, torch.ones(1, 1, 1, dtype=torch.float64), 3, solver)
    assert asked == solver_times(3, solver)


def test_sampling_uses_it_and_the_weights_of_the_moment():
    model = make("nano")
    inputs, noise = batch().inputs, torch.randn(4, 6, 4)
    before = model.sample(inputs, 3, noise=noise)
    assert torch.equal(before, model.sample(inputs, 3, noise=noise))
    with torch.no_grad():
        model.get_parameter("head.network.expert.final.modulation.bias").add_(0.5)
    assert not torch.allclose(before, model.sample(inputs, 3, noise=noise))


def test_one_embodiment_too():
    settings = replace(config("flow"), bodies=config("flow").bodies[:1], backbone=NANO, head=FlowConfig(solver="heun"))
    for expert in (EXPERTS["nano"], EXPERTS["pi0"]):
        model = build(replace(settings, expert=expert)).eval()
        examples = batch((0, 0))
        sampled = model.sample(examples.inputs, 2, noise=torch.randn(2, 6, 4))
        assert sampled.shape == (2, 6, 4) and torch.isfinite(sampled).all()
