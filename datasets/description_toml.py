"""Values of a description's TOML file, each compared with what may stand in its place."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vla.datasets.description_parts import LEFT_OUT, STANDARD, Camera, Column
from vla.embodiment import Channel, Gripper, Kind, Orientation, Role, RotationForm, Unit
from vla.errors import DataError

_REQUIRED = object()
_LARGEST = 1e300  # TOML has whole numbers that no float holds


@dataclass(frozen=True)
class Table:
    """One table of the file.

    Attributes:
        path: of the file.
        name: where in it, for people; empty for the whole.
        value: as TOML gives it.
        known: keys that may stand in it.

    Raises:
        DataError: it is no table, or has other keys.
    """

    path: Path
    name: str
    value: Any
    known: Iterable[str]

    def __post_init__(self):
        if not isinstance(self.value, dict):
            raise self._error("", "a table", self.value)
        unknown = sorted(set(self.value) - set(self.known))
        if unknown:
            raise self._error("", f"only {', '.join(sorted(self.known))}", ", ".join(unknown))

    def inner(self, key: str, known: Iterable[str]) -> "Table":
        """The table under a key, empty if there is none."""
        return Table(self.path, self._place(key), self.value.get(key, {}), known)

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A text."""
        value = self.value.get(key, default)
        if not isinstance(value, str) or (value == "" and default is _REQUIRED):
            raise self._error(key, "a text", value)
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A finite number."""
        value = self.value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
            raise self._error(key, "a finite number", value)
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false; false if absent."""
        value = self.value.get(key, False)
        if not isinstance(value, bool):
            raise self._error(key, "true or false", value)
        return value

    def choice(self, key: str, known: Sequence[Any], default: Any = None) -> Any:
        """One of those known."""
        value = self.value.get(key, default)
        if isinstance(value, list | dict) or value not in known:
            raise self._error(key, f"one of {', '.join(map(str, known))}", value)
        return value

    def texts(self, key: str, known: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """A list of texts, of those known if any are."""
        values = self._items(key)
        for value in values:
            if not isinstance(value, str) or (known is not None and value not in known):
                raise self._error(key, f"names of {', '.join(known)}" if known else "a list of texts", value)
        return tuple(values)

    def wholes(self, key: str) -> tuple[int, int] | None:
        """Two whole numbers, not below 0; None if absent."""
        if key not in self.value:
            return None
        value = self.value[key]
        if not isinstance(value, list) or [type(item) for item in value] != [int, int] or min(value) < 0:
            raise self._error(key, "two whole numbers", value)
        return value[0], value[1]

    def rotation(self) -> RotationForm | None:
        """The form of rotation channels; None if absent."""
        return self.choice("rotation", (None, *get_args(RotationForm)))

    def gripper(self) -> Gripper | None:
        """What the stored numbers of a gripper mean; None if absent."""
        if "gripper" not in self.value:
            return None
        table = self.inner("gripper", {"closed", "open"})
        return Gripper(closed=table.number("closed"), opened=table.number("open"))

    def cameras(self) -> tuple[Camera, ...]:
        """All cameras."""
        known = {"name", "field", "role", "orientation", "bgr", "bgr_mended"}
        return tuple(table._camera() for table in self._tables("cameras", known))

    def columns(self) -> tuple[Column, ...]:
        """All columns; the key must be there."""
        if "columns" not in self.value:
            raise self._error("columns", "a list of columns", None)
        known = {"field", "channels", "take", "scale", "low", "high"}
        return tuple(table._column() for table in self._tables("columns", known))

    def _camera(self) -> Camera:
        return Camera(
            name=self.text("name"),
            field=self.text("field"),
            role=self.choice("role", get_args(Role), "other"),
            orientation=self.choice("orientation", get_args(Orientation), "upright"),
            bgr=self.flag("bgr"),
            bgr_mended=self.wholes("bgr_mended"),
        )

    def _column(self) -> Column:
        field, names = self.text("field"), self.text("channels").split()
        limits = {key: self.number(key) for key in ("scale", "low", "high") if key in self.value}
        channels = tuple(None if name == LEFT_OUT else self._channel(name, limits) for name in names)
        first, end = self.wholes("take") or (0, len(names))
        if end - first != len(names):
            raise self._error("take", f"a range of {len(names)} numbers, one for each channel", [first, end])
        return Column(field, channels, first)

    def _channel(self, text: str, limits: dict[str, float]) -> Channel:
        name, *rest = text.split(":")
        if len(rest) == 2:
            words = Table(
                self.path, f"{self.name}: {name}", dict(zip(("unit", "kind"), rest, strict=True)), ("unit", "kind")
            )
            return Channel(name, words.choice("unit", get_args(Unit)), words.choice("kind", get_args(Kind)), **limits)
        for pattern, unit, kind in STANDARD:
            if not rest and re.fullmatch(pattern, name):
                return Channel(name, unit, kind, **limits)
        raise self._error("channels", "standard names, or name:unit:kind", text)

    def _tables(self, key: str, known: Iterable[str]) -> list["Table"]:
        items = self._items(key)
        return [Table(self.path, f"{self._place(key)}[{index}]", item, known) for index, item in enumerate(items)]

    def _items(self, key: str) -> list[Any]:
        value = self.value.get(key, [])
        if not isinstance(value, list):
            raise self._error(key, "a list", value)
        return value

    def _place(self, key: str) -> str:
        return f"{self.name}: {key}" if self.name and key else self.name or key

    def _error(self, key: str, expected: str, found: Any) -> DataError:
        shown = "nothing" if found is None or found is _REQUIRED else repr(found)[:200]
        return DataError(self.path, self._place(key) or "file", expected=expected, found=shown)
