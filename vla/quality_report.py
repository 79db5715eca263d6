"""``report.html`` of a checked set: the grade, what was found, and the episodes to look at, in one file from disk."""

import base64
import dataclasses
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from vla.charts import series
from vla.embodiment import Channel
from vla.errors import DataError
from vla.experience import Episode
from vla.protocols import EpisodeSource
from vla.quality import Quality
from vla.quality_findings import Finding
from vla.report_style import write_page
from vla.report_text import count_said, fact_list
from vla.transforms import reorient

EPISODES = 12
"""Episodes that are shown with plots."""
PLOTS = 16
"""Channels plotted an episode; those with findings come first."""
MARKS = 100
"""Steps marked in one plot."""
THUMBNAIL = 160
"""Longest side of a picture [pixels]."""
THUMBNAILS, THUMBNAILS_A_KIND = 24, 6
"""Pictures of suspicious frames: in all, and of one check and camera."""

MEANING = {
    "A": "nothing that needs a look",
    "B": "warnings in few episodes",
    "C": "warnings in many episodes",
    "D": "errors in few episodes",
    "E": "errors in many episodes",
}

_CSS = """
.grade { font-size: 3.2rem; font-weight: 700; line-height: 1; }
.warning { --c: var(--odd); } .note { --c: var(--soft); } .error { --c: var(--bad); }
.grade-A { --c: var(--good); } .grade-B, .grade-C { --c: var(--odd); } .grade-D, .grade-E { --c: var(--bad); }
.grade { color: var(--c); }
svg .mark { fill: var(--bad); opacity: .16; } svg .limit { stroke: var(--odd); stroke-dasharray: 4 3; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 10px 22px; }
.thumbs { display: flex; flex-wrap: wrap; gap: 14px; } .thumbs figure { max-width: 180px; }
.thumbs img { border-radius: 6px; display: block; max-width: 100%; image-rendering: pixelated; }
"""


def write_quality_report(out: Path, source: EpisodeSource, quality: Quality, *, name: str) -> Path:
    """Write ``report.html`` into a folder, whole or not at all; listed episodes are read again.

    Args:
        out: folder.
        source: that was checked.
        quality: what was found.
        name: of the set, for people.

    Returns:
        the file.
    """
    title = f"Data check: {name}"
    sections = [_headline(quality), _table(quality), _alignment(quality), _thumbnails(source, quality)]
    sections += [_episode(source, place, quality) for place in quality.listed(EPISODES)]
    sections.append(_facts(source, quality))
    return write_page(
        out / "report.html",
        title,
        sections,
        by="vla data check",
        note=" The same as numbers is in <code>check.json</code>.",
        css=_CSS,
    )


def _headline(quality: Quality) -> str:
    findings, grade = quality.findings, quality.grade
    cards = [
        f'<div class="figure grade-{grade}"><div class="name">Grade</div><div class="grade">{grade}</div>'
        f'<div class="note">{MEANING[grade]}</div></div>'
    ]
    for severity in ("error", "warning", "note"):
        cards.append(
            f'<div class="figure {severity}"><div class="name">{severity}s</div>'
            f'<div class="rate">{findings.count(severity):,}</div>'
            f'<div class="note">in {findings.touched(severity):,} of {len(quality.episodes):,} episodes</div></div>'
        )
    return f'<div class="figures">{"".join(cards)}</div>'


def _table(quality: Quality) -> str:
    lines = []
    for group in quality.findings:
        first = group.kept[0]
        more = "".join(f"<li>{escape(_where(finding))}: {escape(finding.found)}</li>" for finding in group.kept)
        rest = group.count - len(group.kept)
        rest_said = f"<li>and {rest:,} more</li>" if rest else ""
        places = f"<details><summary>{count_said(group.count, 'place')}</summary><ul>{more}{rest_said}</ul></details>"
        lines.append(
            f'<tr><td><span class="chip {group.severity}">{group.severity}</span></td><td>{escape(group.check)}</td>'
            f"<td>{escape(group.channel)}</td><td>{escape(_where(first))}: {escape(first.found)}"
            f"{places if group.count > 1 else ''}</td><td>{escape(first.expected)}</td></tr>"
        )
    if not lines:
        return "<h2>Findings</h2><p>None.</p>"
    return (
        '<h2>Findings</h2><div class="scroll"><table><tr><th></th><th>Check</th><th>Channel</th><th>Found</th>'
        f"<th>Expected</th></tr>{''.join(lines)}</table></div>"
    )


def _alignment(quality: Quality) -> str:
    facts = quality.measures["alignment"]
    if not facts["curve"]:
        return ""
    lags, values = [int(lag) for lag in facts["curve"]], list(facts["curve"].values())
    said = facts["why"] or f"Best lag {facts['lag']}, correlation {facts['correlation']:.2f}."
    chart = series(values, label="correlation by lag", limits=(0.0, 1.0), first=lags[0])
    return (
        f"<h2>State against action</h2><p>{escape(said)} Lag 0 compares action t with what the state does from t to "
        f't + 1; a compliant arm follows a little later.</p><div class="curves"><figure><figcaption>Correlation by lag '
        f"[steps]</figcaption>{chart}</figure></div>"
    )


