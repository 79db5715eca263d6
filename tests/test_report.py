"""The report: complete, truthful, safe to open, and nothing of it on a network."""

import itertools
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from vla.charts import Interval, curve, intervals, nice_ticks
from vla.errors import ConfigError, DataError
from vla.report import NamedRun, write_report
from vla.results import Result, write_results
from vla.rows import Row

VOID = {"meta", "br", "source", "img", "circle", "line", "polyline"}


class Page(HTMLParser):
    """Checks nesting; keeps links and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.words = [], [], []
        self.feed(text)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def make_run(folder, solved, *, n=10, error=False, film=None, tasks=("pick_up_the_bowl",)):
    folder.mkdir(parents=True)
    results = [
        Result(Row("libero_spatial", task, init, init), "success" if init < solved else "failure", steps=100 + init,
               latency_s=0.02, checkpoint="c0ffee", versions={"python": "3.12.1", "mujoco": "3.2.3"})
        for task in tasks for init in range(n)
    ]  # fmt: skip
    if error:
        results.append(
            Result(Row("libero_spatial", tasks[0], 40, 0), "error", error="<SIGSEGV> & gone", error_kind="time-out")
        )
    write_results(folder / "results.parquet", results)
    policy = {"type": "vla.policies.vla_policy.Config", "checkpoint": "/home/somebody/runs/policy", "ode_steps": 10}
    protocol = {"policy": policy, "benchmark": {"type": "vla.sim.libero.Config", "camera_size": 128}, "execute": 8}
    (folder / "protocol.json").write_text(json.dumps(protocol | {"embodiment": "ab12", "checkpoint": "c0ffee"}))
    if film:
        entry = {"name": "a", "row": results[-1].row.to_json(), "status": film, "steps": 77, "measured": "failure"}
        entry |= {"video": "videos/a b.mp4", "rrd": "rrd/a.rrd"}
        (folder / "recordings.json").write_text(json.dumps([entry]))
    return folder


def test_a_report_says_what_was_measured(tmp_path):
    trained = make_run(tmp_path / "eval" / "trained", 9, error=True, film="failure")
    untrained = make_run(tmp_path / "eval" / "untrained", 0)
    training = tmp_path / "policy"
    training.mkdir()
    lines = [json.dumps({"step": i, "loss": 3 / i, "lr": 1e-3, "minutes": i / 10}) for i in range(1, 100)]
    (training / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 100, "lo')  # torn by a kill
    info = {"episodes": 60, "steps": 7345, "embodiment": "libero_panda", "fingerprint": "f00d", "rate": 20.0}
    info |= {"instructions": {"pick up the bowl": 60}, "outcomes": {"success": 60}}
    path = write_report(
        tmp_path / "eval",
        [NamedRun("trained", trained), NamedRun("untrained", untrained)],
        training=training,
        data={"demos": info},
        facts={"Note": "held-out"},
    )
    assert path == tmp_path / "eval" / "report.html"
    page = Page(path.read_text())
    assert "trained solved 9 of 10 episodes" in page.text
    assert "90 % 9 of 10 episodes solved 1 error (1 time-out), not counted 95 % interval 60 to 98 %" in page.text
    assert "0 of 10 episodes solved 95 % interval 0 to 28 %" in page.text
    assert "+90 percentage points" in page.text and "9 were solved by the first only" in page.text
    assert "0.0039 (exact McNemar test)" in page.text and "1 row left out" in page.text
    assert "pick up the bowl" in page.text and "99 optimizer steps in 9.9 minutes" in page.text
    assert "60, 7,345 steps at 20 Hz" in page.text and "held-out" in page.text
    assert "11: libero_spatial, 1 task, initial states 0 to 9, 40, seeds 0 to 9" in page.text
    assert "vla_policy(checkpoint=…/runs/policy, ode_steps=10)" in page.text and "somebody" not in path.read_text()
    assert "8 actions of each chunk" in page.text and "mujoco 3.2.3" in page.text and "20 ms on average" in page.text
    assert "<SIGSEGV> & gone" in page.text
    assert page.links == ["trained/videos/a%20b.mp4"]
    assert "rerun trained/rrd/a.rrd" in page.text


def test_nothing_comes_from_a_network_and_it_is_small(tmp_path):
    run = make_run(tmp_path / "a", 5, n=50, tasks=[f"task_{i}" for i in range(10)])
    text = write_report(tmp_path, [NamedRun("a", run)]).read_text()
    assert not re.search(r"https?:|//|<script|@import|url\(", text)
    assert len(text) < 200_000
    assert Page(text).text.count("task 3") == 51  # once in the table, then its rows


def test_words_of_others_are_escaped(tmp_path):
    run = make_run(tmp_path / "a", 5, tasks=["<img src=x onerror=alert(1)>"], film="success")
    path = write_report(tmp_path, [NamedRun("<b>&", run)], title="<i>", facts={"<u>": "<s>"})
    page = Page(path.read_text())
    assert page.links == ["a/videos/a%20b.mp4"]
    assert all(word in page.text for word in ("<img src=x onerror=alert(1)>", "<b>&", "<i>", "<u>", "<s>"))
    assert "success (when measured: failure) after 77 steps" in page.text


def test_runs_over_different_rows_can_be_shown(tmp_path):
    a = make_run(tmp_path / "a", 2, n=4)
    b = make_run(tmp_path / "b", 1, n=3, tasks=["other"])
    page = Page(write_report(tmp_path, [NamedRun("a", a), NamedRun("b", b)]).read_text())
    assert "a against b : there is no row that both sides finished" in page.text
    assert "nothing counted" in page.text


def test_what_is_missing_or_damaged_is_named_and_nothing_written(tmp_path):
    run = make_run(tmp_path / "a", 2)
    with pytest.raises(ConfigError, match="one to 6 runs, found 0"):
        write_report(tmp_path, [])
    with pytest.raises(DataError, match=r"nowhere.*results\.parquet"):
        write_report(tmp_path, [NamedRun("x", tmp_path / "nowhere")])
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        write_report(tmp_path, [NamedRun("a", run)], training=tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"loss": 1}\n{"step": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        write_report(tmp_path, [NamedRun("a", run)], training=tmp_path)
    (run / "protocol.json").write_text("{")
    with pytest.raises(DataError, match=r"protocol\.json"):
        write_report(tmp_path, [NamedRun("a", run)])
    assert not (tmp_path / "report.html").exists()


def test_charts_are_well_formed_and_stay_inside():
    ys = [10 ** (-i / 200) for i in range(2000)] + [float("nan")]
    for svg in (
        curve(range(2001), ys, label="loss <a>", x_label="step"),
        curve([0, 1], [0.0, 0.0], label="flat", x_label="step"),
        intervals([Interval(0.5, 0.2, 0.8, "a"), Interval(None, 0, 1, "b & c")]),
    ):
        root = ET.fromstring(svg)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for line in root.iter("polyline"):
            points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
            assert len(points) <= 600
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert "fewer than two" in curve([1], [1], label="one", x_label="step")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.13, 2.91), (-5, 700), (3, 3), (0, 0), (1e-6, 3e-6)])
def test_ticks_are_round_and_span_the_values(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps))
