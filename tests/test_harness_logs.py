"""Logs of vla-evaluation-harness: the given ones, and what may be wrong with others."""

import json

import pytest

from vla.errors import DataError
from vla.harness_logs import read_harness_log
from vla.results import summarise


def log(episodes, **config):
    params = {"suite": "libero_goal", "seed": 7, "num_steps_wait": 10}
    task = {"task": "turn on the stove", "episodes": episodes}
    return {"benchmark": "B", "harness_version": "0.1", "tasks": [task], "config": {"params": params} | config}


def episode(number=0, **fields):
    return {"episode_id": f"turn on the stove_ep{number}", "success": True, "steps": 90, "elapsed_sec": 3.5} | fields


def write(folder, value):
    path = folder / "log.json"
    path.write_text(json.dumps(value))
    return path


def test_the_given_logs_give_the_rates_they_state(shared_data):
    paths = sorted((shared_data / "libero_eval_logs").glob("*.json"))
    assert len(paths) == 4
    for path in paths:
        results, stated = read_harness_log(path), json.loads(path.read_text())
        summary = summarise(results)
        assert summary["total"]["rate"] == pytest.approx(stated["overall_success_rate"])
        assert (summary["total"]["n"], summary["total"]["errors"]) == (500, 0)
        rates = {task["task"]: (task["success_rate"], task["avg_steps"]) for task in stated["tasks"]}
        assert {cell["task"]: (cell["rate"], cell["mean_steps"]) for cell in summary["tasks"]} == {
            task: pytest.approx(numbers) for task, numbers in rates.items()
        }
        assert {cell["suite"] for cell in summary["suites"]} == {stated["config"]["params"]["suite"]}
        assert sorted(result.row.init for result in results) == sorted(list(range(50)) * 10)
        assert {result.row.seed for result in results} == {7}


def test_fields_are_taken_as_they_are(tmp_path):
    (result,) = read_harness_log(write(tmp_path, log([episode(31, success=False)])))
    assert (result.row.suite, result.row.task, result.row.init, result.row.seed) == (
        "libero_goal",
        "turn on the stove",
        31,
        7,
    )
    assert (result.status, result.steps, result.wall_s) == ("failure", 90, 3.5)
    assert result.protocol == {"name": "vla-evaluation-harness", "settle_steps": 10, "seed": 7}
    assert result.versions == {"vla-eval": "0.1"}


def test_a_lost_connection_is_an_error_and_no_failure(tmp_path):
    value = log([episode(0), episode(1, success=False, failure_reason="timeout", failure_detail="300 s")])
    results = read_harness_log(write(tmp_path, value))
    assert [(result.status, result.error) for result in results] == [("success", ""), ("error", "timeout: 300 s")]


def test_newer_logs_keep_success_among_the_metrics_and_number_episodes(tmp_path):
    value = log([{"episode_id": 4, "metrics": {"success": 1.0}, "steps": 80}])
    (result,) = read_harness_log(write(tmp_path, value))
    assert (result.row.init, result.status) == (4, "success")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([], "vla-evaluation-harness"),
        (log([episode(0), episode(0)]), "each episode once"),
        (log([episode(0, success=None)]), r"tasks\[0\]\.episodes\[0\]\.success"),
        (log([episode(0, success=0.5)]), "true or false"),
        (log([episode(0, steps="many")]), "steps"),
        (log([episode(0, episode_id="first")]), "ends in its number"),
        (log(["nothing"]), "episode_id"),
        (log(None), "episodes"),
        (log([episode(0)], params={"seed": "seven"}), "seed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, value, named):
    with pytest.raises(DataError, match=named):
        read_harness_log(write(tmp_path, value))


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(DataError, match=r"none\.json"):
        read_harness_log(tmp_path / "none.json")
    (tmp_path / "log.json").write_text('{"tasks": ')
    with pytest.raises(DataError):
        read_harness_log(tmp_path / "log.json")
