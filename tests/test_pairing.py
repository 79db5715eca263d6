"""What belongs together in two runs."""

from dataclasses import replace

import pytest

from vla.errors import ConfigError
from vla.pairing import pair, task_words
from vla.results import Result
from vla.rows import Row


def run(*inits, task="turn_on_the_stove", suite="libero_goal", seed=None, status="success", **fields):
    return [Result(Row(suite, task, i, i if seed is None else seed), status, **fields) for i in inits]


def test_the_same_rows_are_paired():
    found = pair(run(0, 1, 2), run(2, 1, 0, status="failure"))
    assert (found.kind, len(found.pairs), found.warnings) == ("row", 3, ())
    assert all(a.row == b.row and a.success and not b.success for a, b in found.pairs)


def test_rows_on_one_side_only_are_told():
    found = pair(run(0, 1, 2), run(1, 2, 3, 4))
    assert (found.kind, len(found.pairs), found.first_only, found.second_only) == ("row", 2, 1, 2)
    assert "1 and 2 have no counterpart" in found.warnings[0]


def test_other_seeds_pair_by_scene_and_say_so():
    found = pair(run(0, 1, 2, 3), run(0, 1, 2, 3, seed=1))  # one row is even the same
    assert (found.kind, len(found.pairs)) == ("scene", 4)
    assert "seeds differ" in found.warnings[0]


def test_our_names_meet_the_sentences_of_others():
    assert task_words("KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it") == (
        "turn on the stove and put the moka pot on it"
    )
    assert task_words("LIVING_ROOM_SCENE5_put_the_white_mug") == "put the white mug"
    found = pair(run(0, 1), run(0, 1, task="turn on the stove", seed=7))
    assert (found.kind, len(found.pairs)) == ("scene", 2)


def test_tasks_with_one_sentence_in_several_scenes_stay_apart():
    """LIBERO-90 has 90 tasks and 74 sentences."""
    names = ("KITCHEN_SCENE1_open_the_drawer", "KITCHEN_SCENE4_open_the_drawer")
    ours, theirs = ([r for name in names for r in run(0, 1, task=name, seed=seed)] for seed in (0, 7))
    found = pair(ours, theirs)
    assert (found.kind, len(found.pairs)) == ("scene", 4)
    assert all(a.row.task == b.row.task for a, b in found.pairs)
    log = run(0, 1, task="open the drawer", seed=7)  # of others: which scene is meant is not known
    assert pair(ours, log).kind == "none"


def test_a_scene_that_is_there_twice_pairs_with_nothing():
    found = pair(run(0) + run(0, seed=5) + run(1), run(0, seed=7) + run(1, seed=7))
    assert (found.kind, len(found.pairs)) == ("scene", 1)
    assert found.pairs[0][0].row.init == 1


def test_sampled_places_need_the_same_seed():
    ours = [Result(Row("libero_goal", "t", -1, seed, 2.0), "success") for seed in (0, 1)]
    theirs = [Result(Row("libero_goal", "t", -1, seed, 2.0), "success") for seed in (2, 3)]
    assert pair(ours, ours).kind == "row"
    assert pair(ours, theirs).kind == "none"


def test_errors_leave_their_pair_out_and_many_are_told():
    found = pair(run(*range(9)), run(*range(8)) + run(8, status="error", error="killed"))
    assert (len(found.pairs), found.errors) == (8, 1)
    assert any("1 rows ended in an error" in warning for warning in found.warnings)


def test_nothing_in_common_is_said_plainly():
    found = pair(run(0, 1), run(5, 6))
    assert (found.kind, found.pairs) == ("none", ())
    assert "independent samples" in found.warnings[0]


def test_other_settings_and_versions_are_told():
    first = run(0, versions={"mujoco": "3.2.3", "numpy": "2"}, protocol={"name": "ours", "execute": 8})
    second = run(0, versions={"mujoco": "3.3.2", "python": "3"}, protocol={"name": "openpi", "execute": 5})
    warnings = " ".join(pair(first, second).warnings)
    assert "mujoco: '3.2.3' first, '3.3.2' second" in warnings and "execute: 8 first, 5 second" in warnings
    assert "python" not in warnings and "numpy" not in warnings
    assert pair(first, [replace(first[0])]).warnings == ()


def test_a_row_twice_in_one_run_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        pair(run(0, 0), run(0))
