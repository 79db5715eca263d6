"""The same rows on a Ray cluster: two workers of a local one, results bit for bit those without it."""

from pathlib import Path

import fake_benchmark as fake
import pytest

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
        for left in (2, 1, 0):
            try:
                ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
                break
            except Exception:  # it gives its own processes 30 s to start, which a busy machine may not keep
                ray.shutdown()
                if not left:
                    raise
        yield LOCAL
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_results_resumed_with_crashes_and_hangs_told(tmp_path, cluster):
    here = run(tmp_path / "here")
    run(tmp_path / "there", ROWS, cluster=cluster)
    lines = (tmp_path / "there" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "there" / "rows.jsonl").write_bytes(b"".join(lines[:2]))
    there = run(tmp_path / "there", ROWS, cluster=cluster)  # goes on
    assert [(r.row, r.status, r.steps, r.actions) for r in there] == [
        (r.row, r.status, r.steps, r.actions) for r in here
    ]
    inits = (fake.KILLED_ALWAYS, fake.KILLED_ONCE, fake.RAISES, fake.FAULT, fake.HANGS, fake.STARVES)
    broken = [Row("points", "reach right", init, 0) for init in inits]
    found = run(tmp_path / "broken", [*ROWS[3:], *broken], flags=tmp_path, cluster=cluster, row_timeout_s=5.0)
    assert [(r.status, r.actions) for r in found[:3]] == [(r.status, r.actions) for r in here[3:]]
    assert [(r.status, r.error_kind, r.attempts) for r in found[3:]] == [
        ("error", "crash", 2),
        ("success", "", 2),
        ("error", "crash", 2),
        ("error", "fault", 1),
        ("error", "time-out", 2),
        ("error", "out of memory", 2),
    ]


def test_what_does_not_go_together_is_said(tmp_path):
    with pytest.raises(ConfigError, match="leave out the batch size"):
        run(tmp_path / "a", batch=2, cluster=LOCAL)


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DependencyMissing, match=r"vla-stack\[ray\]"):
        vla.ray_crew.RayCrew(lambda: None, 1, LOCAL)  # pyright: ignore
