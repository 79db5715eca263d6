"""``vla eval``: a policy in a simulator over rows fixed beforehand, alone or against variants of itself on them."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import Positional

from vla.child_process import cores
from vla.commands.name_value import parse_settings
from vla.commands.simulator import LIBERO, SCENES, InAnother, InLibero
from vla.commands.subject import Subject, find_subject
from vla.commands.train import DATA_FILE
from vla.errors import ConfigError
from vla.protocol_libero import Protocol, find_protocol
from vla.report_text import count_said, errors_said
from vla.results import Result, compare, summarise
from vla.rows import Row, read_rows
from vla.shards import Shard

Variant = Literal["untrained", "blank"]
LIBERO_ONLY = ("protocol", "inits", "widen", "render", "allow_simulator_drift")
"""Options that no other simulator has."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a policy in a simulator. Rows are fixed before the run; the same command goes on after a stop."""

    checkpoint: Positional[Path]
    """A training run's folder, one of its checkpoints, a LeRobot policy's folder, the address of a served policy
    (ws://host:port), or the name of a policy, e.g. hold."""
    out: Path
    """Folder for results, report, videos and Rerun recordings."""
    set: tuple[str, ...] = ()
    """Settings of a policy by name, NAME=VALUE, e.g. gripper=0."""
    features: Path | None = None
    """Table of a LeRobot policy's features, if it is not beside its weights."""
    embodiment: str | None = None
    """Which of the checkpoint's embodiments to be, if it has several."""
    sim: str = LIBERO
    """Where: libero, or another file of sim/: robosuite_env, or gym_env for any described Gymnasium environment."""
    sim_set: tuple[str, ...] = ()
    """Settings of a simulator other than LIBERO, NAME=VALUE, e.g. description=metaworld."""
    protocol: Literal["ours", "openpi", "openvla", "openvla-oft", "lerobot"] = "ours"
    """Whose step limits, picture size, actions per look and seeds: ours, or those of a public evaluator. Ours gives a
    row the same scene whatever ran before, renders what the policy wants instead of resizing, and counts no crash as a
    failure; the others are there to compare with numbers that were published with them."""
    suite: str | None = None
    """LIBERO or LIBERO-PRO suite, libero_spatial if none is given; of another simulator all of its own. Several with
    commas between them."""
    tasks: tuple[str, ...] = ()
    """Tasks of each suite by number or name; all if none is given."""
    rows: Path | None = None
    """Instead of suite and tasks: a file of rows, JSON or Parquet; results.parquet of another run is one."""
    inits: int = 10
    """The first n of each task's own 50 initial states."""
    sampled: int = 0
    """Instead: n scenes a task with the objects placed anew. Simulators other than LIBERO have only these; 10 if n is
    not given."""
    widen: float = 1.0
    """Factor for the regions of sampled scenes. They are 2 cm wide, which an arm can solve blind; 3 needs eyes."""
    seed: int | None = None
    """Of the first row, instead of the protocol's (ours: 0, and the others count up)."""
    against: tuple[Variant, ...] = ()
    """Also run on the same rows: the untrained network, or the policy with its pictures blanked."""
    execute: int | None = None
    """Actions of each chunk that are executed before the policy looks again, instead of the protocol's (ours: 8); in
    other simulators than LIBERO all of them by default."""
    ode_steps: int | None = None
    """Steps from noise to action, for policies that take such steps; by default the policy's own number (10)."""
    workers: int = 0
    """Processes with a simulator; 0 for one a CPU core."""
    device: str | None = None
    """cpu or cuda; by default the GPU if there is one."""
    batch: int | None = None
    """One policy for all simulators that answers n of them at once; 0 for a policy in every process. By default 8 with
    a GPU, 0 without, which is a judgement (docs/evaluation.md says what was measured)."""
    memory_gb: float | None = None
    """End a process that holds more, which costs its row."""
    row_minutes: float = 30.0
    """End a row that takes longer."""
    retry_errors: bool = False
    """Run rows again that ended in an error."""
    ray_address: str | None = None
    """Run the rows on a Ray cluster (needs the extra ray); local starts one on this machine."""
    ray_gpus: float = 0.0
    """Share of a GPU that each process asks the cluster for."""
    videos: int = 4
    """Rows to film afterwards, failures first."""
    recordings: int = 1
    """Rows to record for Rerun afterwards."""
    render: Literal["decimated", "exact"] = "decimated"
    """Meshes to draw: thinned out, or LIBERO's own."""
    allow_simulator_drift: bool = False
    """Simulate with a MuJoCo that LIBERO's numbers do not hold for; every result is marked."""
    shard: str | None = None
    """Run part i of n of the rows, e.g. 2/8, on this machine; vla eval merge joins the parts."""

    def run(self, console: Console) -> dict[str, Any]:
        """Run the rows, compare, write the report."""
        from vla.report import NamedRun, write_report

        subject = self._subject()
        names = [subject.name, *dict.fromkeys(self.against)]
        for name in names:
            if name not in subject.factories:
                raise ConfigError(f"{self.checkpoint} has no variant {name!r}: it is not a checkpoint of ours")
        rows = self.make_rows()
        runs = {name: self._run_rows(subject, name, rows) for name in names}
        for name, results in runs.items():
            print_summary(console, name, results)
        comparisons = compare_all(console, runs)
        described = self.checkpoint / DATA_FILE
        report = write_report(
            self.out,
            [NamedRun(name, self.out / name) for name in names],
            training=self.checkpoint if (self.checkpoint / "metrics.jsonl").exists() else None,
            data=json.loads(described.read_text()) if described.exists() else None,
        )
        console.print(f"report: {report}")
        return {
            "rows": len(next(iter(runs.values()))),
            **({"protocol": self.protocol} if self.sim == LIBERO else {"sim": self.sim}),
            "runs": {name: summarise(results)["total"] for name, results in runs.items()},
            "comparisons": comparisons,
            "report": str(report),
        }

    def make_rows(self) -> list[Row]:
        """All rows of the evaluation, of which a shard runs a part."""
        if self.rows:
            if self.tasks or self.sampled:
                raise ConfigError("a file of rows says everything: leave out --tasks and --sampled")
            rows = read_rows(self.rows)
        else:
            rows = self._simulator.rows(self.suite, self.tasks)
        self._simulator.check(rows)
        return rows

    def run_variant(self, name: str, rows: Sequence[Row]) -> list[Result]:
        """Run the rows with the policy (``trained``, or its own name) or one of its variants."""
        return self._run_rows(self._subject(), name, rows)

    def _run_rows(self, subject: Subject, name: str, rows: Sequence[Row]) -> list[Result]:
        from vla.evaluate import run_rows
        from vla.ray_crew import Cluster

        setup = self._simulator.setup(subject.spec, rows)
        workers = self.workers or cores()
        batch = (0 if self._device() == "cpu" or self.ray_address else 8) if self.batch is None else self.batch
        return run_rows(
            rows,
            setup.benchmark,
            subject.factories[name],
            self.out / name,
            workers=min(workers, len(rows)),
            batch=batch or None,
            memory_gb=self.memory_gb,
            cluster=Cluster(self.ray_address, gpus=self.ray_gpus) if self.ray_address else None,
            row_timeout_s=60 * self.row_minutes,
            retry_errors=self.retry_errors,
            execute=setup.execute,
            protocol=setup.protocol,
            shard=Shard.parse(self.shard) if self.shard else None,
            name=name,
            videos=self.videos,
            recordings=self.recordings,
        )

    @functools.cached_property
    def _simulator(self) -> InLibero | InAnother:
        if self.sim == LIBERO:
            if self.sim_set:
                raise ConfigError("--sim-set is for other simulators: LIBERO's settings are --protocol, --render, ...")
            protocol = self._protocol()
            return InLibero(protocol, self.inits, self.sampled, self.widen, self.render, self.allow_simulator_drift)
        given = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        if wrong := [name for name in LIBERO_ONLY if name in given]:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
            raise ConfigError(f"{options}: of LIBERO, not of {self.sim}; its own settings are given with --sim-set")
        settings = parse_settings(self.sim_set, "--sim-set")
        return InAnother(self.sim, settings, self.sampled or SCENES, self.seed or 0, self.execute)

    def _protocol(self) -> Protocol:
        """As chosen, with what was set by hand."""
        protocol = find_protocol(self.protocol)
        if self.execute is not None:
            protocol = replace(protocol, execute=self.execute)
        if self.rows:
            return replace(protocol, seed=0, seed_rule="rows")
        return protocol if self.seed is None else replace(protocol, seed=self.seed)

    def _subject(self) -> Subject:
        return find_subject(
            self.checkpoint,
            self.set,
            embodiment=self.embodiment,
            ode_steps=self.ode_steps,
            device=self._device(),
            features=self.features,
            body=self._simulator.body,
        )

    def _device(self) -> str:
        if self.device is None:
            import torch

            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.device != "cpu" and not self.device.startswith("cuda"):
            raise ConfigError(f"device {self.device!r}: expected cpu or cuda")
        return self.device


