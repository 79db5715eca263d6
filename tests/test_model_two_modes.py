"""Two ways of doing it, half the demonstrations each: what a head samples is tested against the known distribution."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.model.config import BodyShape, ExpertConfig, NanoConfig, VlaConfig
from vla.model.head_config import DiffusionConfig, FlowConfig, HeadConfig, L1Config, TokensConfig
from vla.model.vla_model import build

NANO = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=64, channels=8, keypoints=4, vocabulary=16)
CONFIG = VlaConfig(NANO, ExpertConfig(width=48, mlp=96), horizon=1, bodies=(BodyShape("arm", 1, 1),))
SPREAD, COUNT, LEVEL = 0.1, 500, 0.01
"""Of each mode; samples in the test; the test's level: a true sampler fails with this probability."""


def condition(count: int, seed: int) -> Inputs:
    """No pictures, one word, a state in -1..1."""
    state = 2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(seed)) - 1
    none = torch.zeros(count, 0, dtype=torch.bool)
    words = torch.full((count, 1), 3)
    return Inputs(None, (), none, words, torch.ones_like(words, dtype=torch.bool), state, torch.zeros(count).long())


def truth(state: np.ndarray, seed: int) -> np.ndarray:
    """Left or right, and how far follows from the state: +-(0.5 + 0.2 state), give or take SPREAD."""
    chance = np.random.default_rng(seed)
    side = chance.choice([-1.0, 1.0], state.shape)
    return (side * (0.5 + 0.2 * state) + SPREAD * chance.standard_normal(state.shape)).astype(np.float32)


def p_value(head: HeadConfig, *, steps: int, batch: int = 256) -> float:
    """Of a two-sample Kolmogorov-Smirnov test of samples against the truth, in units in which the modes are at +-1."""
    model = build(replace(CONFIG, head=head), pretrained=False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    chance = torch.Generator().manual_seed(0)
    for step in range(steps):
        inputs = condition(batch, step)
        actions = torch.from_numpy(truth(inputs.state.numpy(), step))[:, None]
        optimizer.zero_grad()
        model.loss(Batch(inputs, actions, torch.ones(batch, 1, dtype=torch.bool)), generator=chance).backward()
        optimizer.step()
        schedule.step()
    inputs = condition(COUNT, 10**6)
    sampled = model.eval().sample(inputs, 100, chance, temperature=1.0).ravel().numpy()
    state = inputs.state.ravel().numpy()
    wanted = truth(state, 10**6)
    scale = 0.5 + 0.2 * state
    found: Any = stats.ks_2samp(sampled / scale, wanted / scale)
    return float(found.pvalue)


def test_flow_matching_follows_the_distribution():
    assert p_value(FlowConfig(), steps=600) > LEVEL


def test_an_absolute_error_finds_neither_way():
    assert p_value(L1Config(), steps=150) < 1e-20


@pytest.mark.slow
@pytest.mark.parametrize("head", [DiffusionConfig(), TokensConfig()], ids=lambda head: head.kind)
def test_others_that_draw_follow_the_distribution(head: HeadConfig):
    """The diffusion with a step for each level: fewer steps make the modes narrower, whoever predicts the noise."""
    assert p_value(head, steps=1500) > LEVEL
