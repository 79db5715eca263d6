"""``vla data info``."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from vla.commands.source import SourceOptions


@dataclass(frozen=True)
class Info:
    """What a data set holds: episodes, steps, instructions, cameras, channels and their meaning."""

    source: SourceOptions
    draft_description: bool = False
    """Print instead a description of a LeRobot data set to fill in (TOML): what its files say, and ? for the rest."""

    def run(self, console: Console) -> dict[str, Any]:
        """Print tables; return them as JSON."""
        from rich.markup import escape

        from vla.describe import info

        if self.draft_description:
            return {"description": self._draft(console)}
        source = self.source.open()
        facts: dict[str, Any] = info(source)
        facts["quirks"] = [str(quirk) for quirk in source.quirks]
        action = facts["action"]
        console.print(f"[bold]{escape(self.source.path)}[/]: {facts['episodes']} episodes, {facts['steps']} steps")
        console.print(
            f"embodiment {escape(facts['embodiment'])} ({facts['fingerprint']}), {action['mode']} actions in the "
            f"{action['frame']} frame at {facts['rate']:g} Hz, gripper {action['gripper']}"
        )
        cameras = Table("camera", "size", "orientation", "role")
        for camera in facts["cameras"]:
            size = f"{camera['height']}x{camera['width']}"
            cameras.add_row(escape(camera["name"]), size, camera["orientation"], camera["role"])
        channels = Table("", "channel", "unit", "kind")
        for kind in ("state", "action"):
            for channel in facts[kind]["channels"]:
                form = f" ({facts[kind]['rotation']})" if channel["kind"] == "rotation" else ""
                channels.add_row(kind, escape(channel["name"]), channel["unit"], channel["kind"] + form)
        instructions = Table("episodes", "instruction")
        for instruction, count in facts["instructions"].items():
            instructions.add_row(str(count), escape(instruction) or "(none)")
        for table in (cameras, channels, instructions):
            console.print(table)
        return facts

    def _draft(self, console: Console) -> str:
        from vla.datasets.lerobot_draft import draft_description
        from vla.datasets.lerobot_mirror import local_folder
        from vla.files import cache_folder

        text = draft_description(local_folder(self.source.path, cache_folder(), only_meta=True))
        console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        return text
