"""Guidance of the flow towards a plan: against LeRobot's, against the equations, and against a known distribution."""

import numpy as np
import pytest
import torch

from vla.asynchronous import prefix_weights
from vla.model.flow import integrate
from vla.model.inpainting import MAX_STRENGTH, guided

HORIZON, SIZE = 8, 2
WEIGHTS = torch.from_numpy(prefix_weights(HORIZON, 2, 5))
PLAN = torch.linspace(-1, 1, 2 * HORIZON * SIZE).reshape(2, HORIZON, SIZE)


def test_where_the_network_ignores_its_input_it_is_lerobot_s():
    """LeRobot leaves out the network's derivative, so only there do the two agree."""
    from lerobot.policies.rtc.configuration_rtc import RTCConfig
    from lerobot.policies.rtc.modeling_rtc import RTCProcessor

    slope = torch.randn(2, HORIZON, SIZE, generator=torch.Generator().manual_seed(0))
    theirs = RTCProcessor(RTCConfig(prefix_attention_schedule="EXP", max_guidance_weight=MAX_STRENGTH))  # pyright: ignore
    for time in (1.0, 0.7, 0.2):
        x = torch.randn(2, HORIZON, SIZE, generator=torch.Generator().manual_seed(1))
        expected = theirs.denoise_step(x, PLAN, 2, torch.tensor(time), lambda x: slope, execution_horizon=5)
        got = guided(lambda x, time: slope, PLAN, WEIGHTS)(x, torch.full((2,), time))
        assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("time", [1.0, 0.6, 0.1])
def test_the_correction_is_the_paper_s(time):
    matrix = torch.randn(HORIZON * SIZE, HORIZON * SIZE, generator=torch.Generator().manual_seed(0)) / 4

    def velocity(x, times):
        return torch.tanh(x.flatten(1) @ matrix).view_as(x) * times[:, None, None]

    x = torch.randn(2, HORIZON, SIZE, generator=torch.Generator().manual_seed(1))
    got = guided(velocity, PLAN, WEIGHTS)(x, torch.full((2,), time))
    tau = 1 - time  # the paper's clock
    strength = min(MAX_STRENGTH, (1 - tau) / tau * ((1 - tau) ** 2 + tau**2) / (1 - tau) ** 2) if tau else MAX_STRENGTH
    for row in range(2):

        def guess(flat, row=row):
            one = flat.view(1, HORIZON, SIZE)
            return (one - time * velocity(one, torch.tensor([time]))).flatten()

        flat = x[row].flatten()
        jacobian = torch.autograd.functional.jacobian(guess, flat)
        error = (PLAN[row] - guess(flat).view(HORIZON, SIZE)) * WEIGHTS[:, None]
        pull = error.flatten() @ jacobian
        own = velocity(x, torch.full((2,), time))[row].flatten()
        assert torch.allclose(got[row].flatten(), own - strength * pull, atol=1e-4)


def gaussian(mean, covariance):
    """The exact velocity of a flow whose data are Gaussian over the rows."""

    def velocity(x, times):
        t = float(times[0])
        spread = (1 - t) ** 2 * covariance + t**2 * torch.eye(len(covariance))
        action = mean + (1 - t) * torch.einsum("hk,bka->bha", covariance @ spread.inverse(), x - (1 - t) * mean)
        return (x - (1 - t) * action) / t - action

    return velocity


def test_no_weight_is_no_change():
    flow = gaussian(torch.zeros(HORIZON, SIZE), torch.eye(HORIZON))
    noise = torch.randn(4, HORIZON, SIZE, generator=torch.Generator().manual_seed(0))
    plan = torch.full((4, HORIZON, SIZE), 9.0)
    assert torch.allclose(
        integrate(guided(flow, plan, torch.zeros(HORIZON)), noise, 10), integrate(flow, noise, 10), atol=1e-5
    )


def test_a_plan_is_continued():
    """Rows that go together: what is frozen at the beginning carries what comes after with it."""
    place = torch.arange(HORIZON, dtype=torch.float32)
    covariance = torch.exp(-(((place[:, None] - place) / 3) ** 2)) + 0.01 * torch.eye(HORIZON)
    flow = gaussian(torch.zeros(HORIZON, SIZE), covariance)
    noise = torch.randn(256, HORIZON, SIZE, generator=torch.Generator().manual_seed(0))
    plan = torch.full((256, HORIZON, SIZE), 1.5)
    frozen = 3
    weights = torch.from_numpy(prefix_weights(HORIZON, frozen, frozen))
    free, bound = (integrate(flow if w is None else guided(flow, plan, w), noise, 20) for w in (None, weights))
    assert (bound[:, :frozen] - 1.5).abs().mean() < 0.25 * (free[:, :frozen] - 1.5).abs().mean()
    # the Gaussian's own answer to "the first rows are 1.5"
    expected = covariance[frozen:, :frozen] @ torch.linalg.solve(covariance[:frozen, :frozen], plan[0, :frozen])
    near = bound[:, frozen].mean(0)
    assert np.allclose(near, expected[0], atol=0.3) and (near - free[:, frozen].mean(0)).min() > 0.7
    jump = (bound[:, frozen] - 1.5).abs().mean()
    assert jump < 0.5 * (free[:, frozen] - 1.5).abs().mean()


def test_neither_arguments_nor_weights_are_touched():
    layer = torch.nn.Linear(SIZE, SIZE)
    x = torch.randn(2, HORIZON, SIZE)
    before = x.clone()
    with torch.no_grad():
        got = guided(lambda x, time: layer(x), PLAN, WEIGHTS)(x, torch.full((2,), 0.5))
    assert torch.equal(x, before) and not got.requires_grad and layer.weight.grad is None
