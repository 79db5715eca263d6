"""The layout that every Rerun recording opens with: cameras, the plan in space, numbers by kind over time."""

from collections.abc import Sequence
from typing import Any

from vla.embodiment import Channel, EmbodimentSpec, RotationForm


def blueprint(spec: EmbodimentSpec) -> Any:
    """The blueprint for an embodiment; the same for data, simulation and arm."""
    import rerun.blueprint as rrb

    cameras = [rrb.Spatial2DView(origin=f"camera/{name}", name=name) for name in spec.camera_names]
    everything = rrb.VisibleTimeRanges(
        [
            rrb.VisibleTimeRange(
                timeline, start=rrb.TimeRangeBoundary.infinite(), end=rrb.TimeRangeBoundary.cursor_relative()
            )
            for timeline in ("step", "time")
        ]
    )
    plan = rrb.Spatial3DView(origin="plan", name="Plan", overrides={"plan/path": everything})
    notes = rrb.Tabs(
        rrb.TextDocumentView(origin="instruction", name="Instruction"),
        rrb.TextLogView(origin="log", name="Log"),
        rrb.TimeSeriesView(origin="inference", name="Inference"),
    )
    left = rrb.Vertical(rrb.Horizontal(*cameras), rrb.Horizontal(plan, notes), row_shares=[3, 2])
    actions = _charts("Action", spec.action.channels, ("action", "predicted"), spec.action.rotation)
    states = _charts("State", spec.state, ("state",), spec.state_rotation)
    right = rrb.Tabs(rrb.Vertical(*actions, name="Actions"), rrb.Vertical(*states, name="State"))
    return rrb.Blueprint(
        rrb.Horizontal(left, right, column_shares=[3, 2]),
        rrb.TimePanel(timeline="step", state="collapsed", fps=spec.action.rate),
        collapse_panels=True,
    )


def _charts(title: str, channels: Sequence[Channel], roots: Sequence[str], form: RotationForm | None) -> list[Any]:
    """One chart for each kind of channel: numbers of one unit share an axis."""
    import rerun.blueprint as rrb

    charts = []
    for kind, unit in dict.fromkeys((channel.kind, channel.unit) for channel in channels):
        names = [channel.name for channel in channels if (channel.kind, channel.unit) == (kind, unit)]
        contents = [f"{root}/{name}" for name in names for root in roots]
        label = f" [{unit}]" if unit != "1" else ""
        legend = rrb.PlotLegend(rrb.Corner2D.RightTop)
        name = f"{title}: {kind}{label}" + (f", {form}" if kind == "rotation" else "")
        charts.append(rrb.TimeSeriesView(origin="/", contents=contents, name=name, plot_legend=legend))
    return charts
