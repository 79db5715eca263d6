"""Corrections as episodes of their own: which steps, which pictures, and what is said of them."""

import dataclasses

import numpy as np
import pytest
from random_episodes import SPEC, episode
from test_datasets_views import InMemory

from vla.datasets.human_steps import HumanSteps, taken
from vla.errors import ConfigError
from vla.protocols import EpisodeSource
from vla.recorder import human_steps


def recorded(seed, steps, label):
    return episode(seed, steps, info={"seed": seed, "human": label} if label else {"seed": seed})


def test_each_stretch_of_a_person_s_steps_is_an_episode():
    policy_s, corrected, by_hand = recorded(0, 5, []), recorded(1, 8, [[1, 3], [5, 8]]), recorded(2, 4, [[0, 4]])
    view = HumanSteps(InMemory(SPEC, [policy_s, corrected, by_hand]))
    assert isinstance(view, EpisodeSource) and view.lengths.tolist() == [2, 3, 4] and len(view) == 3
    for part, first, stop in ((view[0], 1, 3), (view[1], 5, 8)):
        assert np.array_equal(part.action, corrected.action[first:stop])
        assert np.array_equal(part.state, corrected.state[first:stop])
        np.testing.assert_allclose(part.time, corrected.time[first:stop] - corrected.time[first])
        for name, frames in corrected.images.items():
            assert all(np.array_equal(a, b) for a, b in zip(part.images[name], frames[first:stop], strict=True))
        assert human_steps(part).all() and part.success is None and part.info["seed"] == 1
        assert f"steps {first} to {stop - 1}" in part.source
    assert view[2] is by_hand and view[-1] is by_hand
    with pytest.raises(IndexError):
        view[3]


def test_the_label_goes_with_the_steps():
    whole = recorded(0, 8, [[1, 3], [5, 8]])
    part = taken(whole, np.array([0, 2, 4, 6, 7]))
    assert human_steps(part).tolist() == [False, True, False, True, True]
    assert "human" not in taken(whole, np.array([0, 3, 4])).info
    plain = recorded(0, 8, [])
    assert taken(plain, np.array([1])).info == plain.info


@pytest.mark.parametrize("label", [True, [[0, 9]], [[2, 1]], [3]])
def test_a_label_that_is_none_is_refused(label):
    with pytest.raises(ConfigError, match=r"labelled|first and last"):
        human_steps(dataclasses.replace(episode(0, 4), info={"human": label}))
