"""Questions about scenes: the answers are true of what the picture shows, and of nothing ambiguous is asked."""

import numpy as np
import pytest

from vla.rows import Row
from vla.sim import libero
from vla.sim.libero_suites import tasks
from vla.sim.questions import Thing, questions, things

SEEN = [
    Thing("plate_1", "plate", 0.5, 0.6, 1.0),
    Thing("akita_black_bowl_1", "black bowl", 0.2, 0.5, 1.2, on="cookies_1"),
    Thing("akita_black_bowl_2", "black bowl", 0.8, 0.5, 1.0),
    Thing("cookies_1", "cookie box", 0.2, 0.55, 1.2),
    Thing("ramekin_1", "ramekin", 0.52, 0.3, 1.5, on="plate_1"),
    Thing("mug_1", "mug", 0.9, 0.9, 0.8),
    Thing("mug_2", "mug", 0.1, 0.9, 0.8, seen=False),
    Thing("stove_1", "stove", 0.1, 0.1, 2.0, seen=False),
]


def test_questions_have_one_right_answer():
    asked = dict(questions(SEEN))
    assert len(asked) == len(questions(SEEN))
    assert asked["How many black bowls are there?"] == "2" and asked["How many cookie boxes are there?"] == "1"
    assert asked["What is to the left of the plate?"] == "the cookie box"
    assert asked["What is to the right of the plate?"] == "the black bowl"
    assert asked["What is the ramekin on?"] == "the plate"
    assert asked["Is the plate to the left or to the right of the cookie box?"] == "right"
    assert asked["Is the cookie box in front of or behind the plate?"] == "behind"
    assert not any("the black bowl to the" in question or "of the black bowl" in question for question in asked)
    assert not any("left or to the right of the ramekin" in q for q in asked if "plate" in q)  # neither of them
    assert not any("mug" in text or "stove" in text for pair in asked.items() for text in pair)  # one mug is hidden
    assert "Is the plate in front of or behind the ramekin?" not in asked  # one stands on the other


@pytest.fixture(scope="module")
def scene():
    benchmark = libero.Config(camera_size=128).make()
    body, task = benchmark.open(Row("libero_spatial", tasks("libero_spatial")[0].name, -1, 7, 2.0))
    task.reset()
    yield body
    benchmark.close()


def test_things_are_where_the_picture_changes_without_them(scene):
    before = scene.observe().images["agentview"].astype(int)
    seen = things(scene.world)
    assert {"plate", "black bowl", "ramekin", "cookie box"} <= {thing.called for thing in seen if thing.seen}
    model = scene.world.model
    movable = [thing for thing in seen if thing.name in scene.world.objects and thing.seen]
    for thing in movable:
        body = scene.world.env.obj_body_id[thing.name]
        geoms = [number for number in range(model.ngeom) if _within(model, int(model.geom_bodyid[number]), body)]
        alpha = model.geom_rgba[geoms, 3].copy()
        model.geom_rgba[geoms, 3] = 0.0
        changed = np.abs(scene.observe().images["agentview"].astype(int) - before).sum(-1) > 30
        model.geom_rgba[geoms, 3] = alpha
        rows, columns = np.nonzero(changed)
        assert abs((columns.mean() + 0.5) / 128 - thing.column) < 0.05, thing
        assert abs((rows.mean() + 0.5) / 128 - thing.row) < 0.08, thing


def _within(model, body: int, root: int) -> bool:
    while body and body != root:
        body = int(model.body_parentid[body])
    return body == root


def test_the_same_scene_gives_the_same_questions(scene):
    assert questions(things(scene.world)) == questions(things(scene.world))
    assert len(questions(things(scene.world))) > 10
