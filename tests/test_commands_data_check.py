"""``vla data check`` on real data, on our own demonstrations, and as programs meet it."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_recordings import Fake, changed, gr1_toml, lagging

from vla.commands.data_check import Check
from vla.commands.source import SourceOptions
from vla.errors import ChecksFailed
from vla.plugins import open_source
from vla.quality import check_source
from vla.quality_content import Noops

pytestmark = pytest.mark.usefixtures("own_cache")


def found(summary):
    """(check, severity, channel) to the group."""
    return {(group["check"], group["severity"], group["channel"]): group for group in summary["findings"]}


class Page(HTMLParser):
    """Tags of a page that are still open, and addresses it points to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for key, value in attributes if key in ("src", "href")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_bridge_as_stored(shared_data, vla, tmp_path):
    """What is wrong with it, and nothing else: the fourth camera is blank, the first action of an episode a no-op."""
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    code, out, _ = vla("data", "check", folder, "--raw", "--thorough", "--out", tmp_path / "report", "--json")
    summary = json.loads(out)
    assert code == 0 and summary["grade"] == "C"
    groups = found(summary)
    assert set(groups) == {("blank", "warning", "image_3"), ("noop-first", "warning", "")}
    assert groups["blank", "warning", "image_3"]["episodes"] == 25
    measures = summary["measures"]
    assert measures["alignment"]["lag"] == 0 and measures["alignment"]["correlation"] > 0.8
    assert measures["gripper"]["gripper"]["verdict"] == "agrees" and measures["noop_share"] == 0.1
    assert measures["pictures"]["decoded"] == 1000
    assert json.loads((tmp_path / "report" / "check.json").read_text()) == summary
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert not page.open and page.addresses and all(a.startswith("data:image/jpeg") for a in page.addresses)


def test_bridge_mended(shared_data, vla):
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    code, out, _ = vla("data", "check", folder, "--json")
    assert code == 0 and set(found(json.loads(out))) == {("blank", "warning", "image_3")}


def test_teleoperation_out_of_range_is_flagged_with_episode_and_step(shared_data, vla, tmp_path):
    import h5py

    folder = shared_data / "libero_teleop_hdf5"
    code, out, err = vla("data", "check", folder, "--raw", "--out", tmp_path / "report", "--json")
    summary = json.loads(out)
    assert code == 1 and "severity error" in err
    groups = found(summary)
    for place, file in enumerate(sorted(folder.glob("*.hdf5"))):
        with h5py.File(file) as opened:
            actions = np.asarray(opened["data/demo_1/actions"])
        for column, name in enumerate(("dx", "dy", "dz", "drx", "dry", "drz", "gripper")):
            outside = np.flatnonzero(np.abs(actions[:, column]) > 1.002)
            group = groups.get(("range", "error", name), {"kept": []})
            named = [finding for finding in group["kept"] if finding["episode"] == place]
            assert len(named) == bool(len(outside))
            if named:
                assert named[0]["steps"] == [outside[0], outside[-1] + 1]
                worst = outside[np.abs(actions[outside, column]).argmax()]
                assert f"{actions[worst, column]:.6g} at step {worst};" in named[0]["found"]
    assert len(summary["look_at"]) == 7
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count('class="mark"') >= 7 and not Page(text).open
    code, out, _ = vla("data", "check", folder, "--json")  # cut off by the reader, but nobody said that it may
    assert code == 1 and ("quirk", "error", "actions-out-of-range") in found(json.loads(out))
    code, out, _ = vla("data", "check", folder, "--tolerate", "actions-out-of-range", "--json")
    assert code == 0 and ("quirk", "warning", "actions-out-of-range") in found(json.loads(out))


@pytest.fixture
def gr1_description(tmp_path):
    path = tmp_path / "gr1.toml"
    path.write_text(gr1_toml())
    return path


def test_gr1_demonstrations_and_their_quirks(shared_data, vla, gr1_description):
    folder = shared_data / "lerobot_v20_gr1_pick_place"
    code, out, _ = vla("data", "check", folder, "--description", gr1_description, "--frames", 3, "--json")
    summary = json.loads(out)
    groups = found(summary)
    assert code == 1 and summary["measures"]["episodes"] == 5
    assert ("quirk", "error", "missing-camera") in groups
    assert {check for check, severity, _ in groups if severity == "error"} == {"quirk"}


def test_a_folder_that_is_no_data_set_is_unreadable(vla, tmp_path):
    code, _, err = vla("data", "check", tmp_path, "--out", tmp_path / "report")
    assert code == 2 and "DataError" in err and not (tmp_path / "report").exists()


def test_an_episode_that_is_not_there(shared_data, vla):
    code, _, err = vla(
        "data", "check", shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0", "--episodes", 25
    )
    assert code == 2 and "counted from 0" in err


def test_people_get_a_table(shared_data, vla):
    code, out, _ = vla("data", "check", shared_data / "robosuite_lift_hdf5", "--raw", "--episodes", "0:2")
    text = " ".join(out.split())
    assert code == 1 and "grade E" in text and "2 episodes" in text
    assert re.search(r"error .*range .*dx", text) and "look at episodes" in text


def test_a_stop_leaves_nothing_half_written(shared_data, vla, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Noops, "episode", stopped)
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    code, _, _ = vla("data", "check", folder, "--out", tmp_path / "report")
    assert code == 130 and not (tmp_path / "report").exists()


def test_from_python_the_result_comes_with_the_error(shared_data):
    from rich.console import Console

    folder = shared_data / "libero_teleop_hdf5"
    with pytest.raises(ChecksFailed) as failed:
        Check(SourceOptions(str(folder), raw=True)).run(Console(quiet=True))
    assert failed.value.summary["grade"] == "E"


def test_defects_planted_in_real_data_are_found(shared_data):
    source = open_source(shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0", fixes=False)
    episodes = [source[place] for place in range(len(source))]
    for lag, severity in ((-2, "error"), (2, "warning")):
        quality = check_source(Fake([lagging(episode, lag) for episode in episodes]))
        assert quality.measures["alignment"]["lag"] == lag
        assert [group.severity for group in quality.findings if group.check == "lag"] == [severity]
    flipped = [changed(e, action=np.where(np.arange(7) == 6, 1 - e.action, e.action)) for e in episodes]
    assert check_source(Fake(flipped)).measures["gripper"]["gripper"]["verdict"] == "probably flipped"
    (again,) = [group for group in check_source(Fake([*episodes, episodes[7]])).findings if group.check == "duplicate"]
    assert again.kept[0].found == "the same as episode 7"


@pytest.mark.slow
def test_our_own_demonstrations_are_clean(vla, tmp_path):
    code, _, _ = vla(
        "demos", "--out", tmp_path / "set", "--tasks", 0, "--per-task", 3, "--camera-size", 64, "--workers", 1
    )
    assert code == 0
    code, out, _ = vla("data", "check", tmp_path / "set", "--thorough", "--json")
    summary = json.loads(out)
    assert code == 0 and summary["grade"] == "A" and 0 <= summary["measures"]["alignment"]["lag"] <= 3
    assert summary["measures"]["gripper"]["gripper"]["verdict"] == "agrees"
    source = open_source(tmp_path / "set")
    episodes = [source[place] for place in range(3)]
    flipped = [changed(e, action=np.where(np.arange(7) == 6, 1 - e.action, e.action)) for e in episodes]
    assert check_source(Fake(flipped)).measures["gripper"]["gripper"]["verdict"] == "flipped"
