"""The page of a check: whole, self-contained, and written even where the data are broken."""

import re
from html.parser import HTMLParser

import numpy as np
from fake_recordings import Fake, changed, clean

from vla.charts import series
from vla.errors import DataError
from vla.quality import check_source
from vla.quality_report import write_quality_report


class Balance(HTMLParser):
    """Fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert self.open == []

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(source, tmp_path):
    path = write_quality_report(tmp_path / "out", source, check_source(source), name="cups & <plates>")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    text = path.read_text()
    Balance(text)
    assert not re.search(r'(src|href)="(?!data:)', text)
    return text


def test_a_clean_set(tmp_path):
    text = page(Fake(clean()), tmp_path)
    assert "cups &amp; &lt;plates&gt;" in text and "grade-A" in text and "<p>None.</p>" in text
    assert "Episode 0" not in text


def test_defects_are_plotted_and_pictured(tmp_path):
    episodes = clean()
    episodes[2].action[[5, 60], 1] = 3.0
    wrist = list(episodes[4].images["wrist"])
    wrist[20:100] = [wrist[20]] * 80
    episodes[4] = changed(episodes[4], images={"front": episodes[4].images["front"], "wrist": wrist})
    text = page(Fake(episodes), tmp_path)
    assert "<h2>Episode 2</h2>" in text and "<h2>Episode 4</h2>" in text and "<h2>Episode 3</h2>" not in text
    assert text.count("data:image/jpeg") == 2 and "frozen: wrist, episode 4" in text
    plot = re.search(r"action dy \[m\]</figcaption>(<svg.*?</svg>)", text)
    assert plot and plot.group(1).count('class="mark"') == 2


def test_broken_data_make_a_page_too(tmp_path):
    class Broken(Fake):
        def __getitem__(self, index):
            if index == 1:
                raise DataError("shard <1>", "record", expected="a record", found="zeros")
            return self.episodes[index]

    class Unreadable(list):
        def __getitem__(self, index):
            raise DataError("film", "picture", expected="a picture", found="zeros")

    episodes = clean()
    episodes[0].state[4, 2] = np.nan
    pictures = {"front": Unreadable(range(120)), "wrist": episodes[3].images["wrist"]}
    episodes[3] = changed(episodes[3], images=pictures)
    text = page(Broken(episodes), tmp_path)
    assert "shard &lt;1&gt;" in text and "picture" in text and "nan" in text


def test_a_series_breaks_where_numbers_are_missing_and_keeps_its_peaks():
    values = np.zeros(5000)
    values[3333] = 7.0
    values[100] = np.nan
    svg = series(values.tolist(), label="a & b", limits=(-1.0, 7.0), marked=[(3333, 3334)])
    assert svg.count("<polyline") == 2 and svg.count('class="limit"') == 2 and svg.count('class="mark"') == 1
    assert len(svg) < 60_000 and ">7<" in svg and "a &amp; b" in svg
    highest = min(float(point.split(",")[1]) for line in re.findall(r'points="([^"]*)"', svg) for point in line.split())
    assert highest < 12  # the peak is drawn at the top
    for odd in ([], [1.0], [float("nan")] * 3, [5.0, 5.0]):
        assert series(odd, label="x").endswith("</svg>")
