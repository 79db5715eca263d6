"""Which of the wheel's suites run, by name; the perturbed ones each really open."""

import numpy as np
import pytest

from vla.errors import UnknownName
from vla.rows import Row
from vla.sim import libero_suites
from vla.sim.libero import Config

KINDS = ("lan", "object", "swap", "task")
PERTURBED = [f"libero_{base}_{kind}" for base in ("spatial", "object", "goal", "10") for kind in KINDS]


def test_what_runs_and_what_does_not_are_all_that_is_registered():
    registered = libero_suites.registered()
    assert len(registered) == 83
    runs = set(libero_suites.suites())
    assert {"libero_spatial", "libero_90", *PERTURBED} <= runs
    assert all(bool(libero_suites.why_not(suite)) == (suite not in runs) for suite in registered)


@pytest.mark.parametrize(
    ("suite", "reason"),
    [
        ("libero_100", "without tasks"),
        ("libero_object_with_trigger", "10 of 10 tasks have no initial states"),
        ("libero_spatial_env", "no descriptions in the wheel and 10 of 10 tasks have no initial states"),
    ],
)
def test_a_suite_that_cannot_run_is_refused_with_the_reason(suite, reason):
    with pytest.raises(UnknownName, match=f"{reason}.*'{suite}'"):
        libero_suites.tasks(suite)


def test_a_suite_that_is_not_registered_has_no_reason():
    with pytest.raises(UnknownName, match="closest: libero_goal_swap"):
        libero_suites.why_not("libero_goal_swp")


def test_the_command_lists_both(vla):
    code, answer, _ = vla("eval", "suites", "--json")
    assert code == 0
    assert "libero_goal_swap" in answer and "without tasks" in answer


@pytest.mark.slow
@pytest.mark.parametrize("suite", PERTURBED)
def test_each_perturbed_suite_opens_and_steps(suite):
    benchmark = Config(camera_size=32).make()
    body, task = benchmark.open(Row(suite, benchmark.tasks(suite)[0], init=0, seed=0))
    task.reset()
    observation = body.observe()
    assert all(picture.std() > 5 for picture in observation.images.values())
    for _ in range(5):
        body.command(np.array([0.02, 0, 0, 0, 0, 0, 1], np.float32))
    assert not task.succeeded()
    assert body.observe(images=False).state[0] != observation.state[0]
    benchmark.close()
