"""Comparisons: on the given logs and a perturbed copy against statsmodels, and under the null by simulation."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla.comparison import Run, compare_runs, contrast, read_runs, summarise_alike
from vla.errors import ConfigError, DataError
from vla.report_comparison import write_comparison
from vla.results import Result, summarise, write_results
from vla.rows import Row


def run(name, solved, *, task="t", suite="libero_goal", start=0, tmp=None):
    results = [
        Result(Row(suite, f"{task}{place}", start + init, 0), "success" if yes else "failure", steps=10)
        for place, column in enumerate(solved)
        for init, yes in enumerate(column)
    ]
    return Run(name, tuple(results), tmp)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def logs(shared_data):
    return shared_data / "libero_eval_logs"


@pytest.fixture
def perturbed(logs, tmp_path):
    """A copy in which some solved episodes failed and some were lost."""
    rng = random.Random(5)
    folder = tmp_path / "perturbed"
    folder.mkdir()
    for path in logs.glob("*.json"):
        value = json.loads(path.read_text())
        for task in value["tasks"]:
            for episode in task["episodes"]:
                chance = rng.random()
                if chance < 0.02:
                    episode["success"] = False
                elif chance < 0.03:
                    episode["success"] = True
                elif chance < 0.035:
                    episode["failure_reason"] = "connection_lost"
        (folder / path.name).write_text(json.dumps(value))
    return folder


def named(name, *tasks, suite="libero_90"):
    results = [Result(Row(suite, task, init, 0), "success" if init else "failure") for task in tasks for init in (0, 1)]
    return Run(name, tuple(results), Path(name))


def test_a_task_has_one_line_whatever_a_run_calls_it():
    stove, twice = "KITCHEN_SCENE3_turn_on_the_stove", ("KITCHEN_SCENE1_open_it", "KITCHEN_SCENE2_open_it")
    ours, log = summarise_alike([named("ours", stove, *twice), named("log", "turn on the stove", "open it", "other")])
    assert [cell["task"] for cell in ours["tasks"]] == [stove, *twice]
    assert [cell["task"] for cell in log["tasks"]] == [stove, "open it", "other"]  # which of the two is not said


def test_scenes_of_one_sentence_are_tasks_of_their_own():
    """Two tasks of libero_90, between which the difference lies: no interval over one task, but one over two."""
    first, second = (named(name, "KITCHEN_SCENE1_open_it", "KITCHEN_SCENE2_open_it") for name in ("a", "b"))
    worse = [replace(r, status="failure") if r.row.task.startswith("KITCHEN_SCENE2") else r for r in second.results]
    found = contrast(first, replace(second, results=tuple(worse)))
    assert found.pairing == "row" and found.clustered is not None and found.p_tasks == 1.0


def test_variants_are_compared_with_the_policy_itself(tmp_path):
    for name in ("blank", "trained", "untrained"):
        write_results(tmp_path / name / "results.parquet", named(name, "reach").results)
    assert [run.name for run in read_runs([tmp_path])] == ["trained", "blank", "untrained"]


def test_nothing_to_compare_is_said_as_that():
    with pytest.raises(ConfigError, match="at least two runs, found 0"):
        compare_runs(read_runs([]))


def test_the_given_logs_against_a_perturbed_copy_agree_with_statsmodels(logs, perturbed):
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    first, second = read_runs([logs, perturbed])
    assert (first.name, second.name) == ("libero_eval_logs", "perturbed") and len(first.results) == 2000
    (found,) = compare_runs([first, second])
    theirs = {result.row: result for result in second.results}
    pairs = [(a.success, theirs[a.row].success) for a in first.results if theirs[a.row].status != "error"]
    table = np.array([[pairs.count((a, b)) for b in (True, False)] for a in (True, False)])
    assert [[found.both, found.only_first], [found.only_second, found.neither]] == table.tolist()
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)  # type: ignore[attr-defined]
    assert found.errors == 2000 - len(pairs) > 0 and found.pairing == "row"
    assert found.difference == pytest.approx((table[0, 1] - table[1, 0]) / len(pairs))
    for one in (first, second):
        summary = summarise(one.results)
        for cell in [summary["total"], *summary["tasks"], *summary["suites"]]:
            wilson = proportion_confint(cell["successes"], cell["n"], method="wilson")
            assert (cell["low"], cell["high"]) == pytest.approx(wilson, abs=1e-9)
    assert summarise(second.results)["total"]["errors"] == found.errors


def test_a_run_against_itself_shows_nothing(logs):
    path = logs / "merged_libero_goal.json"
    (one,) = read_runs([path])
    (found,) = compare_runs([one, replace(one, name="again")])
    assert (found.difference, found.p_value, found.p_tasks, found.only_first, found.n) == (0, 1, 1, 0, 500)
    assert found.clustered is None and 0 < found.smallest < 0.03  # type: ignore[operator]


def test_false_positives_stay_within_their_level(logs):
    """Two policies of equal rates in each task, drawn from the logs' own rates; some tasks with shared difficulty."""
    rng = np.random.default_rng(11)
    (real,) = read_runs([logs / "merged_libero_10.json"])
    rates = np.array([cell["rate"] for cell in summarise(real.results)["tasks"]]) * 0.8
    rounds, each = 250, 10
    found = {"row": 0, "tasks": 0, "within tasks": 0, "covered": 0}
    for _ in range(rounds):
        scenes = np.clip(rates[:, None] + rng.normal(0, 0.2, (len(rates), each)), 0, 1)  # pairs share their scene
        a, b = (run(name, rng.random(scenes.shape) < scenes) for name in "ab")
        one = contrast(a, b)
        found["row"] += one.p_value <= 0.05
        found["tasks"] += one.p_tasks <= 0.05  # type: ignore[operator]
        found["covered"] += one.low <= 0 <= one.high
        apart = contrast(
            a, Run("b", tuple(replace(r, row=replace(r.row, init=r.row.init + 50)) for r in b.results), a.path)
        )
        assert apart.pairing == "none"
        found["within tasks"] += apart.p_value <= 0.05
    bound = 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5  # three standard errors of the simulation
    assert all(found[name] / rounds < bound for name in ("row", "tasks", "within tasks")), found
    assert found["covered"] / rounds > 0.93


