"""Field names and units of clients: what does not fit is an error that names the field."""

from dataclasses import replace

import numpy as np
import pytest
from served import SPEC, observation

from vla.dialect import MAX_SIDE, FieldError, dialects_for, native, openpi_libero
from vla.embodiments.libero_panda import RAW_ACTION, libero_panda
from vla.experience import ActionChunk
from vla.transforms import connect

SIDE = 224
LIBERO = {
    "observation/image": np.zeros((SIDE, SIDE, 3), np.uint8),
    "observation/wrist_image": np.ones((SIDE, SIDE, 3), np.uint8),
    "observation/state": np.arange(8.0),
    "prompt": "pick up the bowl",
}


def test_the_native_dialect_there_and_back():
    seen, dialect = observation(), native(SPEC)
    again = dialect.observation(dialect.message(seen))
    assert all(np.array_equal(again.images[name], seen.images[name]) for name in SPEC.camera_names)
    assert np.array_equal(again.state, seen.state) and (again.instruction, again.time) == (seen.instruction, seen.time)
    assert set(dialect.describe()) == set(dialect.message(seen))


def test_openpi_s_client_is_a_body_that_libero_s_policies_fit():
    spec = libero_panda(64)
    dialects = dialects_for(spec)
    assert list(dialects) == ["openpi-libero", "native"] and list(dialects_for(SPEC)) == ["native"]
    dialect = dialects["openpi-libero"]
    adapter = connect(dialect.spec, spec)
    seen = adapter.observation(dialect.observation(LIBERO))
    assert {name: image.shape for name, image in seen.images.items()} == dict.fromkeys(spec.camera_names, (64, 64, 3))
    assert seen.images["robot0_eye_in_hand"].all() and not seen.images["agentview"].any()
    assert seen.state.dtype == np.float32 and seen.state.tolist() == list(range(8))
    # the environment's units: 5 cm is 1, and an open gripper (1 here) is -1 there
    chunk = adapter.chunk(ActionChunk(np.array([[0.05, 0, 0, 0, 0, 0.5, 1.0]], np.float32), 0.0, 0.05))
    assert np.allclose(chunk.actions, [[1, 0, 0, 0, 0, 1, -1]]) and dialect.spec.action == RAW_ACTION


def test_pictures_of_another_size_where_the_dialect_allows_it():
    dialect = openpi_libero()
    other = LIBERO | {"observation/image": np.zeros((256, 256, 3), np.uint8)}
    assert dialect.observation(other).images["agentview"].shape == (256, 256, 3)
    assert dialect.max_bytes >= 2 * 3 * MAX_SIDE**2 and native(SPEC).max_bytes < 2**17


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("observation/image", None, "observation/image is missing"),
        ("observation/image", [[1]], "observation/image: expected an array, found list"),
        ("observation/image", np.zeros((SIDE, SIDE, 3), np.float32), "observation/image: .* found float32"),
        ("observation/image", np.zeros((3, SIDE, SIDE), np.uint8), "observation/image: "),
        ("observation/image", np.zeros((SIDE, SIDE), np.uint8), "observation/image: "),
        ("observation/image", np.zeros((SIDE, 2 * SIDE, 3), np.uint8), "observation/image: "),
        ("observation/image", np.zeros((0, 0, 3), np.uint8), "observation/image: "),
        ("observation/image", np.zeros((MAX_SIDE + 1, MAX_SIDE + 1, 3), np.uint8), "observation/image: "),
        ("observation/state", np.zeros(7), r"observation/state: expected float \[8\], found float64 \[7\]"),
        ("observation/state", np.zeros(8, np.int64), "observation/state: "),
        ("observation/state", np.array([0, 0, 0, np.nan, 0, 0, 0, 0]), "observation/state: rx is nan"),
        ("observation/state", np.full(8, 1e300), "observation/state: x is 1e"),
        ("observation/joints", np.zeros(7), "unknown field 'observation/joints'; known: observation/image"),
        ("prompt", 3, "prompt"),
        ("prompt", "", "prompt"),
        ("prompt", "x" * 5000, "prompt"),
        ("time", float("inf"), "time"),
        ("time", "now", "time"),
    ],
)
def test_what_does_not_fit_names_its_field(field, value, what):
    message = {key: item for key, item in (LIBERO | {field: value}).items() if item is not None}
    with pytest.raises(FieldError, match=what):
        openpi_libero().observation(message)


def test_the_instruction_of_the_episode_stands_in_for_none():
    seen = replace(observation(), instruction="")
    dialect = native(SPEC)
    assert "prompt" not in dialect.message(seen)
    assert dialect.observation(dialect.message(seen), instruction="go").instruction == "go"
    with pytest.raises(FieldError, match="prompt"):
        dialect.observation(dialect.message(seen))
