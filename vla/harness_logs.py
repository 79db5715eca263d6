"""Reads the JSON logs of vla-evaluation-harness as results, row by row.

One file is one benchmark: ``tasks``, each with ``episodes``, each with whether it succeeded, how many steps it took and
an ``episode_id`` that ends in the number of its initial state. Newer versions put ``success`` into ``metrics``.
"""

import json
import re
from pathlib import Path
from typing import Any

from vla.errors import DataError
from vla.results import Result
from vla.rows import Row

_NUMBER = re.compile(r"(?:^|_ep)(\d+)$")


def is_harness_log(value: Any) -> bool:
    """Whether a JSON value looks like such a log."""
    return isinstance(value, dict) and {"benchmark", "tasks"} <= value.keys() and isinstance(value["tasks"], list)


def read_harness_log(path: Path) -> list[Result]:
    """Results of one log, in its order.

    The row's ``init`` is the episode's number, which is the number of the initial state in LIBERO; its ``seed`` the
    environment's. An episode with a ``failure_reason`` (lost connection, time-out: the harness leaves it out of its own
    rates) is an error here, not a failure.

    Raises:
        DataError: the file is not such a log, or a field is missing, of another kind or there twice.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "file", expected="a log of vla-evaluation-harness", found=str(error)) from error
    if not is_harness_log(value):
        raise DataError(path, "file", expected="a log of vla-evaluation-harness", found="other JSON")
    config = value.get("config") or {}
    params = config.get("params") or {}
    suite = str(params.get("suite") or config.get("subname") or value["benchmark"])
    seed = params.get("env_seed", params.get("seed"))
    if seed is not None and not _whole(seed):
        raise DataError(path, "config.params.seed", expected="a whole number", found=repr(seed))
    known = {"settle_steps": params.get("num_steps_wait"), "seed": seed, "other_steps": config.get("max_steps")}
    shared: dict[str, Any] = {
        "policy": path.stem,
        "versions": {"vla-eval": str(value["harness_version"])} if "harness_version" in value else {},
        "protocol": {"name": "vla-evaluation-harness"} | {key: item for key, item in known.items() if item is not None},
    }
    results: dict[Row, Result] = {}
    for place, task in enumerate(value["tasks"]):
        where = f"tasks[{place}]"
        name = _field(path, task, where, "task", str)
        for number, episode in enumerate(_field(path, task, where, "episodes", list)):
            result = _result(path, f"{where}.episodes[{number}]", suite, name, seed or 0, episode, shared)
            if result.row in results:
                raise DataError(
                    path,
                    f"{where}.episodes[{number}]",
                    expected="each episode once (the log tells tasks with the same sentence not apart)",
                    found=f"{episode['episode_id']!r} again",
                )
            results[result.row] = result
    return list(results.values())


def _result(path: Path, where: str, suite: str, task: str, seed: int, episode: Any, shared: dict[str, Any]) -> Result:
    label = str(_field(path, episode, where, "episode_id", int | str))
    number = _NUMBER.search(label)
    if number is None:
        raise DataError(path, f"{where}.episode_id", expected="a name that ends in its number", found=repr(label))
    reason = episode.get("failure_reason")
    metrics = episode.get("metrics")
    outcome = metrics if isinstance(metrics, dict) and "success" in metrics else episode
    status = "error" if reason else "success" if _truth(path, outcome, where) else "failure"
    detail = episode.get("failure_detail")
    return Result(
        Row(suite, task, int(number.group(1)), seed),
        status,
        steps=_field(path, episode, where, "steps", int) if "steps" in episode or not reason else 0,
        wall_s=float(episode.get("elapsed_sec") or 0.0),
        error=": ".join(str(part) for part in (reason, detail) if part),
        **shared,
    )


def _truth(path: Path, outcome: dict[str, Any], where: str) -> bool:
    """Of ``success``: true and false, or 1 and 0."""
    found = outcome.get("success")
    if found not in (True, False):
        raise DataError(path, f"{where}.success", expected="true or false", found=repr(found))
    return bool(found)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _field(path: Path, value: Any, where: str, name: str, kind: Any) -> Any:
    """A field of the wanted kind; true is no whole number."""
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise DataError(path, f"{where}.{name}", expected=getattr(kind, "__name__", str(kind)), found=repr(found)[:80])
    return found
