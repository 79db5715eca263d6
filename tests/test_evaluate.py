"""Evaluation through its public functions, over real processes that really die."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fake_benchmark as fake
import pytest

import vla.evaluate
from vla.errors import ConfigError, DataError, SpecMismatch, UnknownName, VlaError
from vla.evaluate import run_rows
from vla.recordings import choose_rows, read_recordings
from vla.results import Result, compare, read_results, summarise, write_results
from vla.rows import Row


def rows(*inits, task="reach right", seed=0):
    return [Row("points", task, init, seed) for init in inits]


def run(rows_, out, benchmark=None, policy=None, **options):
    options = {"progress": False, "execute": 8} | options
    return run_rows(rows_, benchmark or fake.Config(), policy or fake.PolicyConfig(), out, **options)


def test_rows_in_results_out(tmp_path):
    wanted = rows(0, 1, 2) + rows(0, 1, task="reach left")
    results = run(wanted, tmp_path / "run", workers=2, name="right")
    assert [result.row for result in results] == wanted
    assert [result.status for result in results] == ["success"] * 3 + ["failure"] * 2
    assert all(result.steps == 30 and result.inferences == 4 for result in results[3:])
    assert all(0 < result.latency_s < 1 and result.wall_s > 0 and result.checkpoint == "a" for result in results)
    assert results[0].policy == "right" and results[0].embodiment == fake.libero_panda(32).fingerprint
    assert set(results[0].versions) >= {"python", "numpy", "vla-stack"} and "torch" not in results[0].versions
    assert read_results(tmp_path / "run") == sorted(results, key=lambda result: result.row)
    assert not list((tmp_path / "run").glob(".*"))


def test_the_number_of_workers_changes_nothing(tmp_path):
    wanted = rows(*range(4)) + rows(*range(4), task="reach left")
    one, two = (run(wanted, tmp_path / str(n), workers=n) for n in (1, 2))
    assert [(r.row, r.status, r.steps, r.actions) for r in one] == [(r.row, r.status, r.steps, r.actions) for r in two]
    assert all(len(r.actions) == 16 for r in one) and one[0].actions != one[4].actions


def test_a_worker_keeps_its_task(tmp_path):
    run([row for init in range(4) for task in fake.TASKS for row in rows(init, task=task)], tmp_path / "run",
        benchmark=fake.Config(flags=str(tmp_path), pause=0.05), workers=2)  # fmt: skip
    lines = [line.split(" ") for line in (tmp_path / "opened").read_text().splitlines()]
    changes = 0
    for process in {line[0] for line in lines}:
        tasks = [line[2] for line in lines if line[0] == process]
        changes += sum(a != b for a, b in itertools.pairwise(tasks))
    assert changes <= 2  # a worker that is done with its own task helps with the other
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_what_is_finished_is_not_run_again(tmp_path):
    config = fake.Config(flags=str(tmp_path))
    wanted = rows(0, 1, 2)
    first = run(wanted, tmp_path / "run", benchmark=config)
    lines = (tmp_path / "run" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "rows.jsonl").write_bytes(lines[0] + lines[1] + lines[2][:40])  # torn by a crash
    again = run(wanted, tmp_path / "run", benchmark=config)
    opened = Counter(line.split(" ", 1)[1] for line in (tmp_path / "opened").read_text().splitlines())
    torn = json.loads(lines[2])["init"]
    assert opened == {f"reach right {init} 0": 2 if init == torn else 1 for init in range(3)}
    assert [(r.row, r.status, r.steps) for r in again] == [(r.row, r.status, r.steps) for r in first]
    assert len((tmp_path / "run" / "rows.jsonl").read_bytes().splitlines()) == 3


def test_another_protocol_is_refused(tmp_path):
    out = tmp_path / "run"
    run(rows(0, 1), out)
    before = (out / "rows.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="execute: 8 there, 4 now"):
        run(rows(0, 1), out, execute=4)
    with pytest.raises(ConfigError, match=r"policy\.weights: 'a' there, 'b' now"):
        run(rows(0, 1), out, policy=fake.PolicyConfig(weights="b"))
    with pytest.raises(ConfigError, match=r"benchmark\.max_steps: 30 there, 31 now"):
        run(rows(0, 1), out, benchmark=fake.Config(max_steps=31))
    with pytest.raises(ConfigError, match="rows: 2 there, 3 now, 2 in both"):
        run(rows(0, 1, 2), out)
    assert (out / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize("finished", [1, 2])
def test_weights_that_changed_under_the_same_name_are_refused(tmp_path, finished):
    weights = tmp_path / "weights"
    weights.write_text("first")
    policy = fake.PolicyConfig(weights=str(weights))
    out = tmp_path / "run"
    run(rows(0, 1), out, policy=policy)
    lines = (out / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (out / "rows.jsonl").write_bytes(b"".join(lines[:finished]))
    weights.write_text("second")
    with pytest.raises(ConfigError, match="checkpoint: 'first' there, 'second' now"):
        run(rows(0, 1), out, policy=policy)


def test_weights_that_cannot_be_told_are_not_taken_for_those_of_finished_rows(tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("first")
    policy = fake.PolicyConfig(weights=str(weights))
    run(rows(0), tmp_path / "run", policy=policy)
    weights.write_bytes(b"\xff")  # its fingerprint raises
    with pytest.raises(VlaError, match="cannot tell which policy this is: UnicodeDecodeError"):
        run(rows(0), tmp_path / "run", policy=policy)


def test_a_damaged_line_is_an_error(tmp_path):
    run(rows(0, 1), tmp_path / "run")
    path = tmp_path / "run" / "rows.jsonl"
    path.write_bytes(b'{"suite": 1}\n' + path.read_bytes())
    with pytest.raises(DataError, match="line 1"):
        run(rows(0, 1), tmp_path / "run")


def test_crashes_cost_their_row_only_and_are_no_failures(tmp_path):
    broken = (fake.KILLED_ALWAYS, fake.KILLED_ONCE, fake.RAISES, fake.FAULT, fake.STARVES)
    wanted = rows(0, *broken[:1], 1, *broken[1:], 2)
    results = {r.row.init: r for r in run(wanted, tmp_path / "run", fake.Config(flags=str(tmp_path)), workers=2)}
    assert all(results[init].success and results[init].attempts == 1 for init in (0, 1, 2))
    killed = results[fake.KILLED_ALWAYS]
    assert (killed.status, killed.attempts) == ("error", 2) and "SIGKILL" in killed.error
    assert (results[fake.KILLED_ONCE].status, results[fake.KILLED_ONCE].attempts) == ("success", 2)
    assert results[fake.RAISES].error == "RuntimeError: the simulator has a bug"
    assert results[fake.FAULT].error == "BodyFault: the arm stopped answering"
    total = summarise(list(results.values()))["total"]
    assert (total["n"], total["successes"], total["errors"]) == (4, 4, 4)
    assert total["error_kinds"] == {"crash": 2, "fault": 1, "out of memory": 1}
    assert "MemoryError" in results[fake.STARVES].error and results[fake.STARVES].attempts == 2
    assert all((r.error_kind == "") == (r.status != "error") for r in results.values())
    assert all(r.error_kind == results[r.row.init].error_kind for r in read_results(tmp_path / "run"))
    assert "the simulator has a bug" in (tmp_path / "run" / "workers.log").read_text()


def test_a_process_that_cannot_begin_a_row_hands_it_on_untried(tmp_path):
    leaves = Row("points", "reach right", 0, fake.POLICY_LEAVES)
    results = run([leaves, *rows(1)], tmp_path / "run", policy=fake.PolicyConfig(flags=str(tmp_path)), workers=1)
    assert [(r.status, r.attempts) for r in results] == [("success", 1)] * 2
    assert len((tmp_path / "policies").read_text().split()) == 2


def test_errors_can_be_tried_again(tmp_path):
    config = fake.Config(flags=str(tmp_path))
    row = rows(fake.FAULT, 0)
    run(row, tmp_path / "run", config)
    run(row, tmp_path / "run", config)
    assert (tmp_path / "opened").read_text().count(f" {fake.FAULT} ") == 1
    run(row, tmp_path / "run", config, retry_errors=True)
    assert (tmp_path / "opened").read_text().count(f" {fake.FAULT} ") == 2
    assert (tmp_path / "opened").read_text().count(" 0 0") == 1


def test_a_row_that_hangs_ends(tmp_path):
    results = run(rows(fake.HANGS, 0), tmp_path / "run", row_timeout_s=0.7)
    assert [(r.status, r.attempts) for r in results] == [("error", 2), ("success", 1)]
    assert (results[0].error, results[0].error_kind) == ("no answer after 0.7 s", "time-out")


def test_a_process_that_takes_too_much_memory_costs_its_row(tmp_path):
    results = run(rows(0, fake.EATS, 1), tmp_path / "run", memory_gb=0.6)
    assert [(r.status, r.error_kind, r.attempts) for r in results] == [
        ("success", "", 1),
        ("error", "out of memory", 2),
        ("success", "", 1),
    ]
    assert "0.60 allowed" in results[1].error
    with pytest.raises(ConfigError, match="memory"):
        run(rows(0), tmp_path / "b", memory_gb=0)


def test_what_cannot_run_at_all_stops_the_run(tmp_path):
    with pytest.raises(UnknownName, match="reach right"):
        run(rows(0, task="reach rihgt"), tmp_path / "a")
    with pytest.raises(VlaError, match="RuntimeError: no such weights"):
        run(rows(0), tmp_path / "b", policy=fake.PolicyConfig(broken=True))
    with pytest.raises(ConfigError, match="each once"):
        run(rows(0, 0), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_policy_for_another_embodiment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_OTHER_EMBODIMENT", "1")
    with pytest.raises(SpecMismatch, match="rate is 5 Hz here, 20 Hz there"):
        run(rows(0), tmp_path / "a")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import fake_benchmark as fake
from pathlib import Path
from vla.evaluate import run_rows
from vla.rows import Row
if __name__ == "__main__":
    rows = [Row("points", "reach right", init, 0) for init in range(40)]
    run_rows(rows, fake.Config(flags={flags!r}, pause=0.2), fake.PolicyConfig(), Path({out!r}), workers=2, execute=8)
"""


