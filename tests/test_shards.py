"""Shards: every row once, joined only if they are parts of one evaluation, and the same as one run."""

import json
from dataclasses import replace

import fake_benchmark as fake
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.errors import ConfigError, DataError
from vla.evaluate import run_rows
from vla.protocol_libero import PROTOCOLS
from vla.recordings import read_recordings
from vla.results import read_results
from vla.rows import Row
from vla.shards import Shard, join

ROWS = [Row("points", task, init, init) for task in fake.TASKS for init in range(3)]


def run(out, number=None, of=2, rows=ROWS, **options):
    shard = None if number is None else Shard(number, of)
    options = {"progress": False, "execute": 8, "protocol": PROTOCOLS["ours"]} | options
    benchmark, policy = options.pop("benchmark", fake.Config()), options.pop("policy", fake.PolicyConfig())
    return run_rows(rows, benchmark, policy, out, shard=shard, **options)


def merge(folders, out, **options):
    return join(folders, out, **options).write()


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_parts_have_every_row_once_and_are_alike_in_size(counts):
    n, of = counts
    rows = [Row("s", "t", init, 0) for init in range(n)]
    parts = [Shard(number, of).part(rows) for number in range(1, of + 1)]
    assert [row for part in parts for row in part] == rows
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ConfigError, match="i/n"):
        Shard.parse(text)
    assert Shard.parse("2/8") == Shard(2, 8)
    with pytest.raises(ConfigError, match="cannot be divided"):
        Shard(1, 3).part(ROWS[:2])


def test_merged_parts_are_the_run_of_one_machine_and_can_be_resumed(tmp_path):
    whole = run(tmp_path / "whole", videos=2)
    parts = [run(tmp_path / str(number), number, videos=1) for number in (1, 2)]
    assert [len(part) for part in parts] == [3, 3]
    merged = merge([tmp_path / "2", tmp_path / "1"], tmp_path / "merged")
    assert [(r.row, r.status, r.steps) for r in merged] == [(r.row, r.status, r.steps) for r in whole]
    assert read_results(tmp_path / "merged") == sorted(merged, key=lambda result: result.row)
    assert all(result.protocol["name"] == "ours" and result.protocol["execute"] == 8 for result in merged)
    protocols = [json.loads((tmp_path / name / "protocol.json").read_text()) for name in ("whole", "merged")]
    assert protocols[0] == protocols[1]
    films = read_recordings(tmp_path / "merged")
    assert len(films) == 2 and films[0]["measured"] == "failure"
    assert all((tmp_path / "merged" / film["video"]).exists() for film in films)
    again = run(tmp_path / "merged", videos=2)
    assert again == merged


def test_a_part_cannot_name_films_outside_its_folder(tmp_path):
    """A part comes from another machine; merging copies what it lists."""
    run(tmp_path / "part", rows=ROWS[:1], videos=1)
    path = tmp_path / "part" / "recordings.json"
    (listed,) = json.loads(path.read_text())
    for name in ("../outside", "/outside", "videos/../../outside"):
        path.write_text(json.dumps([listed | {"video": name}]))
        with pytest.raises(DataError, match="inside this folder"):
            merge([tmp_path / "part"], tmp_path / "merged")
    path.write_text(json.dumps([{"name": "a"}]))
    with pytest.raises(DataError, match="entry 0: expected an object with measured"):
        merge([tmp_path / "part"], tmp_path / "merged")
    assert not (tmp_path / "merged" / "protocol.json").exists()


def test_a_part_is_resumed_as_that_part_only(tmp_path):
    run(tmp_path / "1", 1)
    with pytest.raises(ConfigError, match=r"shard\.number: 1 there, 2 now"):
        run(tmp_path / "1", 2)
    with pytest.raises(ConfigError, match=r"shard.*there, None now"):
        run(tmp_path / "1")
    with pytest.raises(ConfigError, match=r"shard\.rows: 6 there, 5 now, 5 in both"):
        run(tmp_path / "1", 1, rows=ROWS[:5])


def test_missing_rows_are_listed_and_can_be_allowed(tmp_path):
    run(tmp_path / "1", 1)
    run(tmp_path / "2", 2)
    lines = (tmp_path / "2" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "2" / "rows.jsonl").write_bytes(b"".join(lines[:1]) + lines[1][:30])  # stopped, its last line torn
    (tmp_path / "2" / "results.parquet").unlink()
    with pytest.raises(ConfigError, match=r"2 of 6 rows have no result yet:\n  - points/reach right init") as error:
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert str(error.value).count("\n") == 2 and not (tmp_path / "merged").exists()
    assert len(merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged", allow_missing=True)) == 4
    assert len(run(tmp_path / "merged")) == 6  # the missing ones are made up for


def test_rows_with_two_results_are_listed(tmp_path):
    run(tmp_path / "1", 1)
    run(tmp_path / "whole")
    with pytest.raises(
        ConfigError, match=r"3 rows have results in more than one folder:\n  - points/reach left init 0"
    ):
        merge([tmp_path / "1", tmp_path / "whole"], tmp_path / "merged")
    with pytest.raises(ConfigError, match="more than one folder"):
        merge([tmp_path / "1", tmp_path / "1"], tmp_path / "merged")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"execute": 4}, "execute: 8 there, 4 now"),
        ({"protocol": PROTOCOLS["openpi"]}, "protocol.name: 'ours' there, 'openpi' now"),
        ({"benchmark": fake.Config(max_steps=20)}, "benchmark.max_steps: 30 there, 20 now"),
        ({"policy": fake.PolicyConfig(weights="b")}, "checkpoint: 'a' there, 'b' now"),
        ({"rows": [replace(row, seed=row.seed + 1) for row in ROWS]}, "rows: 6 there, 6 now, 0 in both"),
    ],
)
def test_parts_of_different_evaluations_are_refused_by_name(tmp_path, changes, named):
    run(tmp_path / "1", 1)
    run(tmp_path / "2", 2, **changes)
    with pytest.raises(ConfigError) as error:
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert named in str(error.value) and str(tmp_path / "2") in str(error.value)
    assert not (tmp_path / "merged").exists()


def test_other_versions_are_refused_by_name(tmp_path):
    for number in (1, 2):
        run(tmp_path / str(number), number)
    path = tmp_path / "2" / "rows.jsonl"
    changed = [json.loads(line) for line in path.read_text().splitlines()]
    for line in changed:
        line["versions"] |= {"mujoco": "3.4.0", "numpy": "1.26.0"}
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    with pytest.raises(ConfigError) as error:
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert "version of mujoco: None there, '3.4.0' now" in str(error.value)
    assert "version of numpy" in str(error.value) and "version of python" not in str(error.value)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace("3.4.0", "3.3.2") + "".join(lines[1:]))
    with pytest.raises(ConfigError, match="was itself made with different versions"):
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="at least one worker, found -1"):
        run(tmp_path / "1", workers=-1)
    assert not list(tmp_path.iterdir())


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(DataError, match=r"protocol\.json"):
        merge([tmp_path], tmp_path / "merged")
    with pytest.raises(ConfigError, match="nothing to merge"):
        merge([], tmp_path / "merged")
    run(tmp_path / "1", 1, of=1)
    with pytest.raises(ConfigError, match="already holds a run"):
        merge([tmp_path / "1"], tmp_path / "1")
