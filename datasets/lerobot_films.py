"""Checks the videos of a LeRobot data set before anything is read from them: there, one size, long enough."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from vla.datasets.lerobot_info import Feature, Info
from vla.datasets.lerobot_listing import Listing
from vla.datasets.lerobot_meter import Meter
from vla.datasets.lerobot_tally import Tally
from vla.datasets.lerobot_video import TOLERANCE, VideoFacts, video_facts
from vla.errors import DataError


def check_films(
    info: Info,
    listing: Listing,
    wanted: tuple[str, ...],
    tally: Tally,
    keep: Bool[np.ndarray, "n"],
    steps: Int64[np.ndarray, "n"],
    meter: Meter,
) -> dict[str, tuple[int, int]]:
    """Height and width of each wanted camera that has videos.

    Args:
        info: the data set.
        listing: its episodes.
        wanted: cameras that will be read; of the others only the existence of files is checked.
        tally: collects what is wrong.
        keep: set to False here where an episode lacks a video.
        steps: made smaller here where a video ends before its episode.
        meter: counts the videos of episodes.

    Raises:
        DataError: videos of one camera differ in size.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for feature in info.cameras:
        if feature.dtype != "video":
            continue
        key = feature.name
        if key not in listing.videos or not any(path.is_file() for path in _paths(info, listing, key)):
            found = f"none of the {len(listing.number)} episodes has one"
            if key in listing.videos:
                found += f", e.g. {next(iter(_paths(info, listing, key))).relative_to(info.folder)}"
            expected, remedy = "the videos of a declared camera", "the camera is left out"
            tally.add("missing-camera", info.file, f"features: {key}", expected=expected, found=found, remedy=remedy)
        elif key in wanted:
            sizes[key] = _check(info, listing, feature, tally, keep, steps, meter)
    _check_total(info, tally)
    return sizes


def _paths(info: Info, listing: Listing, key: str):
    return (info.video_file(key, chunk, file) for chunk, file in listing.videos[key].tolist())


def _check(
    info: Info,
    listing: Listing,
    feature: Feature,
    tally: Tally,
    keep: Bool[np.ndarray, "n"],
    steps: Int64[np.ndarray, "n"],
    meter: Meter,
) -> tuple[int, int]:
    key, size = feature.name, None
    known: Path | None = None
    facts: VideoFacts | None = None
    for index, path in enumerate(_paths(info, listing, key)):
        episode = int(listing.number[index])
        meter.step()
        if path != known:
            known, facts = path, _facts(path)
        if facts is None:
            kind, found = ("broken-video", "one that does not open") if path.is_file() else ("missing-video", "none")
            remedy = "the episode is left out"
            tally.add(kind, path, key, expected="a video of the episode", found=found, remedy=remedy, episode=episode)
            keep[index] = False
            continue
        size = size or facts.size
        if facts.size != size:
            expected, found = (f"{height}x{width}" for height, width in (size, facts.size))
            raise DataError(path, "pictures", expected=f"{expected} as in the videos before", found=found)
        end = min(listing.video_end[key][index], facts.end if facts.end is not None else math.inf)
        there = (end - listing.video_start[key][index]) * info.fps - TOLERANCE
        if there <= listing.length[index] - 1:
            enough = max(0, math.ceil(there))
            tally.add(
                "short-video",
                path,
                key,
                expected=f"pictures for {listing.length[index]} steps",
                found=f"for {enough}",
                remedy="the steps after the end of the video are left out",
                episode=episode,
            )
            steps[index] = min(steps[index], enough)
    declared = feature.size
    if size is None:
        return declared
    if size != declared:
        expected, found = ("{}x{}".format(*pair) for pair in (declared, size))
        where, remedy = f"features: {key}: shape", "the pictures count"
        tally.add("wrong-size", info.file, where, expected=expected, found=f"videos of {found}", remedy=remedy)
    return size


def _facts(path: Path) -> VideoFacts | None:
    """What the header says; None if there is no readable video."""
    try:
        return video_facts(path)
    except DataError:
        return None


def _check_total(info: Info, tally: Tally) -> None:
    """``total_videos`` of v2 against the files that are there."""
    declared = info.value.get("total_videos")
    if declared is None:
        return
    there = 0
    if info.video_path:
        top = info.folder / Path(info.video_path).parts[0]
        there = sum(1 for path in top.rglob(f"*{Path(info.video_path).suffix}") if path.is_file())
    if declared != there:
        expected, remedy = f"{there}, the files that are there", "the files count"
        tally.add("wrong-total", info.file, "total_videos", expected=expected, found=repr(declared), remedy=remedy)
