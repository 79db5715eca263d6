"""The same rows on a Ray cluster: two workers of a local one, results bit for bit those without it."""

import subprocess
import sys
import time
from pathlib import Path

import fake_benchmark as fake
import pytest
from fake_ray import FakeRay

import vla.ray_crew
from vla.errors import ConfigError, DependencyMissing
from vla.evaluate import run_rows
from vla.ray_crew import Cluster
from vla.rows import Row

ROWS = [Row("points", task, init, init) for task in fake.TASKS for init in range(3)]
LOCAL = Cluster("local")


def run(out, rows=ROWS, *, flags="", **options):
    options = {"progress": False, "execute": 8, "workers": 2} | options
    return run_rows(rows, fake.Config(flags=str(flags)), fake.PolicyConfig(), out, **options)


@pytest.fixture(scope="module")
def cluster():
    """One for all runs of this file, which use what is there already."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # its workers import the fake benchmark
        vla.ray_crew.connect(LOCAL, 2)
        yield LOCAL
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_results_bit_for_bit_also_resumed(tmp_path, cluster):
    here = run(tmp_path / "here")
    run(tmp_path / "there", ROWS, cluster=cluster)
    lines = (tmp_path / "there" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "there" / "rows.jsonl").write_bytes(b"".join(lines[:2]))
    there = run(tmp_path / "there", ROWS, cluster=cluster)  # goes on
    assert [(r.row, r.status, r.steps, r.actions) for r in there] == [
        (r.row, r.status, r.steps, r.actions) for r in here
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_crashes_and_hangs_cost_their_row(tmp_path, cluster):
    here = run(tmp_path / "here", ROWS[3:])
    inits = (fake.KILLED_ALWAYS, fake.KILLED_ONCE, fake.RAISES, fake.FAULT, fake.HANGS, fake.STARVES)
    broken = [Row("points", "reach right", init, 0) for init in inits]
    found = run(tmp_path / "broken", [*ROWS[3:], *broken], flags=tmp_path, cluster=cluster, row_timeout_s=5.0)
    assert [(r.status, r.actions) for r in found[:3]] == [(r.status, r.actions) for r in here]
    assert [(r.status, r.error_kind, r.attempts) for r in found[3:]] == [
        ("error", "crash", 2),
        ("success", "", 2),
        ("error", "crash", 2),
        ("error", "fault", 1),
        ("error", "time-out", 2),
        ("error", "out of memory", 2),
    ]


SCRIPT = """
from pathlib import Path
import fake_benchmark as fake
from vla.evaluate import run_rows
from vla.ray_crew import Cluster
from vla.rows import Row
if __name__ == "__main__":
    rows = [Row("points", "reach right", init, init) for init in range(20)]
    run_rows(rows, fake.Config(flags={flags!r}, pause=0.3), fake.PolicyConfig(), Path({out!r}),
             workers=2, execute=8, cluster=Cluster("local"))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_takes_its_cluster_along_and_goes_on(tmp_path, cluster):
    script, out = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT.format(flags=str(tmp_path), out=str(out)))
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (out / "rows.jsonl").exists() or (out / "rows.jsonl").read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    pids = {line.split()[0] for line in (tmp_path / "opened").read_text().splitlines()}
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    lines = (out / "rows.jsonl").read_bytes()
    done = lines[: lines.rfind(b"\n") + 1]
    assert 3 <= done.count(b"\n") < 20
    rows = [Row("points", "reach right", init, init) for init in range(20)]
    config = fake.Config(flags=str(tmp_path), pause=0.3)
    options = {"workers": 2, "execute": 8, "progress": False}
    there = run_rows(rows, config, fake.PolicyConfig(), out, cluster=cluster, **options)
    here = run_rows(rows, config, fake.PolicyConfig(), tmp_path / "here", **options)
    assert [(r.row, r.status, r.steps, r.actions) for r in there] == [
        (r.row, r.status, r.steps, r.actions) for r in here
    ]
    now = (out / "rows.jsonl").read_bytes()
    assert now.startswith(done) and now.count(b"\n") == 20


class Doubles:
    def __init__(self):
        self.closed = False

    def __call__(self, job):
        return 2 * job

    def close(self):
        self.closed = True


@pytest.mark.timeout(30)
def test_a_cluster_with_fewer_places_than_workers_still_finishes(monkeypatch):
    ray = FakeRay(places=2)
    monkeypatch.setattr(vla.ray_crew, "connect", lambda *_: (ray, True))
    with vla.ray_crew.RayCrew(Doubles, 4, LOCAL) as crew:
        answers = {answer.job: (answer.value, answer.attempts) for answer in crew.run(range(10), timeout_s=5.0)}
    assert answers == {job: (2 * job, 1) for job in range(10)}
    assert len(ray.actors) == 4 and all(actor.killed for actor in ray.actors)


def test_all_actors_give_back_what_they_hold(monkeypatch):
    """Ray's wait returns at the first answer unless it is told for how many to wait."""
    ray, waits = FakeRay(places=3), []
    monkeypatch.setattr(vla.ray_crew, "connect", lambda *_: (ray, True))
    with vla.ray_crew.RayCrew(Doubles, 3, LOCAL) as crew:
        list(crew.run(range(6)))
        monkeypatch.setattr(ray, "wait", lambda calls, **options: waits.append((len(calls), options["num_returns"])))
    assert waits == [(3, 3)] and all(actor.made.handler.closed for actor in ray.actors)


def test_what_does_not_go_together_is_said(tmp_path):
    with pytest.raises(ConfigError, match="leave out the batch size"):
        run(tmp_path / "a", batch=2, cluster=LOCAL)


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DependencyMissing, match=r"vla-stack\[ray\]"):
        vla.ray_crew.RayCrew(lambda: None, 1, LOCAL)  # pyright: ignore
