"""The contestant that Octo and OpenVLA are: tf.data over TFDS with a shuffle buffer. Runs in an environment of its own.

In their order of things (``make_interleaved_dataset`` in octo/data/dataset.py and prismatic/vla/datasets/rlds):
trajectories with encoded pictures, cut into chunks of actions and flattened into frames, ``repeat``, ``shuffle`` over
frames that are still encoded (Octo's published configurations keep 500,000 of them, OpenVLA's 256,000 by default,
100,000 for Bridge, a million for its Open X mixtures), then decoding and resizing in parallel, sequential ``batch``,
``with_ram_budget(1)``. A shuffle is only full when the buffer holds every frame of the data set. Their
``decode_and_resize`` filters every picture (Lanczos) to the policy's size, also one that has it already, since tf.data
does not know the size of a decoded picture; ``--no-resize`` leaves that out.
"""

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
import tensorflow_datasets as tfds
from loading_turns import serve


def frames_of(horizon: int) -> Any:
    """A function from an episode's columns to one row for each frame."""

    def cut(episode: dict[str, Any]) -> dict[str, Any]:
        steps = episode["steps"]
        count = tf.shape(steps["action"])[0]
        places = tf.range(count)[:, None] + tf.range(horizon)[None]
        return {
            "image": steps["observation"]["image_0"],
            "state": steps["observation"]["state"],
            "action": tf.gather(steps["action"], tf.minimum(places, count - 1)),
            "valid": places < count,
            "text": steps["language_instruction"],
        }

    return cut


def decoder(pixels: int, resize: bool) -> Any:
    """A function from a frame with its encoded picture to one with pixels."""

    def decoded(frame: dict[str, Any]) -> dict[str, Any]:
        image = tf.io.decode_image(frame["image"], expand_animations=False, dtype=tf.uint8)
        if resize:
            image = tf.image.resize(image, (pixels, pixels), method="lanczos3", antialias=True)
            image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        return frame | {"image": image}

    return decoded


def batches(options: argparse.Namespace) -> Iterator[int]:
    """Makes a batch each time it is asked."""
    builder: Any = tfds.builder_from_directory(options.path)
    read = tfds.ReadConfig(
        skip_prefetch=True,
        num_parallel_calls_for_interleave_files=tf.data.AUTOTUNE,
        interleave_cycle_length=tf.data.AUTOTUNE,
    )
    encoded: Any = {"steps": tfds.decode.SkipDecoding()}
    data = builder.as_dataset(split="train", shuffle_files=True, read_config=read, decoders=encoded)
    data = data.repeat().map(frames_of(options.horizon), num_parallel_calls=tf.data.AUTOTUNE)
    data = data.flat_map(tf.data.Dataset.from_tensor_slices)
    data = data.shuffle(options.buffer)
    decoded = decoder(options.pixels, not options.no_resize)
    data = data.map(decoded, num_parallel_calls=tf.data.AUTOTUNE).batch(options.batch)
    settings = tf.data.Options()
    settings.autotune.enabled = True
    settings.autotune.ram_budget = 2**30
    settings.deterministic = False
    settings.experimental_optimization.map_fusion = True
    settings.experimental_optimization.inject_prefetch = False
    for batch in data.with_options(settings).as_numpy_iterator():
        yield len(batch["action"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", required=True)
    parser.add_argument("--buffer", type=int, required=True)
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--no-resize", action="store_true")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--horizon", type=int, required=True)
    options = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    begun = time.perf_counter()
    serve(batches(options), begun, version=tf.__version__)


if __name__ == "__main__":
    main()
