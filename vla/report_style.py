"""What all reports look like: styles inside the page, so that one file opens from disk without a network."""

import datetime
from collections.abc import Sequence
from html import escape
from pathlib import Path

from vla.files import write_text

MAX_RUNS = 6
"""Colours that stay apart."""

CSS = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5c6670; --faint: #8a949e; --line: #dfe3e8; --paper: #fff;
  --panel: #f6f7f9; --run0: #0a6ebd; --run1: #d2601a; --run2: #11806a; --run3: #8a4fbf; --run4: #b02a5b;
  --run5: #6b7280; --good: #11806a;
  --bad: #c0392b; --odd: #946200; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb7; --faint: #7b858f; --line: #30363d;
  --paper: #14181c; --panel: #1c2127; --run0: #58a6ff; --run1: #f0883e; --run2: #3fb99a; --run3: #bc8cff;
  --run4: #ff7b9c; --run5: #9aa4b2; --good: #3fb99a; --bad: #ff7b72; --odd: #d9a441; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 44px 24px 90px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3em; letter-spacing: -.015em; }
h2 { font-size: 1.2rem; margin: 2.6em 0 .5em; }
h3 { font-size: 1rem; margin: 1.6em 0 .4em; }
p { margin: .5em 0; max-width: 46em; }
.lead { font-size: 1.12rem; max-width: 44em; }
.soft, .none { color: var(--soft); }
.small { font-size: .87rem; }
.figures { display: flex; flex-wrap: wrap; gap: 14px; margin: 1.5em 0 .8em; }
.figure { background: var(--panel); border-radius: 10px; padding: 14px 20px 15px; min-width: 215px; flex: 1 1 215px;
  max-width: 345px; border-left: 5px solid var(--c); }
.figure .name { color: var(--soft); font-size: .9rem; }
.figure .rate { font-size: 2.1rem; font-weight: 650; line-height: 1.25; letter-spacing: -.02em; }
.figure .note { color: var(--soft); font-size: .87rem; }
.run-0 { --c: var(--run0); } .run-1 { --c: var(--run1); } .run-2 { --c: var(--run2); } .run-3 { --c: var(--run3); }
.run-4 { --c: var(--run4); } .run-5 { --c: var(--run5); }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem; padding: 6px 12px 6px 0;
  vertical-align: bottom; border-bottom: 1px solid var(--line); }
td { padding: 8px 12px 8px 0; vertical-align: middle; border-bottom: 1px solid var(--line); }
tr.total td { font-weight: 650; border-bottom: 0; border-top: 2px solid var(--line); }
td.number, th.number { white-space: nowrap; }
td.number div { line-height: 20px; }
td .dot, .legend .dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; background: var(--c);
  margin-right: 8px; }
.legend span { margin-right: 20px; }
.scroll { overflow-x: auto; } .scroll + .scroll { margin-top: 1.6em; }
svg { display: block; width: 100%; height: auto; }
svg.intervals { min-width: 220px; max-width: 330px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .whisker { stroke: var(--c); stroke-width: 3; stroke-linecap: round; opacity: .45; }
svg .outer { stroke: var(--c); stroke-width: 1.2; opacity: .8; }
svg .zero { stroke: var(--soft); stroke-width: 1.5; }
td.label { min-width: 230px; }
svg.differences { max-width: 560px; }
svg circle { fill: var(--c); }
svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--faint); }
svg text.none { text-anchor: middle; }
svg polyline { fill: none; stroke: var(--run0); stroke-width: 1; opacity: .28; }
svg polyline.smooth { stroke-width: 2; opacity: 1; stroke-linejoin: round; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 22px; }
figure { margin: 0; } figcaption { font-size: .9rem; margin-bottom: 4px; }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 22px; }
.film video { width: 100%; border-radius: 8px; background: var(--panel); display: block; }
.film .what { font-size: .89rem; margin-top: 7px; line-height: 1.4; }
.chip { font-size: .8rem; font-weight: 650; color: var(--c); }
.success { --c: var(--good); } .failure { --c: var(--bad); } .error { --c: var(--odd); }
dl { display: grid; grid-template-columns: minmax(130px, max-content) 1fr; gap: 5px 24px; margin: .6em 0;
  font-size: .93rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
dd ul { margin: 0; padding-left: 1.1em; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 0 44px; }
code { font: .87em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: var(--panel); padding: 2px 6px; border-radius: 5px; overflow-wrap: anywhere; }
details { margin: 1em 0; } summary { cursor: pointer; color: var(--soft); }
footer { margin-top: 60px; padding-top: 14px; border-top: 1px solid var(--line);
  color: var(--faint); font-size: .85rem; }
"""


def write_page(
    path: Path, title: str, sections: Sequence[str], *, by: str = "vla", note: str = "", css: str = ""
) -> Path:
    """Write a report.

    Args:
        path: of the page; its folder is made if need be.
        title: heading, as plain text.
        sections: HTML.
        by: the command that wrote it.
        note: HTML at the end of the footer.
        css: styles of this report alone.

    Returns:
        the path.
    """
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}{css}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{''.join(sections)}"
        f"<footer>Written by <code>{by}</code> on {datetime.date.today().isoformat()}.{note}</footer>"
        "</main></body></html>\n"
    )
    write_text(path, page)
    return path
