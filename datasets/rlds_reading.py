"""What the fields of an RLDS data set mean: by a description, or by the embodiment that lies beside data of our own."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Shaped

import vla.rotation
import vla.transforms
from vla.datasets import description as description_module
from vla.datasets import storage
from vla.datasets.description import Camera, Description, read_description
from vla.datasets.embodiment_file import FORMATS, NAME
from vla.datasets.oxe import registry
from vla.datasets.oxe.registry import oxe_description, oxe_files
from vla.datasets.rlds_specification import FEATURES, STEPS, ImageField, NumberField, Specification, read_json
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError

TIME_BITS = "observation/time_bits"
"""The bits of each step's time [s] as a whole number: TFRecords have no 64-bit floats."""

Columns = tuple[Float32[np.ndarray, "t s"], Float32[np.ndarray, "t a"]]


class Reading(Protocol):
    """How the fields of a step become a state, an action, pictures and an instruction."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Numeric fields that are needed."""
        ...

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """All that there are."""
        ...

    @property
    def instruction(self) -> str:
        """Field of the text; empty if there is none."""
        ...

    @property
    def dropped(self) -> tuple[int, int]:
        """Steps left out at the start and at the end of each episode."""
        ...

    @property
    def holds(self) -> tuple[str, ...]:
        """Fields of an episode, true or false; episodes stay where all are true."""
        ...

    @property
    def thins(self) -> bool:
        """Whether steps are left out by their numbers."""
        ...

    @property
    def own(self) -> bool:
        """Whether this project wrote the data: with exact times, sources and outcomes."""
        ...

    @property
    def digest(self) -> str:
        """Changes when the numbers would."""
        ...

    def embodiment(self, sizes: Mapping[str, tuple[int, int]]) -> EmbodimentSpec:
        """The robot with these cameras."""
        ...

    def columns(self, numbers: Mapping[str, Shaped[np.ndarray, "t n"]]) -> Columns:
        """State and action of one whole episode."""
        ...

    def kept(self, numbers: Mapping[str, Shaped[np.ndarray, "t n"]]) -> Bool[np.ndarray, "t"]:
        """Which of its steps stay; those that are left out at its start and end still count."""
        ...


@dataclass(frozen=True)
class Described:
    """Data that somebody else wrote.

    Attributes:
        description: says what the fields mean.
        fixes: mended and canonical; else as stored.
    """

    description: Description
    fixes: bool
    own: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """See :class:`Reading`."""
        return self.description.fields

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """See :class:`Reading`."""
        return self.description.cameras

    @property
    def instruction(self) -> str:
        """See :class:`Reading`."""
        return self.description.instruction

    @property
    def dropped(self) -> tuple[int, int]:
        """See :class:`Reading`."""
        return self.description.dropped(fixes=self.fixes)

    @property
    def holds(self) -> tuple[str, ...]:
        """See :class:`Reading`."""
        return self.description.holds if self.fixes else ()

    @property
    def thins(self) -> bool:
        """See :class:`Reading`."""
        return self.fixes and self.description.thins

    @property
    def digest(self) -> str:
        """See :class:`Reading`."""
        return hashlib.sha256(repr((self.description, self.fixes, _code())).encode()).hexdigest()[:16]

    def embodiment(self, sizes: Mapping[str, tuple[int, int]]) -> EmbodimentSpec:
        """See :class:`Reading`."""
        return self.description.embodiment(sizes, fixes=self.fixes)

    def columns(self, numbers: Mapping[str, Shaped[np.ndarray, "t n"]]) -> Columns:
        """See :class:`Reading`."""
        return self.description.columns(numbers, fixes=self.fixes)

    def kept(self, numbers: Mapping[str, Shaped[np.ndarray, "t n"]]) -> Bool[np.ndarray, "t"]:
        """See :class:`Reading`."""
        return self.description.kept(numbers)


@dataclass(frozen=True)
class Own:
    """Data that this project wrote: nothing has to be guessed or mended.

    Attributes:
        spec: as it was written.
        format: of its file.
    """

    spec: EmbodimentSpec
    format: int
    instruction: str = "language_instruction"
    dropped: tuple[int, int] = (0, 0)
    holds: tuple[str, ...] = ()
    thins: bool = False
    own: bool = True

    @property
    def fields(self) -> tuple[str, ...]:
        """See :class:`Reading`."""
        return (*(("observation/state",) if self.spec.state else ()), "action", TIME_BITS)

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """See :class:`Reading`."""
        return tuple(
            Camera(camera.name, f"observation/{camera.name}", camera.role, camera.orientation)
            for camera in self.spec.cameras
        )

    @property
    def digest(self) -> str:
        """See :class:`Reading`."""
        return self.spec.fingerprint

    def embodiment(self, sizes: Mapping[str, tuple[int, int]]) -> EmbodimentSpec:
        """See :class:`Reading`."""
        cameras = tuple(
            replace(camera, height=sizes[camera.name][0], width=sizes[camera.name][1])
            for camera in self.spec.cameras
            if camera.name in sizes
        )
        return replace(self.spec, cameras=cameras)

    def columns(self, numbers: Mapping[str, Shaped[np.ndarray, "t n"]]) -> Columns:
        """See :class:`Reading`."""
        action = numbers["action"]
        state = numbers["observation/state"] if self.spec.state else np.zeros((len(action), 0), np.float32)
        return state, action

    def kept(self, numbers: Mapping[str, Shaped[np.ndarray, "t n"]]) -> Bool[np.ndarray, "t"]:
        """See :class:`Reading`."""
        return np.ones(len(numbers["action"]), bool)


