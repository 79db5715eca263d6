"""``vla eval`` and what belongs to it, as users meet it."""

import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from served import SPEC, Known, served

from vla.commands import choices
from vla.commands.eval import with_run
from vla.commands.evaluate import Evaluate, compare_all, print_summary
from vla.commands.policy_choice import opened
from vla.commands.subject import find_subject
from vla.errors import ConfigError, DataError, UnknownName
from vla.experience import Observation
from vla.ledger import write_ledger
from vla.recordings import read_recordings
from vla.results import Result, read_results
from vla.rows import Row


@pytest.fixture
def logs(shared_data, tmp_path):
    """The given logs and a copy in which every tenth success failed."""
    ours, worse = shared_data / "libero_eval_logs", tmp_path / "worse"
    worse.mkdir()
    for path in ours.glob("*.json"):
        value = json.loads(path.read_text())
        solved = [episode for task in value["tasks"] for episode in task["episodes"] if episode["success"]]
        for episode in solved[::10]:
            episode["success"] = False
        (worse / path.name).write_text(json.dumps(value))
    return ours, worse


def test_eval_without_a_subcommand_runs():
    assert with_run(["eval", "ckpt", "--out", "x"]) == ["eval", "run", "ckpt", "--out", "x"]
    assert with_run(["--json", "eval", "--out", "x", "ckpt"])[:3] == ["--json", "eval", "run"]
    for same in (
        ["eval", "compare", "a"],
        ["eval", "--help"],
        ["train", "--out", "eval", "x"],
        ["data", "info", "eval"],
        [],
    ):
        assert with_run(same) == same


def test_compare_of_logs_as_json(vla, logs):
    code, out, _ = vla("eval", "compare", *logs, "--json")
    value = json.loads(out)
    (found,) = value["comparisons"]
    assert code == 0 and (found["pairing"], found["n"], found["only_second"]) == ("row", 2000, 0)
    assert found["p_value"] < 1e-20 and found["difference"] == pytest.approx(found["only_first"] / 2000)
    assert list(value["runs"]) == ["libero_eval_logs", "worse"]
    total = value["runs"]["worse"]["total"]
    assert total["clustered"][0] < total["rate"] < total["clustered"][1]
    assert len(value["runs"]["worse"]["suites"]) == 4 and len(value["runs"]["worse"]["tasks"]) == 40


def test_compare_for_people_and_as_a_page(vla, logs, tmp_path):
    code, out, _ = vla("eval", "compare", *logs, "--names", "first<b>", "second", "--out", tmp_path / "page")
    assert code == 0 and "libero_spatial" in out and "could" in out
    text = (tmp_path / "page" / "comparison.html").read_text()
    assert not re.search(r"https?:|//|<script|@import|url\(", text) and "first<b>" not in text
    ET.fromstring(re.sub(r"<(meta[^>]*)>", r"<\1/>", text.removeprefix("<!doctype html>")))  # well formed
    assert "first&lt;b&gt;</b> is better" in text and "exact McNemar" in text and "libero_10" in text
    assert "rows that only one of" in text


def test_compare_of_what_cannot_be(vla, logs, tmp_path):
    code, _, err = vla("eval", "compare", logs[0])
    assert code == 2 and "at least two runs" in err
    code, _, err = vla("eval", "compare", logs[0], tmp_path / "nowhere")
    assert code == 2 and "nowhere" in err


