"""Evaluation: rows fixed before the run in; one result a row out, written as it is made, so that a run can be resumed.

::

    rows ─▶ protocol.json        what is measured and how; resuming under another one is refused
         ─▶ crew of processes ─▶ rows.jsonl           one line a finished row, appended
                                 results.parquet      all of them, once the last row is done
                                 videos/ rrd/         chosen rows, run once more: recording never slows what is measured

    a crew     batch None      [simulator + policy] [simulator + policy] ...        the policy in every process
               batch n         [simulator] [simulator] ... ─▶ [policy, n at once]   :mod:`vla.policy_process`
               on a cluster    [simulator + policy] ... as Ray actors               :mod:`vla.ray_crew`

A row's result follows from the row and these settings alone: its scene from its seed, the policy's noise from its seed
and the number of the inference, a batched answer from the size of the batch and not from what else is in it. The
number of processes, their order and what died on the way change nothing; ``Result.actions`` shows it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from vla.episode_worker import EpisodeJob, Factory, HandlerFactory, Identify
from vla.errors import ConfigError, VlaError
from vla.ledger import Ledger, differences, open_ledger, read_ledger
from vla.policy_process import PolicyProcess
from vla.protocol_libero import Protocol
from vla.protocols import Policy
from vla.ray_crew import Cluster, RayCrew
from vla.recordings import choose_rows, jobs_for, note, unrecorded
from vla.results import Result, write_results
from vla.rows import Benchmark, Row
from vla.settings import plain, restore
from vla.shards import Shard
from vla.workers import Answer, Crash, Crew


def run_rows(
    rows: Sequence[Row],
    benchmark_factory: Factory[Benchmark],
    policy_factory: Factory[Policy],
    out: Path,
    *,
    workers: int = 1,
    batch: int | None = None,
    memory_gb: float | None = None,
    cluster: Cluster | None = None,
    execute: int | None = None,
    protocol: Protocol | None = None,
    shard: Shard | None = None,
    name: str = "policy",
    videos: int = 0,
    recordings: int = 0,
    row_timeout_s: float | None = 1800.0,
    retry_errors: bool = False,
    progress: bool = True,
) -> list[Result]:
    """Run every row that has no result yet, then write ``results.parquet``; the same call goes on where one stopped.

    A row whose process dies, hangs or runs out of memory is tried once more and then has status ``"error"`` and an
    ``error_kind``, as has one whose policy or body gives up (``"fault"``).

    Args:
        rows: what to run, fixed beforehand.
        benchmark_factory: makes the scenes, in each process.
        policy_factory: makes the policy, in each process or in one for all.
        out: folder of this run; made if need be.
        workers: processes with a simulator; more of them change nothing but the time.
        batch: None for a policy in each of them; a number for one policy that answers so many of them at once, which
            suits a GPU. It is part of the protocol, because rounding depends on it.
        memory_gb: a process that holds more [GiB] is ended, which costs its row; None for no limit.
        cluster: where the processes run; None for here.
        execute: rows of each chunk to execute before asking again; None for all.
        protocol: recorded with the run and in every result; the factories have been made according to it.
        shard: run only this part of the rows; :func:`vla.shards.join` joins the parts.
        name: of the policy, for people.
        videos: rows to film afterwards at most, failures first.
        recordings: rows to record for Rerun afterwards at most, failures first.
        row_timeout_s: an episode that takes longer [s] ends in an error.
        retry_errors: run rows again that ended in an error in an earlier call.
        progress: show a bar on standard error.

    Returns:
        results in the order of ``rows``, of the shard only if there is one.

    Raises:
        ConfigError: ``rows`` is empty or has a row twice, a number is below 0, settings exclude each other, ``out``
            holds a run under another protocol (the message says what differs), or another process is writing to it.
        DataError: a file in ``out`` is damaged.
        VlaError: policy and benchmark do not fit or cannot be made; what is finished stays.
    """
    if not rows or len(set(rows)) != len(rows):
        raise ConfigError(f"an evaluation needs rows, each once; found {len(rows)}, {len(set(rows))} different")
    if min(videos, recordings) < 0:
        raise ConfigError(f"{videos} videos and {recordings} recordings: expected numbers from 0 on")
    if workers < 1:  # before the folder is made
        raise ConfigError(f"there must be at least one worker, found {workers}")
    factory = HandlerFactory(benchmark_factory, policy_factory, name, execute)
    settings = {
        "name": name,
        "policy": plain(policy_factory),
        "benchmark": plain(benchmark_factory),
        "execute": execute,
        "protocol": plain(protocol),
        "batch": batch,
    }
    if shard:
        settings["shard"] = shard.to_json() | {"rows": [row.to_json() for row in rows]}
        rows = shard.part(rows)
    facts = protocol.to_json() | {"benchmark": settings["benchmark"]} if protocol else {}
    facts |= {} if batch is None else {"batch": batch}
    with open_ledger(out, rows, settings) as ledger, _crew(factory, workers, batch, memory_gb, cluster, out) as crew:
        redo = {row for row, result in ledger.finished.items() if retry_errors and result.status == "error"}
        jobs = [EpisodeJob(row) for row in rows if row not in ledger.finished or row in redo]
        if not jobs:  # the weights may have changed since: ask before old results are taken for theirs
            ledger.check_policy(*_identify(crew, row_timeout_s))
        before = [result for row, result in ledger.finished.items() if row not in redo]
        with _bar(name, len(rows), before, progress) as advance:
            for answer in crew.run(jobs, group=_scene, timeout_s=row_timeout_s):
                result = replace(_result(answer, name, ledger), protocol=facts)
                ledger.append(result)
                advance(result)
        results = [ledger.finished[row] for row in rows]
        write_results(out / "results.parquet", results)
        recorded = jobs_for(choose_rows(results, max(videos, recordings)), out, videos, recordings)
        missing = unrecorded(recorded, out)
        # a cluster's machines may not have this folder: record here
        with _crew(factory, workers, batch, memory_gb, None, out) if cluster else nullcontext(crew) as here:
            for answer in here.run(missing, group=_scene, timeout_s=row_timeout_s):
                note(answer, ledger.finished[answer.job.row], recorded, out)
    return results


def record_rows(
    out: Path,
    rows: Sequence[Row],
    *,
    videos: bool = True,
    recordings: bool = True,
    workers: int = 1,
    row_timeout_s: float | None = 1800.0,
) -> list[EpisodeJob]:
    """Film or record rows of a finished or stopped run: each is run once more, as ``protocol.json`` has it.

    Returns:
        the jobs, with the files that are there now.

    Raises:
        ConfigError: a row has no result in the run, the run's settings cannot be made again, or the policy's weights
            or embodiment are not those that were measured.
        DataError: a file of the run is missing or damaged.
    """
    protocol, results = read_ledger(out)
    measured = {result.row: result for result in results}
    if strange := [row for row in rows if row not in measured]:
        raise ConfigError(f"{out} has no result of {strange[0]}")
    made = [restore(protocol[key]) for key in ("benchmark", "policy")]
    factory = HandlerFactory(made[0], made[1], str(protocol["name"]), protocol["execute"])
    jobs = jobs_for(rows, out, len(rows) if videos else 0, len(rows) if recordings else 0)
    missing = unrecorded(jobs, out)
    with _crew(factory, workers, protocol.get("batch"), None, None, out) as crew:
        if missing and protocol["embodiment"] is not None:
            found = dict(zip(("embodiment", "checkpoint"), _identify(crew, row_timeout_s), strict=True))
            if other := differences({key: protocol[key] for key in found}, found):
                raise ConfigError(f"the policy is not the one that {out} was measured with: {'; '.join(other)}")
        for answer in crew.run(missing, group=_scene, timeout_s=row_timeout_s):
            note(answer, measured[answer.job.row], jobs, out)
    return jobs


@contextmanager
def _crew(
    factory: HandlerFactory,
    workers: int,
    batch: int | None,
    memory_gb: float | None,
    cluster: Cluster | None,
    out: Path,
) -> Iterator[Crew | RayCrew]:
    """The processes, as drawn above; all are gone when the block ends."""
    log = out / "workers.log"
    if cluster is not None:
        if batch is not None:
            raise ConfigError("on a cluster every process has a policy of its own: leave out the batch size")
        with RayCrew(factory, workers, cluster) as crew:
            yield crew
        return
    if batch is None:
        with Crew(factory, workers, log=log, memory_gb=memory_gb) as crew:
            yield crew
        return
    with PolicyProcess(factory.policy, batch, log=log) as policy:

        @contextmanager
        def equipped() -> Iterator[HandlerFactory]:
            with policy.seat() as seat:
                yield replace(factory, policy=seat)

        with Crew(factory, workers, log=log, memory_gb=memory_gb, equip=equipped) as crew:
            yield crew


def _identify(crew: Crew | RayCrew, timeout_s: float | None) -> tuple[str, str]:
    """Fingerprints of the policy's embodiment and weights as they are now.

    Raises:
        VlaError: it cannot be made, or its process died of the question.
    """
    (answer,) = crew.run([Identify()], timeout_s=timeout_s)
    if isinstance(answer.value, Crash):
        raise VlaError(f"cannot tell which policy this is: {answer.value.error}")
    return answer.value


def _scene(job: EpisodeJob) -> tuple[str, str]:
    """Rows of one task share a compiled scene."""
    return job.row.suite, job.row.task


def _result(answer: Answer, name: str, ledger: Ledger) -> Result:
    if not isinstance(answer.value, Crash):
        return replace(answer.value, attempts=answer.attempts)
    return Result(
        answer.job.row,
        "error",
        error=answer.value.error,
        error_kind=answer.value.kind,
        attempts=answer.attempts,
        policy=name,
        embodiment=ledger.protocol["embodiment"] or "",
        checkpoint=ledger.protocol["checkpoint"] or "",
    )


@contextmanager
def _bar(name: str, total: int, before: Sequence[Result], show: bool) -> Iterator[Callable[[Result], None]]:
    """A progress bar with the success rate so far; on standard error, because standard output may be read."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counts = Counter(result.status for result in before)

    def rate() -> str:
        scored = counts["success"] + counts["failure"]
        errors = f"  errors: {counts['error']}" if counts["error"] else ""
        return (f"{counts['success']} of {scored} solved" if scored else "") + errors

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(name, total=total, completed=len(before), rate=rate())

        def advance(result: Result) -> None:
            counts[result.status] += 1
            bar.update(task, advance=1, rate=rate())

        yield advance