def start_script(tmp_path):
    script = tmp_path / "script.py"
    out = tmp_path / "run"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), flags=str(tmp_path), out=str(out)))
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 30
    opened = tmp_path / "opened"
    while (
        not (out / "rows.jsonl").exists()
        or (out / "rows.jsonl").read_bytes().count(b"\n") < 3
        or len({line.split()[0] for line in opened.read_text().splitlines()}) < 2  # both workers are at it
    ):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process, out


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_ctrl_c_stops_the_workers_and_keeps_what_is_done(tmp_path):
    process, out = start_script(tmp_path)
    with pytest.raises(ConfigError, match="being written to by another process"):
        run(rows(0), out)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors  # the parent's own
    pids = {line.split()[0] for line in (tmp_path / "opened").read_text().splitlines()}
    assert not alive(pids)
    assert len(list(tmp_path.glob("closed-*"))) == len(pids) == 2
    assert 3 <= (out / "rows.jsonl").read_bytes().count(b"\n") < 40
    assert not (out / "results.parquet").exists()


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    process, _ = start_script(tmp_path)
    process.kill()
    process.wait()
    pids = {line.split()[0] for line in (tmp_path / "opened").read_text().splitlines()}
    deadline = time.monotonic() + 15
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pids)


def result(status, init=0, task="a", steps=10):
    return Result(Row("s", task, init, 0), status, steps=steps, latency_s=math.nan)