def print_summary(console: Console, name: str, results: Sequence[Result]) -> None:
    """A table of success by task, and by suite and perturbation where there are several."""
    summary = summarise(results)
    first = Column("", overflow="fold")  # tasks differ in their last words
    table = Table(first, "success", "95 % Wilson", "by task", "errors", "mean steps", title=name)
    groups = [("tasks", "task"), ("suites", "suite"), ("perturbations", "perturbation")]
    for group, label in groups:
        cells = summary[group]
        if group == "tasks" or len(cells) > 1:
            for cell in cells:
                _add(table, cell[label], cell)
            table.add_section()
    _add(table, "all", summary["total"])
    console.print(table)


def _add(table: Table, label: str, cell: dict[str, Any]) -> None:
    spans = [(cell["low"], cell["high"]) if cell["n"] else None, cell["clustered"]]
    said = ["" if span is None else f"{100 * span[0]:.0f} to {100 * span[1]:.0f} %" for span in spans]
    steps = "" if cell["mean_steps"] is None else f"{cell['mean_steps']:.0f}"
    table.add_row(label, f"{cell['successes']}/{cell['n']}", *said, errors_said(cell) or "0", steps)


def compare_all(console: Console, runs: dict[str, list[Result]]) -> dict[str, Any]:
    """The first run against each other one, over the rows that both finished; one that finished none is told."""
    (first, ours), *others = runs.items()
    found: dict[str, Any] = {}
    for name, results in others:
        try:
            result = compare(ours, results, allow_missing=True)
        except ConfigError as error:
            console.print(f"{first} and {name} cannot be compared: {error}", markup=False, highlight=False)
            found[f"{first} vs {name}"] = {"error": str(error)}
            continue
        console.print(
            f"{first} minus {name}: {100 * result.difference:+.0f} points "
            f"({100 * result.low:+.0f} to {100 * result.high:+.0f}), exact McNemar p = {result.p_value:.2g}, "
            f"{count_said(result.n, 'row')}{f', {result.left_out} left out' if result.left_out else ''}"
        )
        found[f"{first} vs {name}"] = result.to_json()
    return found