def reading(specification: Specification, description: Path | None, *, fixes: bool) -> Reading:
    """What the fields mean: by the user's description, else by ``vla.json``, else by the data set's name.

    Raises:
        DataError: nobody says it; the fields are listed. Or what says it does not fit the data set.
    """
    folder = specification.folder
    features = storage.join(folder, FEATURES)
    widths = {path: kind.size for path, kind in specification.steps.items() if isinstance(kind, NumberField)}
    if description is None and storage.is_file(storage.join(folder, NAME)):
        own = Own(*_embodiment(storage.join(folder, NAME)))
        for field, width in (("observation/state", len(own.spec.state)), ("action", own.spec.action.size)):
            if field in own.fields and widths.get(field) != width:
                found = str(widths.get(field, "no such field"))
                raise DataError(features, field, expected=f"{width} numbers a step as in {NAME}", found=found)
        if TIME_BITS not in widths:
            raise DataError(features, TIME_BITS, expected="a field of whole numbers", found="no such field")
        return own
    if description is not None:
        chosen = read_description(Path(description))
    elif specification.name in oxe_files():
        chosen = oxe_description(specification.name)
    else:
        raise _nobody_knows(specification)
    for field in chosen.fields:
        if reason := specification.left_out.get(f"{STEPS}/{field}"):
            raise DataError(features, field, expected="a field that can be read", found=reason)
    chosen.check(widths, features)
    described = Described(chosen, fixes)
    for field in described.holds:
        kind = specification.episode.get(field)
        if not isinstance(kind, NumberField) or kind.size != 1:
            expected = f"a field of each episode, true or false, for the fix {' or '.join(chosen.chooses)}"
            raise DataError(features, field, expected=expected, found=f"these:\n{specification.listing()}")
    return described


def check_sizes(chosen: Reading, sizes: Mapping[str, tuple[int, int]], folder: str) -> None:
    """Compare the pictures' height and width [pixels] with what ``vla.json`` says.

    Raises:
        DataError: of another size.
    """
    if isinstance(chosen, Own):
        for camera in chosen.spec.cameras:
            found = sizes.get(camera.name, (camera.height, camera.width))
            if found != (camera.height, camera.width):
                expected = f"pictures of {camera.height}x{camera.width} as in {NAME}"
                raise DataError(folder, f"camera {camera.name}", expected=expected, found=f"{found[0]}x{found[1]}")


def _nobody_knows(specification: Specification) -> DataError:
    close = difflib.get_close_matches(specification.name, oxe_files(), n=3)
    hint = f" (closest known: {', '.join(close)})" if close else ""
    expected = (
        f"a description of what the fields of {specification.name!r} mean{hint}: give one with --description FILE, or "
        f"add datasets/oxe/{specification.name}.toml; vla/datasets/description.py shows the format"
    )
    file = storage.join(specification.folder, FEATURES)
    return DataError(file, "fields", expected=expected, found=f"these:\n{specification.listing()}")


def _embodiment(file: str) -> tuple[EmbodimentSpec, int]:
    value = read_json(file)
    if not isinstance(value, dict) or value.get("format") not in FORMATS:
        raise DataError(file, "format", expected=" or ".join(map(str, FORMATS)), found=repr(value)[:100])
    try:
        spec = EmbodimentSpec.from_json(value["embodiment"])
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(file, "embodiment", expected="an embodiment", found=str(error)) from error
    if spec.fingerprint != value.get("fingerprint"):
        raise DataError(file, "fingerprint", expected=spec.fingerprint, found=repr(value.get("fingerprint"))[:100])
    return spec, value["format"]


@cache
def _code() -> str:
    """Digest of the code that makes columns: cached ones of another version must not be taken for its own."""
    folder = Path(registry.__file__).parent
    modules = (vla.rotation, vla.transforms, description_module)
    files = [*sorted(folder.glob("*.py")), *(Path(str(module.__file__)) for module in modules)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def camera_fields(specification: Specification, chosen: Reading) -> tuple[tuple[Camera, ...], tuple[Camera, ...]]:
    """Cameras that the data set has, and those that it should have."""
    there = tuple(c for c in chosen.cameras if isinstance(specification.steps.get(c.field), ImageField))
    return there, tuple(c for c in chosen.cameras if c not in there)