def test_where_tasks_differ_by_chance_only_the_test_over_tasks_keeps_its_level():
    """Policies equal on average over tasks, better in some and worse in others: rows of a task are not independent."""
    rng = np.random.default_rng(2)
    rows = tasks = 0
    for _ in range(150):
        shift = rng.choice((-0.3, 0.3), 8)
        a, b = (run(n, rng.random((8, 20)) < (0.5 + s * shift / 2)[:, None]) for n, s in (("a", 1), ("b", -1)))
        found = contrast(a, b)
        rows += found.p_value <= 0.05
        tasks += found.p_tasks <= 0.05  # type: ignore[operator]
    assert tasks / 150 < 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5
    assert rows / 150 > 0.1


def test_several_comparisons_are_corrected(logs):
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    runs = [run(name, rng.random((5, 20)) < rate) for name, rate in zip("abcd", (0.9, 0.7, 0.85, 0.6), strict=True)]
    found = compare_runs(runs)
    assert [(one.first, one.second) for one in found] == [("a", "b"), ("a", "c"), ("a", "d")]
    assert [one.p_holm for one in found] == pytest.approx(multipletests([o.p_value for o in found], method="holm")[1])
    alone = contrast(runs[0], runs[1])
    assert found[0].smallest > alone.smallest  # type: ignore[operator]
    assert len(compare_runs(runs, all_pairs=True)) == 6


def test_rows_that_do_not_pair_are_compared_within_tasks():
    from scipy.stats import fisher_exact

    a, b = run("a", [[1] * 18 + [0] * 2]), run("b", [[1] * 10 + [0] * 10], start=50)
    (found,) = compare_runs([a, b])
    assert (found.pairing, found.n, found.only_first, found.p_tasks) == ("none", 40, None, None)
    assert found.p_value == pytest.approx(fisher_exact([[18, 2], [10, 10]])[1])
    assert "independent samples" in found.warnings[0]
    other = run("c", [[1] * 5 + [0] * 5], task="other")
    (found,) = compare_runs([a, other])
    assert any("no task in common" in warning for warning in found.warnings)


def test_tasks_of_the_same_words_in_other_scenes_are_tasks_of_their_own():
    def scenes(name, solved):
        parts = [
            run(name, [column], task=f"KITCHEN_SCENE{place}_open_the_drawer_") for place, column in enumerate(solved)
        ]
        return Run(name, tuple(result for part in parts for result in part.results), parts[0].path)

    first, second = scenes("a", [[1] * 8, [1] * 8]), scenes("b", [[0] * 8, [1] * 7 + [0]])
    (found,) = compare_runs([first, second])
    assert found.pairing == "row" and found.clustered is not None  # of two tasks, not of one
    assert found.p_tasks == 0.5  # of the four ways to give two differences a sign, two are as far out


def test_who_is_better_is_said_by_the_test_within_tasks_not_by_the_shares_of_easy_ones(tmp_path):
    """Simpson's paradox: the first is better at both tasks and has most of its rows in the hard one."""
    first = run("first", [[1] * 10, [1] * 60 + [0] * 140])
    second = run("second", [[1] * 170 + [0] * 30, [0] * 10], start=500)
    (found,) = compare_runs([first, second])
    assert found.pairing == "none" and found.p_value < 0.05 and found.difference < 0 and found.favoured == "first"
    assert any("Task by task first" in warning for warning in found.warnings)
    page = write_comparison(tmp_path, [first, second], [found]).read_text()
    assert "<b>first</b> is better" in page and "<b>second</b> is better" not in page
    (swapped,) = compare_runs([second, first])
    assert swapped.favoured == "first" and swapped.p_value == pytest.approx(found.p_value)
    (same,) = compare_runs([first, replace(first, name="again")])
    assert same.favoured == "" and same.p_value == 1.0


def test_names_come_from_folders_and_can_be_given(tmp_path):
    for name in ("x/trained", "x/untrained", "y/trained"):
        (tmp_path / name).mkdir(parents=True)
        write_results(tmp_path / name / "results.parquet", [Result(Row("s", "t", 0, 0), "success")])
    found = read_runs([tmp_path / "x", tmp_path / "y" / "trained" / "results.parquet"])
    assert [one.name for one in found] == ["x/trained", "x/untrained", "y/trained"]
    assert [one.name for one in read_runs([tmp_path / "x"], ["a", "b"])] == ["a", "b"]
    with pytest.raises(ConfigError, match="2 runs"):
        read_runs([tmp_path / "x"], ["a"])
    with pytest.raises(ConfigError, match="there twice"):
        read_runs([tmp_path / "x" / "trained", tmp_path / "x" / "trained"])


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        read_runs([tmp_path / "nowhere"])
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match=r"results\.parquet or logs"):
        read_runs([tmp_path])
    with pytest.raises(ConfigError, match="at least two"):
        compare_runs([run("a", [[1]])])
    lost = Run("lost", (Result(Row("libero_goal", "t0", 0, 0), "error", error="x"),), tmp_path)
    with pytest.raises(ConfigError, match="no row that both finished"):
        compare_runs([run("a", [[1]]), lost])
