"""The command ``vla``: one subcommand a file in ``vla/commands/``, each a frozen dataclass whose ``run`` does the work.

People read what is printed; programs pass ``--json`` and read one JSON object from standard output, everything else
goes to standard error then. The exit code is 0 only on success, 1 when a check found errors in what it examined, 2 for
input that cannot be used, 130 after Ctrl-C.
"""

import errno
import json
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from tyro.conf import subcommand

from vla.commands.data import Data
from vla.commands.demos import Demos
from vla.commands.eval import Eval, with_run
from vla.commands.model import Model
from vla.commands.quickstart import Quickstart
from vla.commands.record import Record
from vla.commands.replay import Replay
from vla.commands.robot import RobotCommand
from vla.commands.rollout import Rollout
from vla.commands.serve import Serve
from vla.commands.teleop import Teleop
from vla.commands.train import Train
from vla.errors import ChecksFailed, VlaError

Command = (
    Annotated[Data, subcommand("data")]
    | Annotated[Demos, subcommand("demos")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Eval, subcommand("eval")]
    | Annotated[Model, subcommand("model")]
    | Annotated[Teleop, subcommand("teleop")]
    | Annotated[Record, subcommand("record")]
    | Annotated[Replay, subcommand("replay")]
    | Annotated[Rollout, subcommand("rollout")]
    | Annotated[RobotCommand, subcommand("robot")]
    | Annotated[Serve, subcommand("serve")]
    | Annotated[Quickstart, subcommand("quickstart")]
)


@dataclass(frozen=True)
class Arguments:
    """Vision-language-action policies for robot arms: data, training, simulation, rollout."""

    command: Command  # pyright: ignore[reportInvalidTypeForm]
    """What to do; each has its own --help."""
    json: bool = False
    """Print one JSON object on standard output, everything for people on standard error."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``vla`` command; always leaves through ``SystemExit``."""
    options: Arguments = tyro.cli(
        Arguments,
        prog="vla",
        args=with_run(sys.argv[1:] if arguments is None else arguments),
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
    console = Console(stderr=options.json, soft_wrap=True)  # a line is a line, also in a log
    sys.exit(run(options.command, console, as_json=options.json))


def run(command: Any, console: Console, *, as_json: bool = False) -> int:
    """Run one command and return its exit code."""
    errors = Console(stderr=True)
    try:
        summary = command.run(console)
    except ChecksFailed as failed:
        if as_json:
            print(json.dumps(failed.summary))
        errors.print(failed.message, markup=False, highlight=False, soft_wrap=True)
        return 1
    except VlaError as error:
        errors.print(f"[bold red]error[/]: {type(error).__name__}: ", end="")
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR):
            raise
        errors.print(f"[bold red]error[/]: {error.strerror}: ", end="")
        errors.print(str(error.filename or "while writing"), markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt as stop:  # a command that cannot go on says so itself
        errors.print(str(stop) or "stopped; the same command goes on where this one ended")
        return 130
    if as_json and os.environ.get("RANK", "0") == "0":  # of several processes that train together, one answers
        print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    main()