def test_summary_counts_errors_apart():
    results = [result("success", 0), result("failure", 1, steps=30), result("error", 2), result("error", 0, "b")]
    summary = summarise(results)
    a, b = summary["tasks"]
    assert (a["task"], a["n"], a["successes"], a["errors"], a["mean_steps"], a["rate"]) == ("a", 2, 1, 1, 20, 0.5)
    assert (b["n"], b["rate"], b["low"], b["high"], b["errors"], b["mean_steps"]) == (0, None, 0.0, 1.0, 1, None)
    assert summary["total"]["n"] == 2 and summary["total"]["errors"] == 2
    json.dumps(summary, allow_nan=False)


def test_comparison_pairs_by_row():
    first = [result("success", i) for i in range(9)] + [result("failure", 9), result("error", 10)]
    second = [result("failure", i) for i in range(8)] + [result("success", i) for i in (8, 9, 10)]
    found = compare(first, list(reversed(second)))
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 8, 1, 0)
    assert (found.n, found.left_out) == (10, 1)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.difference == pytest.approx(0.7) and found.low < 0.7 < found.high
    json.dumps(found.to_json())


def test_comparison_of_different_rows_is_refused():
    first, second = [result("success", 0), result("success", 1)], [result("success", 1), result("failure", 2)]
    with pytest.raises(ConfigError, match="2 rows are on one side only"):
        compare(first, second)
    assert compare(first, second, allow_missing=True).n == 1
    with pytest.raises(ConfigError, match="no row"):
        compare([result("error", 0)], [result("success", 0)])
    with pytest.raises(ConfigError, match="twice"):
        compare([result("success", 0)] * 2, [result("success", 0)])


