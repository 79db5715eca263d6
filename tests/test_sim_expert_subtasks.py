import json

import numpy as np

from vla.sim.expert.subtasks import Subtask, during, keyframes, spans

REACH, GRASP = Subtask("reach", "bowl_1", "plate_1"), Subtask("grasp", "bowl_1", "plate_1")


def test_spans_and_keyframes_are_where_subtasks_begin_and_end():
    steps = [REACH, REACH, GRASP, REACH]
    assert spans(steps) == [
        [0, "reach", "bowl_1", "plate_1"],
        [2, "grasp", "bowl_1", "plate_1"],
        [3, "reach", "bowl_1", "plate_1"],
    ]
    assert keyframes(steps) == [1, 2, 3]
    assert json.loads(json.dumps(spans(steps))) == spans(steps)
    assert spans([]) == keyframes([]) == []


def test_actions_keep_their_order():
    actions = [np.full(7, value) for value in (0.1, 0.2)]
    steps = list(during(GRASP, actions))
    assert [step.subtask for step in steps] == [GRASP, GRASP]
    assert all(step.raw is action for step, action in zip(steps, actions, strict=True))
