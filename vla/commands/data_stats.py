"""``vla data stats``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vla.commands.source import SourceOptions, data_set_name
from vla.errors import ConfigError
from vla.normalize import FIELDS, Statistics
from vla.protocols import EpisodeSource


@dataclass(frozen=True)
class Stats:
    """Statistics by channel name: mean, std, min, max, 1 % and 99 % quantiles; a data set is measured once."""

    source: SourceOptions
    also: tuple[str, ...] = ()
    """Further data sets of the same embodiment, to pool with the first."""
    out: Path | None = None
    """Also write them to this JSON file."""
    export: Literal["openpi", "openvla", "lerobot"] | None = None
    """Form of that file: norm_stats.json, dataset_statistics.json or meta/stats.json (whose other features stay)."""
    name: str | None = None
    """Of the data set in an OpenVLA file; by default the folder's name."""
    fresh: bool = False
    """Measure anew, even if the same files were measured before."""

    def run(self, console: Console) -> dict[str, Any]:
        """Print a table for each data set and for all together; return the pooled numbers as JSON."""
        import dataclasses

        from vla.commands.progress import counted
        from vla.files import cache_folder, write_text
        from vla.statistics_cache import pooled

        if self.export and not self.out:
            raise ConfigError("--export needs --out, the file to write")
        paths = (self.source.path, *self.also)
        sources = [dataclasses.replace(self.source, path=path).open() for path in paths]
        with counted(console, "measuring", "steps") as show:
            cache = None if self.fresh else cache_folder()
            each = [pooled([source], cache=cache, progress=show) for source in sources]
            together = pooled(sources, cache=cache, progress=show) if len(sources) > 1 else each[0]
        for path, one in zip(paths, each, strict=True):
            console.print(_table(path, one))
        if len(sources) > 1:
            console.print(_table(f"all {len(sources)} together", together))
        if self.out and self.export:
            _export(self.export, self.out, together, sources, self.name or data_set_name(self.source.path))
        elif self.out:
            write_text(self.out, json.dumps(together.to_json(), indent=1))
        return together.to_json()


def _table(title: str, measured: Statistics) -> Table:
    counts = sorted({numbers.count for numbers in measured.channels.values()})
    error = max((numbers.quantile_error or 0.0 for numbers in measured.channels.values()), default=0.0)
    exact = f"; ranks of the quantiles off by at most {100 * error:.2g} %" if error else ""
    table = Table("channel", *FIELDS, title=f"{escape(title)}: {', '.join(map(str, counts))} steps{exact}", padding=0)
    for name, numbers in measured.channels.items():
        table.add_row(escape(name), *(f"{getattr(numbers, key):.4g}" for key in FIELDS))
    return table


def _export(layout: str, out: Path, measured: Statistics, sources: list[EpisodeSource], name: str) -> None:
    from vla.statistics_files import write_lerobot, write_openpi, write_openvla

    spec = sources[0].spec
    if layout == "openpi":
        write_openpi(out, measured, spec)
    elif layout == "lerobot":
        write_lerobot(out, measured, spec)
    else:
        write_openvla(out, measured, spec, data_set=name, episodes=sum(len(source) for source in sources))