def test_results_merge_and_damaged_files_are_named(tmp_path):
    write_results(tmp_path / "a.parquet", [result("success", 0)])
    write_results(tmp_path / "b.parquet", [result("error", 1)])
    assert [r.row.init for r in read_results(tmp_path / "b.parquet", tmp_path / "a.parquet")] == [0, 1]
    with pytest.raises(ConfigError, match="twice"):
        read_results(tmp_path / "a.parquet", tmp_path / "a.parquet")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:100])
    with pytest.raises(DataError, match=r"c\.parquet"):
        read_results(tmp_path / "c.parquet")
    with pytest.raises(DataError, match="nowhere"):
        read_results(tmp_path / "nowhere.parquet")


def test_a_full_disk_leaves_no_parquet_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vla.evaluate, "write_results", full)
    with pytest.raises(OSError, match="No space"):
        run(rows(0), tmp_path / "run")
    assert not (tmp_path / "run" / "results.parquet").exists()
    assert (tmp_path / "run" / "rows.jsonl").read_bytes().count(b"\n") == 1


def test_failures_are_shown_first_and_tasks_in_turn():
    results = [result("success", 0, "a"), result("failure", 1, "a"), result("failure", 2, "a")]
    results += [result("error", 0, "b"), result("failure", 1, "b"), result("success", 2, "b")]
    chosen = [(row.task, row.init) for row in choose_rows(results, 10)]
    assert chosen == [("a", 1), ("b", 1), ("a", 2), ("a", 0), ("b", 2)]
    assert len(choose_rows(results, 2)) == 2


def test_chosen_rows_are_recorded_afterwards_and_only_once(tmp_path):
    wanted = rows(0, 1, fake.FAULT) + rows(0, 1, task="reach left")
    config = fake.Config(flags=str(tmp_path))
    results = run(wanted, tmp_path / "run", config, videos=3, recordings=1)
    again = run(wanted, tmp_path / "run", config, videos=3, recordings=1)
    assert (tmp_path / "opened").read_text().count("\n") == 5 + 3
    assert [r.status for r in again] == [r.status for r in results]
    entries = read_recordings(tmp_path / "run")
    assert [(e["row"]["task"], e["row"]["init"], e["status"]) for e in entries] == [
        ("reach left", 0, "failure"),
        ("reach left", 1, "failure"),
        ("reach right", 0, "success"),
    ]
    assert all(entry["measured"] == entry["status"] for entry in entries)
    assert [bool(entry["rrd"]) for entry in entries] == [True, False, False]
    assert all((tmp_path / "run" / entry["video"]).stat().st_size > 500 for entry in entries)
    assert (tmp_path / "run" / entries[0]["rrd"]).stat().st_size > 10_000
    assert len(read_results(tmp_path / "run")) == 5


@pytest.mark.parametrize("counts", [{"videos": -1}, {"recordings": -2, "videos": 1}])
def test_fewer_recordings_than_none_are_refused_before_anything_runs(tmp_path, counts):
    with pytest.raises(ConfigError, match="from 0 on"):
        run(rows(0), tmp_path / "run", **counts)
    assert not (tmp_path / "run").exists()


def test_any_row_can_be_recorded_afterwards_as_it_was_measured(tmp_path):
    wanted = rows(0, 1) + rows(0, task="reach left")
    out, config = tmp_path / "run", fake.Config(flags=str(tmp_path))
    results = run(wanted, out, config, videos=1)
    made = {"benchmark": config, "policy": fake.PolicyConfig()}
    with pytest.raises(ConfigError, match=r"fake_benchmark\.Config"):  # a file never decides what is imported
        vla.evaluate.record_rows(out, wanted[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vla.evaluate, "restore", lambda value: made["policy" if "weights" in value else "benchmark"])
        (job,) = vla.evaluate.record_rows(out, wanted[1:2], videos=False)
        with pytest.raises(ConfigError, match="has no result of"):
            vla.evaluate.record_rows(out, rows(7))
        made["policy"] = fake.PolicyConfig(weights="trained since")
        with pytest.raises(ConfigError, match="checkpoint: 'a' there, 'trained since' now"):
            vla.evaluate.record_rows(out, wanted[:1], videos=False)
    assert job.rrd and job.rrd.stat().st_size > 10_000 and job.video is None
    entries = read_recordings(out)
    assert [(e["row"]["task"], bool(e["video"]), bool(e["rrd"])) for e in entries] == [
        ("reach left", True, False),
        ("reach right", False, True),
    ]
    assert entries[1]["status"] == entries[1]["measured"] == "success" and entries[1]["steps"] == results[1].steps