def _thumbnails(source: EpisodeSource, quality: Quality) -> str:
    wanted: list[tuple[Finding, str, int]] = []
    for group in quality.findings:
        looks = [(finding, camera, step) for finding in group.kept for camera, step in finding.look]
        wanted += looks[:THUMBNAILS_A_KIND]
    figures = []
    for finding, camera, step in wanted[:THUMBNAILS]:
        try:
            picture = thumbnail(source[finding.episode or 0], camera, step)
        except DataError as error:
            figures.append(f'<p class="small">{escape(str(error))}</p>')
            continue
        what = f"{finding.check}: {camera}, episode {finding.episode}, step {step}"
        figures.append(
            f'<figure><img src="{picture}" alt="{escape(what)}"><figcaption>{escape(what)}</figcaption></figure>'
        )
    return f'<h2>Suspicious pictures</h2><div class="thumbs">{"".join(figures)}</div>' if figures else ""


def thumbnail(episode: Episode, camera: str, step: int) -> str:
    """A picture, upright and small, as a ``data:`` address.

    Raises:
        DataError: it cannot be decoded.
    """
    from PIL import Image as PilImage

    spec = episode.spec.camera(camera)
    upright = reorient(episode.images[camera][step], spec, dataclasses.replace(spec, orientation="upright"))
    picture = PilImage.fromarray(upright)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _episode(source: EpisodeSource, place: int, quality: Quality) -> str:
    own = [finding for finding in _kept(quality) if finding.episode == place]
    said = "".join(
        f'<li><span class="chip {f.severity}">{f.severity}</span> {escape(f.check)} {escape(f.channel)}: '
        f"{escape(f.found)} (expected {escape(f.expected)})</li>"
        for f in own
    )
    try:
        episode = source[place]
    except DataError as error:
        return f"<h2>Episode {place}</h2><ul>{said}</ul><p>{escape(str(error))}</p>"
    plots = "".join(_plot(*entry, own) for entry in _plotted(episode, own))
    what = f"{episode.source}, {count_said(len(episode), 'step')}: {episode.instruction or '(no instruction)'}"
    return f'<h2>Episode {place}</h2><p class="soft">{escape(what)}</p><ul>{said}</ul><div class="plots">{plots}</div>'


def _plotted(episode: Episode, own: list[Finding]) -> Iterator[tuple[str, Channel, np.ndarray]]:
    named = {finding.channel for finding in own}
    everything = [("action", channel, episode.action[:, i]) for i, channel in enumerate(episode.spec.action.channels)]
    everything += [("state", channel, episode.state[:, i]) for i, channel in enumerate(episode.spec.state)]
    # the whole state or action is meant where a finding names just that
    everything.sort(key=lambda entry: entry[1].name not in named and entry[0] not in named)
    yield from everything[:PLOTS]


def _plot(part: str, channel: Channel, values: np.ndarray, own: list[Finding]) -> str:
    limits = (channel.low / channel.scale, channel.high / channel.scale)
    names = (channel.name, part, "")
    marked = [f.steps for f in own if f.check != "range" and f.steps is not None and f.channel.split(" ")[0] in names]
    if any(f.check == "range" and f.channel == channel.name for f in own):  # each step that is outside, not from the
        outside = np.flatnonzero((values < limits[0]) | (values > limits[1]))  # first to the last
        marked += [(int(step), int(step) + 1) for step in outside[:MARKS]]
    unit = f" [{channel.unit}]" if channel.unit != "1" and channel.scale == 1 else ""
    label = f"{part} {channel.name}{unit}"
    chart = series(values.tolist(), label=label, limits=limits, marked=marked)
    return f"<figure><figcaption>{escape(label)}</figcaption>{chart}</figure>"


def _facts(source: EpisodeSource, quality: Quality) -> str:
    spec, lengths, measures = source.spec, np.asarray(source.lengths), quality.measures
    pictures = measures["pictures"]
    said: dict[str, Any] = {
        "Episodes": f"{len(source):,}, {int(lengths.sum()):,} steps; {measures['episodes']:,} checked",
        "Length": f"{lengths.min()} to {lengths.max()} steps, median {np.median(lengths):g}",
        "Robot": f"{spec.name} ({spec.fingerprint}), {spec.action.mode} actions, {spec.action.rate:g} Hz",
        "Pictures": f"{pictures['decoded']:,} of {count_said(pictures['episodes'], 'episode')} decoded",
        "No-ops": f"{100 * measures['noop_share']:.1f} % of the actions",
        "Gripper": [f"{name}: {one['verdict']}; {one['why']}" for name, one in measures["gripper"].items()],
    }
    return f"<h2>What was checked</h2>{fact_list(said)}"


def _where(finding: Finding) -> str:
    return finding.source if finding.episode is None and finding.source else finding.place


def _kept(quality: Quality) -> list[Finding]:
    return [finding for group in quality.findings for finding in group.kept]
