"""Row files: what runs wrote names its rows again, and what is wrong in a file is named."""

import json

import pytest

from vla.errors import ConfigError, DataError
from vla.results import Result, write_results
from vla.rows import Row, read_rows, row_from_json

ROWS = [Row("libero_goal", "a", 0, 5), Row("libero_goal_swap", "b", -1, 6, 2.0)]


def test_rows_come_back_from_every_file_that_has_them(tmp_path):
    listed, run, results = tmp_path / "rows.json", tmp_path / "protocol.json", tmp_path / "results.parquet"
    listed.write_text(json.dumps([row.to_json() for row in ROWS]))
    run.write_text(json.dumps({"name": "x", "rows": [row.to_json() for row in ROWS]}))
    write_results(results, [Result(row, "failure") for row in ROWS])
    assert read_rows(listed) == read_rows(run) == read_rows(results) == ROWS
    listed.write_text('[{"suite": "s", "task": "t", "init": 1, "seed": 2}]')
    assert read_rows(listed) == [Row("s", "t", 1, 2)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "at least one"),
        ("{}", "a list"),
        ("[1", "JSON"),
        ("[1]", "row 0"),
        ('[{"suite": "s", "task": "t", "init": 1}]', "suite, task, init, seed"),
        ('[{"suite": "s", "task": "t", "init": 1, "seed": 2, "color": 3}]', "color"),
        ('[{"suite": "s", "task": 3, "init": 1, "seed": 2}]', "task cannot be 3"),
        ('[{"suite": "s", "task": "t", "init": true, "seed": 2}]', "init cannot be True"),
        ('[{"suite": "s", "task": "t", "init": -2, "seed": 2}]', "initial state -2"),
        ('[{"suite": "s", "task": "t", "init": 1, "seed": -2}]', "seed cannot be -2"),
        (
            '[{"suite": "s", "task": "t", "init": 1, "seed": 2}, {"suite": "s", "task": "t", "init": 1, "seed": 2}]',
            "again",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=named):
        read_rows(path)


def test_a_file_that_is_none(tmp_path):
    for name in ("rows.json", "rows.parquet"):
        with pytest.raises(DataError, match=name):
            read_rows(tmp_path / name)
    (tmp_path / "rows.parquet").write_text("x")
    with pytest.raises(DataError, match="Parquet"):
        read_rows(tmp_path / "rows.parquet")


def test_a_row_is_its_json():
    assert [row_from_json(row.to_json()) for row in ROWS] == ROWS
    with pytest.raises(ConfigError):
        row_from_json(None)
