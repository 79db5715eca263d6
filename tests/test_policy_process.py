"""One policy for many simulators: the same answers in whatever order, and whoever dies takes one row along."""

import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import fake_benchmark as fake
import pytest

import vla.policy_process
from vla.errors import ConfigError, VlaError
from vla.evaluate import run_rows
from vla.policy_process import PolicyFacts, PolicyProcess, Seat
from vla.rows import Row
from vla.shared_frames import SharedFrames
from vla.workers import Unequipped

ROWS = [Row("points", task, init, init) for task in fake.TASKS for init in range(4)]


def run(out, rows=ROWS, policy=None, *, flags="", **options):
    options = {"progress": False, "execute": 8, "workers": 3, "batch": 2} | options
    policy = policy or fake.PolicyConfig(batches=True)
    return run_rows(rows, fake.Config(flags=str(flags)), policy, out, **options)


def said(results):
    return [(r.row, r.status, r.steps, r.actions, r.attempts) for r in results]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """By one simulator, nothing broken."""
    return run(tmp_path_factory.mktemp("quiet") / "run", workers=1)


def test_processes_and_their_order_change_nothing_the_batch_size_does(tmp_path, quiet):
    policy = fake.PolicyConfig(batches=True, flags=str(tmp_path))
    three = run(tmp_path / "3", ROWS[::-1], policy)
    assert said(three[::-1]) == said(quiet) and len({r.actions for r in quiet}) == len(ROWS)
    assert len((tmp_path / "policies").read_text().split()) == 1
    assert "2" in (tmp_path / "batches").read_text().split()
    (other,) = run(tmp_path / "4", ROWS[:1], batch=4)
    assert other.actions != quiet[0].actions and other.protocol["batch"] == 4
    with pytest.raises(ConfigError, match="batch: 2 there, 4 now"):
        run(tmp_path / "3", ROWS[::-1], policy, batch=4)


def test_a_policy_that_cannot_batch_gives_what_it_gives_alone(tmp_path):
    policy, rows = fake.PolicyConfig(), ROWS[2:6]
    alone = run(tmp_path / "b", rows, policy, batch=None, workers=1)
    assert said(run(tmp_path / "a", rows, policy, workers=2)) == said(alone)


def test_what_breaks_costs_its_row_and_the_policy_stays(tmp_path, quiet):
    inits = (fake.KILLED_ALWAYS, fake.KILLED_ONCE, fake.HANGS)
    seeds = (fake.POLICY_RAISES, fake.POLICY_FAULTS, fake.POLICY_STARVES)
    broken = [Row("points", "reach right", init, 0) for init in inits]
    broken += [Row("points", "reach right", 0, seed) for seed in seeds]
    policy = fake.PolicyConfig(batches=True, flags=str(tmp_path))
    results = run(tmp_path / "run", [*broken, *ROWS], policy, flags=tmp_path, row_timeout_s=4.0)
    assert [(r.status, r.error_kind, r.attempts) for r in results[:6]] == [
        ("error", "crash", 2),
        ("success", "", 2),
        ("error", "time-out", 2),
        ("error", "crash", 2),
        ("error", "fault", 1),
        ("error", "out of memory", 2),
    ]
    assert "the policy has a bug" in results[3].error and results[4].error == "PolicyFault: the policy gave up"
    assert said(results[6:]) == said(quiet)
    assert len((tmp_path / "policies").read_text().split()) == 1


def test_a_policy_that_dies_is_started_again(tmp_path, quiet):
    policy = fake.PolicyConfig(batches=True, flags=str(tmp_path))
    rows = [Row("points", "reach right", 0, fake.POLICY_DIES), *ROWS[4:]]
    results = run(tmp_path / "run", rows, policy, workers=2)
    assert all(r.status != "error" for r in results) and results[0].attempts == 2
    assert len((tmp_path / "policies").read_text().split()) == 2
    assert [r.actions for r in results[1:]] == [r.actions for r in quiet[4:]]


def test_a_simulator_whose_policy_died_before_an_episode_begins_none():
    ours, theirs = Pipe()
    policy = Seat(ours, SharedFrames(()), PolicyFacts(fake.PointPolicy(fake.PolicyConfig()).spec, "")).make()
    policy.reset("reach right", seed=0)
    theirs.close()
    with pytest.raises(Unequipped, match="died before the episode"):
        policy.reset("reach right", seed=1)


def test_a_policy_that_cannot_be_made_stops_the_run(tmp_path):
    with pytest.raises(VlaError, match="RuntimeError: no such weights"):
        run(tmp_path / "a", policy=fake.PolicyConfig(broken=True))
    with pytest.raises(ConfigError, match="at least one observation"):
        run(tmp_path / "b", batch=0)


def test_a_policy_that_is_never_loaded_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(vla.policy_process, "LOADING_S", 0.2)
    monkeypatch.setattr(vla.policy_process, "STOP_S", 0.2)
    policy = PolicyProcess(fake.PolicyConfig(hangs=True), 2)
    with pytest.raises(VlaError, match=r"not loaded after 0\.2 s"), policy, policy.seat():
        pass
    assert policy.pid is None


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import fake_benchmark as fake
from pathlib import Path
from vla.evaluate import run_rows
from vla.rows import Row
if __name__ == "__main__":
    rows = [Row("points", "reach right", init, init) for init in range(20)]
    run_rows(rows, fake.Config(flags={flags!r}, pause=0.1), fake.PolicyConfig(batches=True, flags={flags!r}),
             Path({out!r}), workers=2, execute=8, batch=2)
"""


def test_nobody_outlives_a_killed_parent_and_the_run_goes_on(tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), flags=str(tmp_path), out=str(out)))
    before = set(Path("/dev/shm").iterdir())
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (out / "rows.jsonl").exists() or (out / "rows.jsonl").read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait(timeout=30)
    pids = {line.split()[0] for name in ("opened", "policies") for line in (tmp_path / name).read_text().splitlines()}
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(pids) >= 3 and set(Path("/dev/shm").iterdir()) <= before
    lines = (out / "rows.jsonl").read_bytes()
    done = lines[: lines.rfind(b"\n") + 1].count(b"\n")
    assert 3 <= done < 20
    (tmp_path / "opened").unlink()
    rows = [Row("points", "reach right", init, init) for init in range(20)]
    policy = fake.PolicyConfig(batches=True, flags=str(tmp_path))
    results = run_rows(
        rows, fake.Config(flags=str(tmp_path), pause=0.1), policy, out, execute=8, batch=2, workers=2, progress=False
    )
    assert len(results) == 20 and (tmp_path / "opened").read_text().count("\n") == 20 - done
    assert (out / "rows.jsonl").read_bytes().count(b"\n") == 20


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False