def test_merge_of_what_is_no_run(vla, tmp_path):
    code, _, err = vla("eval", "merge", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "protocol.json" in err


@pytest.mark.parametrize(("status", "said"), [("success", "rows"), ("error", "cannot be compared")])
def test_runs_that_miss_rows_or_have_errors_only_are_merged_with_a_report(vla, tmp_path, status, said):
    rows = [Row("libero_goal", "open_the_drawer", init, init) for init in range(3)]
    protocol = {"embodiment": None, "checkpoint": None, "rows": [row.to_json() for row in rows], "name": "x"}
    write_ledger(tmp_path / "part" / "trained", protocol, [Result(row, "success") for row in rows])
    write_ledger(tmp_path / "part" / "blank", protocol, [Result(row, status) for row in rows[:2]])
    code, out, err = vla("eval", "merge", tmp_path / "part", "--out", tmp_path / "out", "--allow-missing", "--json")
    assert code == 0 and said in err + out
    compared = json.loads(out)["comparisons"]["trained vs blank"]
    assert compared.get("n") == (2 if status == "success" else None)
    assert (tmp_path / "out" / "report.html").exists()


def _parts(folder, name, *inits):
    """Two parts of an evaluation of two rows, of which those with these initial states are finished."""
    rows = [Row("libero_spatial", "reach", init, init) for init in (0, 1)]
    for number, row in enumerate(rows, start=1):
        shard = {"number": number, "of": 2, "rows": [item.to_json() for item in rows]}
        policy = {"checkpoint": f"/machine{number}/policy"}
        protocol = {"embodiment": "e", "checkpoint": "c", "name": name, "policy": policy, "shard": shard}
        done = [Result(row, "success", policy=name, embodiment="e", checkpoint="c")] if row.init in inits else []
        write_ledger(folder / str(number) / name, protocol | {"rows": [row.to_json()]}, done)


def test_merge_writes_nothing_if_a_variant_is_not_finished(vla, tmp_path):
    _parts(tmp_path, "trained", 0, 1)
    _parts(tmp_path, "blank", 0)
    merge = ("eval", "merge", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "all", "--json")
    code, _, err = vla(*merge)
    assert code == 2 and "1 of 2 rows have no result yet" in err and not (tmp_path / "all").exists()
    code, out, err = vla(*merge, "--allow-missing")
    assert code == 0, err
    value = json.loads(out)
    assert {name: run["n"] for name, run in value["runs"].items()} == {"trained": 2, "blank": 1}
    assert value["comparisons"]["trained vs blank"]["n"] == 1


def test_what_cannot_be_compared_is_no_reason_to_report_nothing(capsys):
    row = Row("libero_spatial", "reach", 0, 0)
    runs = {"trained": [Result(row, "success")], "untrained": [Result(row, "error", error_kind="time-out")]}
    assert list(compare_all(Console(), runs)["trained vs untrained"]) == ["error"]
    assert "no row that both sides finished" in " ".join(capsys.readouterr().out.split())


def test_tasks_are_told_apart_in_a_narrow_terminal():
    """Names of libero_spatial begin alike."""
    tasks = [f"pick_up_the_black_bowl_next_to_the_{thing}_and_place_it_on_the_plate" for thing in ("plate", "ramekin")]
    results = [Result(Row("libero_spatial", task, 0, 0), "success") for task in tasks]
    narrow = Console(width=80, record=True, file=io.StringIO())
    print_summary(narrow, "trained", results)
    column = "".join(line.split("│")[1].strip() for line in narrow.export_text().splitlines() if line.startswith("│"))
    assert all(task in column for task in tasks)


def test_merge_of_single_runs_keeps_their_name(vla, tmp_path):
    """Also of machines that have the same weights in different places."""
    _parts(tmp_path, "blank", 0, 1)
    code, out, err = vla("eval", "merge", tmp_path / "1/blank", tmp_path / "2/blank", "--out", tmp_path / "a", "--json")
    assert code == 0 and list(json.loads(out)["runs"]) == ["blank"] and (tmp_path / "a" / "blank").is_dir(), err


@pytest.mark.parametrize("suite", ["libero_100", "libero_spatial_env", "libero_goal_object_ood", "libero_spatial_spaw"])
def test_suites_that_cannot_run_are_refused_by_name(suite):
    with pytest.raises(UnknownName, match=suite):
        choices.suite_names(f"libero_spatial,{suite}")


def test_the_perturbed_suites_run_by_name_and_task(tmp_path):
    bases, kinds = ("spatial", "object", "goal", "10"), ("lan", "object", "swap", "task")
    names = [f"libero_{base}_{kind}" for base in bases for kind in kinds]
    rows = Evaluate(tmp_path, tmp_path, suite=",".join(names), tasks=("0", "9"), inits=1).make_rows()
    assert len(rows) == 32 and {row.suite for row in rows} == set(names)


def test_a_file_of_rows_is_checked_before_anything_runs(tmp_path):
    task = choices.task_names("libero_goal_swap", ["3"])[0]
    path = tmp_path / "rows.json"

    def write(*rows):
        path.write_text(json.dumps([row.to_json() for row in rows]))

    wanted = [Row("libero_goal_swap", task, 7, 1), Row("libero_goal_swap", task, -1, 3, 2.0)]
    write(*wanted)
    assert Evaluate(tmp_path, tmp_path, rows=path).make_rows() == wanted
    with pytest.raises(ConfigError, match="--tasks"):
        Evaluate(tmp_path, tmp_path, rows=path, tasks=("0",)).make_rows()
    for row, error, named in (
        (Row("libero_goal_env", task, 0, 0), UnknownName, "libero_goal_env"),
        (Row("libero_goal_swap", task + "x", 0, 0), UnknownName, task),
        (Row("libero_goal_swap", task, 5000, 0), ConfigError, "initial states 0 to"),
    ):
        write(row)
        with pytest.raises(error, match=named):
            Evaluate(tmp_path, tmp_path, rows=path).make_rows()
    with pytest.raises(DataError):
        Evaluate(tmp_path, tmp_path, rows=tmp_path / "none.json").make_rows()


def test_protocols_decide_seeds():
    def seeds(**options):
        return [row.seed for row in Evaluate(Path("c"), Path("o"), tasks=("0",), inits=3, **options).make_rows()]

    assert seeds() == [0, 1, 2]
    assert seeds(seed=5) == [5, 6, 7]
    assert seeds(protocol="openpi") == [7, 7, 7]
    assert seeds(protocol="lerobot") == [1000, 1001, 1002]
    with pytest.raises(ConfigError, match="sampled"):
        Evaluate(Path("c"), Path("o"), tasks=("0",), sampled=2, protocol="openpi").make_rows()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained policy for LIBERO."""
    from vla.embodiments.libero_panda import libero_panda
    from vla.model.checkpoint import save
    from vla.model.config import ExpertConfig, NanoConfig, VlaConfig, fit_to
    from vla.model.encode import Encoder
    from vla.model.text import Text, word_tokenizer
    from vla.model.vla_model import build
    from vla.normalize import ChannelStatistics, Statistics

    spec = libero_panda(32)
    one = ChannelStatistics(mean=0.0, std=0.1, min=-0.2, max=0.2, q01=-0.2, q99=0.2, count=9)
    statistics = {spec.name: Statistics(dict.fromkeys((*spec.state_names, *spec.action.names), one))}
    nano = NanoConfig(image_size=32, width=32, layers=1, heads=2, mlp=32, channels=8, keypoints=4, vocabulary=32)
    config = fit_to(VlaConfig(nano, ExpertConfig(width=16, mlp=16), horizon=8), (spec,))
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save(folder, build(config), Encoder(config, (spec,), statistics, Text(word_tokenizer(["reach red"], 32), 40), 32))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_measure_compare_and_merge(vla, checkpoint, tmp_path):
    """Also the command as it is called everywhere: without a subcommand."""
    shared = (
        "eval",
        checkpoint,
        "--tasks",
        "0",
        "--inits",
        "2",
        "--videos",
        "0",
        "--recordings",
        "0",
        "--workers",
        "1",
    )
    for number in (1, 2):
        code, _, err = vla(*shared, "--shard", f"{number}/2", "--out", tmp_path / str(number), "--json")
        assert code == 0, err
    code, out, _ = vla("eval", "merge", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "all", "--json")
    assert code == 0 and json.loads(out)["rows"] == 2
    code, out, _ = vla(*shared, "--out", tmp_path / "all", "--json")  # nothing left to run
    assert code == 0 and json.loads(out)["runs"]["trained"]["n"] == 2
    other = (*shared, "--protocol", "lerobot", "--out", tmp_path / "lerobot")
    code, out, _ = vla(*other, "--json")
    assert code == 0 and json.loads(out)["protocol"] == "lerobot"
    code, out, _ = vla("eval", "compare", tmp_path / "all", tmp_path / "lerobot", "--json")
    (found,) = json.loads(out)["comparisons"]
    assert (found["pairing"], found["n"]) == ("scene", 2)
    warnings = " ".join(found["warnings"])
    assert "max_steps.libero_spatial: 220 first, 280 second" in warnings and "camera_size: 32 first, 360" in warnings
    report = (tmp_path / "lerobot" / "report.html").read_text()
    assert "Not reproduced" in report and "lerobot 0.6.1" in report and "renderer" in report


def test_a_policy_by_name_takes_settings(tmp_path):
    def find(place, *settings):
        return find_subject(Path(place), settings, embodiment=None, ode_steps=None, device="cpu")

    found = find("hold", "gripper=0", "horizon=3")
    (name, factory), *more = found.factories.items()
    observation = Observation({}, np.zeros(8, np.float32), "", 0.0)
    actions = factory.make().act(observation).actions
    assert name == "hold" and not more and actions.shape == (3, 7) and not actions.any()
    assert found.spec.name == "libero_panda"
    with pytest.raises(UnknownName, match="closest: gripper"):
        find("hold", "griper=0")
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        find("hold", "gripper")
    with pytest.raises(ConfigError, match="missing 1 required"):
        find("replay")
    with pytest.raises(DataError):
        find(tmp_path)
    with pytest.raises(UnknownName, match="checkpoint, or policy by name, 'holt'; closest: hold"):
        find("holt")
    with pytest.raises(ConfigError, match="--set is for policies by name"):
        find(tmp_path, "gripper=0")
    with pytest.raises(ConfigError, match="gripper is of type float, found 'open'"):
        find("hold", "gripper=open")
    with pytest.raises(ConfigError, match="hold is a policy by name: it has no option ode_steps"):
        find_subject(Path("hold"), (), embodiment=None, ode_steps=3, device="cpu")


def test_a_policy_by_name_has_no_variants(vla, tmp_path):
    code, _, err = vla("eval", "hold", "--tasks", "0", "--inits", "1", "--against", "blank", "--out", tmp_path)
    assert code == 2 and "no variant 'blank'" in err and not (tmp_path / "hold").exists()


@pytest.mark.parametrize("rows", [("--rows", "9"), ("--failures",), (), ("--limit", "-1")])
def test_recording_what_is_not_there(vla, tmp_path, rows):
    write_ledger(tmp_path / "trained", {"embodiment": None, "checkpoint": None, "rows": []}, [])
    code, _, err = vla("eval", "rrd", tmp_path, *rows)
    assert code == 2 and any(said in err for said in ("no row 9", "which rows", "--limit -1"))
    code, _, err = vla("eval", "rrd", tmp_path / "nowhere", "--rows", "0")
    assert code == 2 and "protocol.json" in err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_policy_for_all_simulators_gives_the_same_whatever_their_number_and_order(vla, checkpoint, tmp_path):
    """In LIBERO, with a real network; then a recording of one of its rows does the same again."""
    shared = ("eval", checkpoint, "--videos", "0", "--recordings", "0", "--batch", "2")
    rows = tmp_path / "shuffled.json"
    found = []
    for workers in (1, 2, 3, 2):
        chosen = ("--rows", rows) if rows.exists() else ("--tasks", "0", "1", "--inits", "2")
        out = tmp_path / str(len(found))
        code, _, err = vla(*shared, *chosen, "--workers", workers, "--out", out, "--json")
        assert code == 0, err
        results = read_results(out / "trained")
        found.append({r.row: (r.status, r.steps, r.actions) for r in results})
        if workers == 3:  # once more, the tasks and their initial states mixed
            rows.write_text(json.dumps([results[place].row.to_json() for place in (3, 0, 2, 1)]))
    assert all(other == found[0] for other in found[1:])
    assert len({actions for *_, actions in found[0].values()}) == 4
    code, out, err = vla("eval", "rrd", tmp_path / "2", "--rows", "2", "--workers", "1", "--json")
    assert code == 0 and len(json.loads(out)["files"]) == 2, err
    (entry,) = read_recordings(tmp_path / "2" / "trained")
    assert entry["status"] == entry["measured"]


def test_a_served_policy_is_measured_by_its_address():
    options: Any = {"embodiment": None, "ode_steps": None, "device": "cpu"}
    with served(Known()) as server:
        found = find_subject(Path(server.address), (), **options)
        assert (found.name, found.spec, list(found.factories)) == ("served", SPEC, ["served"])
        with pytest.raises(ConfigError, match="no option ode_steps"):
            find_subject(Path(server.address), (), embodiment=None, ode_steps=3, device="cpu")
        named = find_subject(Path("remote"), (f"address={server.address}",), **options)
        assert named.spec == SPEC
        for subject in (found, named):  # a server with one place: whoever asked what it is has left it
            with opened(subject.factories[subject.name]) as policy:
                assert policy.spec == SPEC


def test_another_simulator_runs_by_its_name(vla, point, tmp_path):
    """A Gymnasium environment held still: rows by seed, resumed, filmed and recorded."""
    shared = ("eval", "hold", "--sim", "gym_env", "--sim-set", f"description={point}", "--json")
    some = (*shared, "--tasks", "1", "--sampled", "2", "--seed", "5", "--workers", "1")
    code, out, err = vla(*some, "--out", tmp_path / "run")
    assert code == 0, err
    value = json.loads(out)
    assert (value["sim"], value["rows"], value["runs"]["hold"]["successes"]) == ("gym_env", 2, 0)
    results = read_results(tmp_path / "run" / "hold")
    assert [result.row for result in results] == [Row("point", "left", -1, seed) for seed in (5, 6)]
    assert [(result.status, result.steps, result.inferences) for result in results] == [("failure", 30, 4)] * 2
    code, out, _ = vla(*some, "--out", tmp_path / "run")  # nothing left to run
    assert code == 0 and json.loads(out)["rows"] == 2
    assert "NamedPolicy(name=hold, settings=[], body=point)" in (tmp_path / "run" / "report.html").read_text()
    recordings = read_recordings(tmp_path / "run" / "hold")
    assert [(entry["status"], entry["measured"]) for entry in recordings] == [("failure", "failure")] * 2
    assert len(list((tmp_path / "run" / "hold").rglob("*.rrd"))) == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--sim", "gym_env", "--protocol", "openpi", "--widen", "3"), "--protocol, --widen: of LIBERO"),
        (("--sim", "gym_env", "--inits", "3"), "--inits: of LIBERO"),
        (("--sim-set", "description=x"), "--sim-set is for other simulators"),
        (("--sim", "gym-env"), "closest: gym_env"),
        (("--sim", "gym_env", "--sim-set", "descriptoin=x"), "closest: description"),
        (("--sim", "gym_env", "--sim-set", "max_steps=many"), "max_steps is of type int, found 'many'"),
        (("--sim", "gym_env", "--sim-set", "max_steps"), "expected NAME=VALUE"),
        (("--sim", "robosuite_env", "--sim-set", "fused=no"), "fused is of type bool"),
        (("--sim", "robosuite_env", "--suite", "robosuit"), "closest: robosuite"),
        (("--sim", "robosuite_env", "--tasks", "Lift", "9"), "robosuite has no task 9"),
    ],
)
def test_what_a_simulator_does_not_have_is_named(vla, tmp_path, options, match):
    code, _, err = vla("eval", "hold", *options, "--out", tmp_path / "run")
    assert code == 2 and match in err and not (tmp_path / "run").exists()


def test_rows_of_another_simulator(tmp_path):
    rows = Evaluate(Path("hold"), tmp_path, sim="robosuite_env", tasks=("Door", "0"), sampled=2).make_rows()
    assert rows == [Row("robosuite", task, -1, seed) for task in ("Door", "Lift") for seed in range(2)]
    assert len(Evaluate(Path("hold"), tmp_path, sim="robosuite_env").make_rows()) == 9 * 10
    path = tmp_path / "rows.json"
    for row, match in ((Row("robosuite", "Lift", 0, 1), "initial states"), (Row("robosuite", "Lif", -1, 1), "Lift")):
        path.write_text(json.dumps([row.to_json()]))
        with pytest.raises((ConfigError, UnknownName), match=match):
            Evaluate(Path("hold"), tmp_path, sim="robosuite_env", rows=path).make_rows()
