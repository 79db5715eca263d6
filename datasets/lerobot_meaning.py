"""What a LeRobot data set's columns mean: our own ``vla.json`` says it, or the user's description."""

import json
from dataclasses import dataclass
from pathlib import Path

from vla.datasets.description import Camera, Description, read_description
from vla.datasets.embodiment_file import FORMATS
from vla.datasets.lerobot_draft import features_text
from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_layout import ACTION, SPEC_FILE, STATE, TIME, camera_key
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError


@dataclass(frozen=True)
class Meaning:
    """What a data set's columns mean: said by our own ``vla.json`` or by a description.

    Attributes:
        own: the embodiment in vla.json; None for data of others.
        description: for data of others.
        fields: features of numbers.
        clock: column of measured times; empty if there is none.
        instruction: column of texts or of their numbers.
        cameras: names and features.
        format: of vla.json; 0 for data of others.
    """

    own: EmbodimentSpec | None
    description: Description | None
    fields: tuple[str, ...]
    clock: str
    instruction: str
    cameras: tuple[Camera, ...]
    format: int

    def spec(self, sizes: dict[str, tuple[int, int]], *, fixes: bool) -> EmbodimentSpec:
        """The robot, with those cameras that have pictures."""
        if self.description is None:
            assert self.own is not None
            return self.own
        named = {camera.name: sizes[camera.field] for camera in self.cameras if camera.field in sizes}
        return self.description.embodiment(named, fixes=fixes)


def own_meaning(info: Info) -> Meaning:
    """What our own vla.json says, compared with the features."""
    path = info.folder / SPEC_FILE
    if not path.is_file():
        raise DataError(
            path,
            "embodiment",
            expected="what the numbers mean (units, rotation form, gripper, camera orientation): give a description, "
            "`--description FILE.toml`; `vla data info PATH --draft-description` writes one to fill in",
            found=f"a data set that another program wrote, with\n{features_text(info)}",
        )
    try:
        value = json.loads(path.read_bytes())
        if value["format"] not in FORMATS:
            expected = " or ".join(map(str, FORMATS))
            raise DataError(path, "format", expected=expected, found=repr(value["format"])[:80])
        spec = EmbodimentSpec.from_json(value["embodiment"])
        stored = value["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise DataError(path, "embodiment", expected="JSON of an EmbodimentSpec", found=str(error)) from error
    if stored != spec.fingerprint:
        raise DataError(path, "fingerprint", expected=f"{spec.fingerprint} of the embodiment in it", found=str(stored))
    for name, channels in ((STATE, spec.state_names), (ACTION, spec.action.names)):
        feature = info.features.get(name)
        if channels and (feature is None or feature.shape != (len(channels),)):
            found = "none" if feature is None else str(list(feature.shape))
            raise DataError(info.file, f"features: {name}: shape", expected=f"[{len(channels)}]", found=found)
        if channels and feature is not None and feature.names != channels:
            expected, found = ", ".join(channels), ", ".join(feature.axes)
            raise DataError(info.file, f"features: {name}: names", expected=expected, found=found)
    for camera in spec.cameras:
        feature = info.features.get(camera_key(camera.name))
        size = (camera.height, camera.width)
        if feature is None or not feature.is_camera or feature.size != size:
            found = "none" if feature is None else f"{feature.dtype} {list(feature.shape)}"
            where = f"features: {camera_key(camera.name)}"
            raise DataError(info.file, where, expected="pictures of {}x{}".format(*size), found=found)
    cameras = tuple(Camera(camera.name, camera_key(camera.name)) for camera in spec.cameras)
    fields = (STATE, ACTION) if spec.state else (ACTION,)
    return Meaning(spec, None, fields, TIME if TIME in info.features else "", "task_index", cameras, value["format"])


def described_meaning(info: Info, path: Path, *, fixes: bool) -> Meaning:
    """What the user's description says, compared with the features; ``fixes`` says whether its fixes will be used."""
    description = read_description(path, choosing=not fixes)
    widths = {name: feature.width for name, feature in info.features.items() if feature.is_numeric}
    description.check(widths, info.file)
    known = ", ".join(feature.name for feature in info.cameras) or "none"
    for camera in description.cameras:
        feature = info.features.get(camera.field)
        if feature is None or not feature.is_camera:
            raise DataError(info.file, f"features: {camera.field}", expected="a camera", found=f"only {known}")
        if feature.size == (0, 0):
            shape = str(list(feature.shape))
            raise DataError(info.file, f"features: {camera.field}", expected="RGB pictures", found=shape)
    instruction = description.instruction or ("task_index" if "task_index" in info.features else "")
    if instruction and instruction not in info.features:
        found = f"only {', '.join(info.features)}"
        raise DataError(info.file, f"features: {instruction}", expected="the column of the instruction", found=found)
    return Meaning(None, description, description.fields, "", instruction, description.cameras, 0)
