"""Pieces of the report's text: settings, rows and data sets as people say them."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from vla.protocol_libero import SUITES
from vla.results import Result
from vla.rows import Row


def data_sets(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """What each data set holds, from what :func:`vla.describe.info` says of it; empty if there is none."""
    if not sets:
        return ""
    parts = []
    for name, info in sets.items():
        lengths, rate = info.get("lengths", {}), info.get("rate")
        facts: dict[str, Any] = {
            "Episodes": f"{info['episodes']:,}, {info['steps']:,} steps" + (f" at {rate:g} Hz" if rate else ""),
        }
        if lengths:
            facts["Length"] = f"{lengths['min']} to {lengths['max']} steps, median {lengths['median']:g}"
        if info.get("outcomes"):
            facts["Outcomes"] = ", ".join(f"{count:,} {outcome}" for outcome, count in info["outcomes"].items())
        facts["Robot"] = f"{info['embodiment']} ({info['fingerprint']})"
        if info.get("cameras"):
            facts["Cameras"] = [
                f"{c['name']}, {c['height']} x {c['width']}, {c['orientation']}" for c in info["cameras"]
            ]
        spoken = [
            f"{instruction or '(none)'} ({count:,})" for instruction, count in info.get("instructions", {}).items()
        ]
        if spoken:
            facts["Instructions"] = [*spoken[:12], *([f"and {len(spoken) - 12} more"] if len(spoken) > 12 else [])]
        parts.append(f"<div><h3>{escape(name)}</h3>{fact_list(facts)}</div>")
    return f'<h2>Demonstrations it was trained on</h2><div class="columns">{"".join(parts)}</div>'


def fact_list(facts: Mapping[str, Any]) -> str:
    """A list of terms; empty values are left out."""
    parts = []
    for name, value in facts.items():
        if value in ("", [], None):
            continue
        if isinstance(value, list):
            shown = "<ul>" + "".join(f"<li>{_value(item)}</li>" for item in value) + "</ul>"
        else:
            shown = _value(value)
        parts.append(f"<dt>{escape(str(name))}</dt><dd>{shown}</dd>")
    return f"<dl>{''.join(parts)}</dl>"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"<code>{escape(text)}</code>" if text.startswith("rerun ") else escape(text)


def settings_said(value: Any) -> str:
    """``name(field=value, ...)``; folders are shown by their last two names, an embodiment by its own."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    kind = str(value.get("type", "")).removesuffix(".Config").rsplit(".", 1)[-1]
    if kind == "EmbodimentSpec":
        return str(value.get("name", ""))
    fields = ", ".join(f"{key}={_field(item)}" for key, item in value.items() if key != "type")
    return f"{kind}({fields})"


def protocol_said(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Facts on a :class:`~vla.protocol_libero.Protocol` as a run's folder has it; none for an empty one."""
    if not protocol:
        return {}
    limits = protocol.get("max_steps", ())
    names = limits.values() if isinstance(limits, dict) else limits
    steps = ", ".join(f"{count} {suite}" for suite, count in zip(SUITES, names, strict=False))
    executed, size = protocol.get("execute"), protocol.get("camera_size")
    opened = "open" if protocol.get("settle_gripper", -1) < 0 else "closed"
    return {
        "Protocol": str(protocol.get("name", "")),
        "Step limits": steps,
        "Settling": f"{protocol.get('settle_steps', '?')} steps, gripper {opened}",
        "Pictures": f"{size} pixels, turned by {protocol.get('camera_turn', '?')} degrees" if size else "",
        "Looks": f"every {executed} steps" if executed else "when a chunk of actions is used up",
        "Initial states": protocol.get("init_rule", ""),
        "Seeds": f"{protocol.get('seed', '?')}, {protocol.get('seed_rule', '')}",
        "From": protocol.get("source", ""),
        "Not reproduced": list(protocol.get("apart", [])),
    }


def _field(item: Any) -> str:
    if isinstance(item, dict):
        return settings_said(item)
    if isinstance(item, str) and item.startswith("/"):
        return "/".join(("…", *Path(item).parts[-2:]))
    return str(item)


def rows_said(results: Sequence[Result]) -> str:
    """E.g. ``20: libero_spatial, 1 task, initial states 0 to 19, seeds 0 to 19``."""
    rows = [result.row for result in results]
    inits = sorted({row.init for row in rows if row.init >= 0})
    widens = sorted({row.widen for row in rows if row.init < 0})
    places = []
    if inits:
        places.append(f"initial states {_runs_of(inits)}")
    if widens:
        factors = ", ".join(f"{widen:g}" for widen in widens)
        places.append(f"objects placed anew in regions widened by {factors}")
    tasks = len({(row.suite, row.task) for row in rows})
    suites = ", ".join(dict.fromkeys(row.suite for row in rows))
    seeds = _runs_of(sorted({row.seed for row in rows}))
    return f"{len(rows)}: {suites}, {count_said(tasks, 'task')}, {', '.join(places)}, seeds {seeds}"


def _runs_of(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0 to 2, 5``."""
    parts = []
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        parts.append(str(members[0]) if len(members) == 1 else f"{members[0]} to {members[-1]}")
    return ", ".join(parts)


def scene_said(row: Row) -> str:
    """E.g. ``initial state 3, seed 3``."""
    place = f"initial state {row.init}" if row.init >= 0 else "objects placed anew"
    widened = f", regions widened by {row.widen:g}" if row.widen != 1 else ""
    return f"{place}{widened}, seed {row.seed}"


def task_said(task: str) -> str:
    """A task's name in words."""
    return task.replace("_", " ")


def interval_said(cell: Mapping[str, Any]) -> str:
    """In whole percent."""
    return f"{100 * cell['low']:.0f} to {100 * cell['high']:.0f} %"


def count_said(number: int, what: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def errors_said(cell: Mapping[str, Any]) -> str:
    """``3 errors (2 crash, 1 time-out)``; empty if there are none."""
    if not cell["errors"]:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in cell.get("error_kinds", {}).items())
    return count_said(cell["errors"], "error") + (f" ({kinds})" if kinds else "")
