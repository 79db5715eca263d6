"""Noise belongs to an example: the same in any batch, new in each draw, of the right distribution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vla.model.noise import ExampleNoise, integers, normal, uniform


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.integers(1, 3), st.integers(0, 2**63 - 1))
def test_an_example_gets_the_same_numbers_in_any_batch(places, times, seed):
    together = ExampleNoise(seed, places)
    for draw in (normal, uniform):
        whole = draw((times * len(places), 3, 2), together).unflatten(0, (len(places), times))
        for number, place in enumerate(places):
            alone = ExampleNoise(seed, [place])
            if draw is uniform:
                normal((1,), alone)  # the second draw of the batch above
            assert torch.equal(draw((times, 3, 2), alone), whole[number])


def test_draws_places_and_seeds_differ():
    noise = ExampleNoise(3, [7, 8])
    first, second = normal((2, 50), noise), normal((2, 50), noise)
    other = normal((2, 50), ExampleNoise(4, [7, 8]))
    rows = torch.cat([first, second, other])
    assert len({tuple(row.tolist()) for row in rows}) == 6
    assert torch.corrcoef(rows).sub(torch.eye(6)).abs().max() < 0.5


def test_they_are_normal_and_uniform():
    noise = ExampleNoise(0, range(500))
    assert stats.kstest(normal((500, 40), noise).flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(uniform((500, 40), noise).flatten().numpy(), "uniform").pvalue > 0.01
    whole = integers(5, (500, 4), noise)
    assert whole.dtype == torch.int64 and stats.chisquare(whole.flatten().bincount(minlength=5).numpy()).pvalue > 0.01


def test_a_generator_does_as_torch_does():
    chances = [torch.Generator().manual_seed(5) for _ in range(2)]
    assert torch.equal(normal((4, 2), chances[0]), torch.randn(4, 2, generator=chances[1]))
    assert torch.equal(uniform((4,), chances[0]), torch.rand(4, generator=chances[1]))


def test_rows_that_fit_no_example_are_refused():
    with pytest.raises(ValueError, match="5 rows"):
        normal((5, 2), ExampleNoise(0, [1, 2]))
