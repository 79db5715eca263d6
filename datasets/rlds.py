"""Open X-Embodiment data in RLDS form (TFRecord), at random access and without TensorFlow.

::

    features.json, dataset_info.json ─▶ specification ┐
    *.tfrecord-00000-of-00001 ──────one pass──────────┴▶ index (cached) ┐
    a description of what the fields mean ──────────────────────────────┴▶ columns (cached)
                                          source[episode].images["image_0"][step]: one read, one JPEG decoded

The index holds every field, whatever it means; what they mean is said by ``vla.json`` beside data of our own, by a file
in ``datasets/oxe/``, or by the user's own file (:mod:`vla.datasets.description`).
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vla.datasets import storage
from vla.datasets.description import Camera
from vla.datasets.manifest import MANIFEST, Sum, changes, sum_of
from vla.datasets.rlds_columns import camera_sizes, columns_file, entries
from vla.datasets.rlds_index import RldsIndex, rlds_index
from vla.datasets.rlds_reading import Own, Reading, camera_fields, check_sizes, reading
from vla.datasets.rlds_source import Piece, RldsSource
from vla.datasets.rlds_specification import FEATURES, INFO, Specification, TextField, read_specification
from vla.datasets.splits import Part, parts
from vla.errors import DataError, UnknownName
from vla.files import cache_folder
from vla.protocols import Progress
from vla.quirks import Quirk, admit

LAYOUT = f"an RLDS folder ({FEATURES}, {INFO} and *.tfrecord-*)"
BROKEN, MISSING = "broken-record", "missing-shard"

logger = logging.getLogger(__name__)


def accepts(path: str | Path) -> bool:
    """Whether the folder or URL looks like RLDS."""
    return all(storage.is_file(storage.join(path, name)) for name in (FEATURES, INFO))


@dataclass(frozen=True)
class Config:
    """One or more splits of an RLDS data set.

    Attributes:
        path: folder or URL with features.json, usually ``.../<name>/<version>``.
        split: e.g. ``train``, ``train[:90%]``, ``train[10:20]+val`` (the syntax of TFDS).
        cameras: names of the cameras to read; empty for all that the data set has.
        fixes: mend what is known to be wrong in the data set and give canonical actions; off shows the data as stored.
        tolerate: kinds of quirks to read around, or ``"all"``.
        skip_broken: set records aside that are damaged or do not fit the specification, instead of refusing the set.
        description: file that says what the fields mean; by default what is known of the data set of that name.
        cache: folder for the index; by default ``$XDG_CACHE_HOME/vla`` or ``~/.cache/vla``.
        workers: processes that index shards; 0 for one a core where it pays, 1 for none beside this one.
        progress: told how much of a long pass is done and how much there is: first bytes, then episodes.
    """

    path: str | Path
    split: str = "train"
    cameras: tuple[str, ...] = ()
    fixes: bool = True
    tolerate: tuple[str, ...] = ()
    skip_broken: bool = False
    description: Path | None = None
    cache: Path | None = None
    workers: int = 0
    progress: Progress | None = field(default=None, compare=False, repr=False)

    def make(self) -> RldsSource:
        """The episodes of the split.

        Raises:
            DataError: the data set is damaged or does not match its specification, or nobody says what it means.
            QuirksFound: it has quirks that are not tolerated.
            UnknownName: the split or a camera is not known.
            ConfigError: the split is not written as it should be.
        """
        specification = read_specification(storage.absolute(self.path))
        chosen = reading(specification, self.description, fixes=self.fixes)
        cameras, quirks = self._cameras(specification, chosen)
        quirks = [*_changed(specification.folder, chosen), *quirks]
        _check_instruction(specification, chosen)
        pieces: list[Piece] = []
        trouble: list[Quirk] = []
        sizes: dict[str, tuple[int, int]] = {}
        contents: list[str] = []
        indexes: dict[str, tuple[RldsIndex, Path]] = {}
        records = {name: split.lengths for name, split in specification.splits.items()}
        for part in parts(self.split, records, specification.name):
            if part.split not in indexes:
                indexes[part.split] = self._index(specification, part, chosen, cameras)
            index, file = indexes[part.split]
            piece = Piece.cut(part, index, file)
            for name, size in camera_sizes(file).items():
                if piece.start < piece.stop and sizes.setdefault(name, size) != size:
                    expected = f"pictures of {sizes[name][0]}x{sizes[name][1]} as in the other splits"
                    found = f"{size[0]}x{size[1]} in {part.split}"
                    raise DataError(specification.folder, f"camera {name}", expected=expected, found=found)
            pieces.append(piece)
            contents.append(index.content)
            trouble += [_quirk(entry) for entry in entries(file, index, part.start, part.stop)]
        trouble = list(dict.fromkeys(trouble))
        if trouble and not self.skip_broken and "all" not in self.tolerate:
            _refuse([quirk for quirk in trouble if quirk.kind not in self.tolerate])
        known = (*self.tolerate, BROKEN, MISSING)
        admitted = admit(quirks, known) + _told_once(trouble)
        if not any(piece.start < piece.stop for piece in pieces):
            found = f"none that can be read{' and that the fixes keep' if chosen.holds or chosen.thins else ''}"
            raise DataError(specification.folder, f"split {self.split}", expected="at least one episode", found=found)
        check_sizes(chosen, sizes, specification.folder)
        spec = chosen.embodiment(sizes)
        about = (contents, [(p.split, p.start, p.stop) for p in pieces], chosen.digest, spec.fingerprint)
        content = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
        fields = tuple(cameras)
        return RldsSource(
            specification.name, spec, tuple(pieces), fields, chosen.instruction, admitted, content, chosen.own
        )

    def _cameras(self, specification: Specification, chosen: Reading) -> tuple[tuple[Camera, ...], list[Quirk]]:
        """Those to read, and those that are described but not there."""
        there, gone = camera_fields(specification, chosen)
        names = {camera.name: camera for camera in there}
        for camera in self.cameras:
            if camera not in names:
                raise UnknownName(f"camera of {specification.name}", camera, names)
        if self.cameras:
            return tuple(names[name] for name in names if name in self.cameras), []
        file = storage.join(specification.folder, FEATURES)
        found = ", ".join(camera.field for camera in there) or "none"
        remedy = "the camera is left out"
        return there, [
            Quirk("missing-camera", file, camera.field, f"pictures of {camera.name}", f"only {found}", remedy)
            for camera in gone
        ]

    def _index(
        self, specification: Specification, part: Part, chosen: Reading, cameras: Sequence[Camera]
    ) -> tuple[RldsIndex, Path]:
        cache = Path(self.cache) if self.cache else cache_folder()
        index = rlds_index(specification, part.split, cache, workers=self.workers, progress=self.progress)
        return index, columns_file(index, specification, chosen, cameras, self.progress)


def _changed(folder: str, chosen: Reading) -> list[Quirk]:
    """Whether the JSON files are as they were written, if this project did; records have checksums of their own."""
    if not isinstance(chosen, Own) or chosen.format < 2:
        return []

    def contents(name: str) -> bytes | None:
        place = storage.join(folder, name)
        return storage.read(place) if storage.is_file(place) else None

    def look(name: str) -> Sum | None:
        data = contents(name)
        return None if data is None else sum_of(data)

    quirk = changes(storage.join(folder, MANIFEST), contents(MANIFEST), look)
    return [quirk] if quirk else []


def _check_instruction(specification: Specification, chosen: Reading) -> None:
    """The instruction is a text of each step or of the whole episode."""
    path = chosen.instruction
    if path and not any(
        isinstance(where.get(path), TextField) for where in (specification.steps, specification.episode)
    ):
        file = storage.join(specification.folder, FEATURES)
        raise DataError(file, path, expected="a field of text", found=f"these:\n{specification.listing()}")


def _quirk(entry: dict) -> Quirk:
    lost = entry["missing"]
    remedy = f"{lost} record{'s' if lost != 1 else ''} set aside"
    if entry["offset"] is None:
        return Quirk(MISSING, entry["shard"], "shard", entry["expected"], entry["found"], remedy)
    place = f"record {entry['record']} of the split at byte {entry['offset']}"
    where = f"{place}: {entry['field']}" if "field" in entry else place
    found = entry["found"]
    if lost > 1:
        found += f"; the {lost} records from here to the end of the file cannot be found again"
    return Quirk(BROKEN, entry["shard"], where, entry["expected"], found, remedy)


def _refuse(trouble: Sequence[Quirk]) -> None:
    """One error for the first of them, which says how many there are."""
    if trouble:
        first = trouble[0]
        more = f"; {len(trouble) - 1} more are broken" if len(trouble) > 1 else ""
        named = " ".join(sorted({quirk.kind for quirk in trouble}))
        found = f"{first.found}{more}; --skip-broken or --tolerate {named} sets them aside"
        raise DataError(first.file, first.field, expected=first.expected, found=found)


def _told_once(trouble: Sequence[Quirk]) -> tuple[Quirk, ...]:
    for quirk in trouble[:5]:
        logger.warning("%s; %s", quirk, quirk.remedy)
    if len(trouble) > 5:
        logger.warning("%d more broken records or shards are set aside", len(trouble) - 5)
    return tuple(trouble)
