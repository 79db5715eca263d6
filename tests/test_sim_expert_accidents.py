import numpy as np

from vla.sim.expert.accidents import BUMP_STEPS, SLIP_STEPS, Accidents
from vla.sim.expert.record import NONE, Disturbance
from vla.sim.expert.subtasks import Subtask

STEPS = [Subtask(label, "bowl_1", "plate_1") for label in ("reach", "grasp", "carry", "place") for _ in range(20)]


def run(disturbance: Disturbance, seed: int) -> tuple[Accidents, np.ndarray]:
    """What is sent instead of standing still with closed fingers."""
    accidents = Accidents(disturbance.slips, disturbance.bumps, np.random.default_rng(seed))
    still = np.zeros(7, dtype=np.float32)
    return accidents, np.stack([accidents.befall(still, subtask, step) for step, subtask in enumerate(STEPS)])


def test_a_slip_opens_the_gripper_while_something_is_carried():
    accidents, sent = run(Disturbance(slips=1.0), 0)
    ((first, kind, steps),) = accidents.happened
    assert (kind, steps) == ("slip", SLIP_STEPS) and STEPS[first].label == "carry"
    assert np.flatnonzero(sent[:, 6]).tolist() == list(range(first, first + SLIP_STEPS))
    assert not sent[:, :6].any()


def test_a_bump_pushes_the_hand_sideways_while_it_comes_down():
    accidents, sent = run(Disturbance(bumps=1.0), 1)
    ((first, kind, steps),) = accidents.happened
    assert (kind, steps) == ("bump", BUMP_STEPS) and STEPS[first].label == "grasp"
    assert np.flatnonzero(sent[:, :2].any(axis=1)).tolist() == list(range(first, first + BUMP_STEPS))
    assert np.allclose(np.linalg.norm(sent[first, :3]), 0.04) and not sent[:, 2:].any()


def test_probabilities_are_kept():
    happened = [len(run(Disturbance(slips=0.3, bumps=0.5), seed)[0].happened) for seed in range(300)]
    assert 0.65 < np.mean(happened) < 0.95
    accidents, sent = run(NONE, 0)
    assert not accidents.happened and not sent.any()
