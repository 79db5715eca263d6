"""Frames that two processes share, here two views of one process."""

import os
from pathlib import Path

import numpy as np
import pytest

from vla.embodiment import CameraSpec
from vla.shared_frames import SharedFrames

CAMERAS = (CameraSpec("front", 4, 6), CameraSpec("hand", 2, 2))


def pictures(seed):
    rng = np.random.default_rng(seed)
    return {c.name: rng.integers(0, 255, (c.height, c.width, 3), dtype=np.uint8) for c in CAMERAS}


def test_what_one_side_writes_the_other_sees_without_a_name_in_the_file_system():
    before = set(Path("/dev/shm").iterdir())
    ours = SharedFrames(CAMERAS)
    theirs = SharedFrames(CAMERAS, os.dup(ours.handle))
    assert set(Path("/dev/shm").iterdir()) == before
    for seed in (1, 2):
        ours.write(pictures(seed))
        seen = theirs.view()
        assert all(np.array_equal(seen[name], picture) for name, picture in pictures(seed).items())
    ours.close()
    ours.close()
    assert np.array_equal(theirs.view()["hand"], pictures(2)["hand"])  # each side has a hold of its own
    theirs.close()


def test_pictures_of_another_size_or_type_are_refused():
    frames = SharedFrames(CAMERAS)
    with pytest.raises(ValueError, match="broadcast"):
        frames.write(pictures(0) | {"front": np.zeros((4, 5, 3), np.uint8)})
    with pytest.raises(TypeError, match="uint8"):
        frames.write(pictures(0) | {"front": np.zeros((4, 6, 3), np.float32)})
    frames.close()


def test_a_robot_without_cameras_has_frames_too():
    frames = SharedFrames(())
    frames.write({})
    assert frames.view() == {}
    frames.close()
