"""Video at random access: the right picture in any order, at any rate, from streams with reordered pictures."""

import multiprocessing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import PatchWelcomeError

from vla.datasets import lerobot_video
from vla.datasets.lerobot_video import VideoFrames, check_decoder, video_facts
from vla.errors import ConfigError, DataError, DependencyMissing

SIZE = (48, 64)


def film(path: Path, count: int, rate: int, options: dict[str, str], codec: str = "libx264") -> list[np.ndarray]:
    """A video whose pictures differ; what an independent pass over it decodes."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        for number in range(count):
            picture = np.stack([(x * 3 + 11 * number) % 256, (y * 5 + 7 * number) % 256, 0 * x + number], -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return pictures


def number_of(picture: np.ndarray, pictures: list[np.ndarray]) -> int:
    matches = [index for index, other in enumerate(pictures) if np.array_equal(picture, other)]
    assert len(matches) == 1
    return matches[0]


@pytest.mark.parametrize(
    "options",
    [{"g": "2"}, {"g": "250", "bf": "3"}, {"g": "12", "bf": "2"}, {"g": "7", "bf": "4", "b-pyramid": "normal"}],
    ids=str,
)
def test_any_order_gives_what_one_pass_gives(tmp_path, options):
    pictures = film(tmp_path / "a.mp4", 90, 30, options)
    assert len(pictures) == 90
    frames = VideoFrames(tmp_path / "a.mp4", 0.0, 90, 30.0, SIZE)
    rng = np.random.default_rng(0)
    for step in [*range(90), *rng.integers(0, 90, 60).tolist(), 89, 0, 89, *range(80, 90), *range(89, 60, -1)]:
        assert np.array_equal(frames[step], pictures[step]), step
    assert [number_of(picture, pictures) for picture in frames[5:20:5]] == [5, 10, 15]
    assert np.array_equal(frames[-1], pictures[89])


@pytest.mark.parametrize(("camera", "steps"), [(10, 30), (30, 10), (20, 30), (30, 20)])
def test_cameras_and_steps_of_different_rates(tmp_path, camera, steps):
    """The last picture not later than the step, by exact fractions."""
    pictures = film(tmp_path / "a.mp4", 2 * camera, camera, {"g": "12"})
    frames = VideoFrames(tmp_path / "a.mp4", 0.0, 2 * steps, float(steps), SIZE)
    want = [step * camera // steps for step in range(2 * steps)]
    assert [number_of(frames[step], pictures) for step in range(2 * steps)] == want
    for step in reversed(range(2 * steps)):
        assert number_of(frames[step], pictures) == want[step]


def test_an_episode_in_the_middle_of_a_file(tmp_path):
    pictures = film(tmp_path / "a.mp4", 60, 20, {"g": "2"})
    frames = VideoFrames(tmp_path / "a.mp4", 1.0 + 4e-5, 20, 20.0, SIZE)  # with the rounding of summed durations
    assert [number_of(frames[step], pictures) for step in (0, 7, 19, 3)] == [20, 27, 39, 23]
    with pytest.raises(IndexError):
        frames[20]


def test_what_is_not_there_is_an_error(tmp_path):
    film(tmp_path / "a.mp4", 10, 20, {"g": "2"})
    frames = VideoFrames(tmp_path / "a.mp4", 0.0, 40, 20.0, SIZE)
    assert frames[9].shape == (*SIZE, 3)
    with pytest.raises(DataError, match=r"picture at 1\.0000 s: expected a picture, found the nearest at 0\.4500 s"):
        frames[20]
    assert frames[3].shape == (*SIZE, 3)  # the decoder is fit for use again
    with pytest.raises(DataError, match="expected 64x64, found 48x64"):
        VideoFrames(tmp_path / "a.mp4", 0.0, 10, 20.0, (64, 64))[0]
    with pytest.raises(DataError, match="No such file"):
        VideoFrames(tmp_path / "b.mp4", 0.0, 10, 20.0, SIZE)[0]


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.95])
def test_a_broken_file_is_an_error(tmp_path, keep):
    film(tmp_path / "a.mp4", 10, 20, {"g": "2"})
    (tmp_path / "a.mp4").write_bytes(
        (tmp_path / "a.mp4").read_bytes()[: int(keep * (tmp_path / "a.mp4").stat().st_size)]
    )
    with pytest.raises(DataError, match="readable video"):
        VideoFrames(tmp_path / "a.mp4", 0.0, 10, 20.0, SIZE)[0]
    with pytest.raises(DataError, match="readable video"):
        video_facts(tmp_path / "a.mp4")


def test_a_file_written_anew_is_opened_anew(tmp_path):
    first = film(tmp_path / "a.mp4", 10, 20, {"g": "2"})
    frames = VideoFrames(tmp_path / "a.mp4", 0.0, 5, 20.0, SIZE)
    assert np.array_equal(frames[4], first[4])
    second = film(tmp_path / "a.mp4", 7, 20, {"g": "5", "crf": "40"})
    assert np.array_equal(frames[4], second[4])


def test_open_decoders_are_bounded(tmp_path, monkeypatch):
    pictures = film(tmp_path / "0.mp4", 6, 20, {"g": "2"})
    for number in range(1, 12):
        (tmp_path / f"{number}.mp4").write_bytes((tmp_path / "0.mp4").read_bytes())
    few = lerobot_video._OpenVideos(budget=2**40, most=3)
    monkeypatch.setattr(lerobot_video, "_open", few)
    for number in np.random.default_rng(1).integers(0, 12, 60).tolist():
        frames = VideoFrames(tmp_path / f"{number}.mp4", 0.0, 6, 20.0, SIZE)
        assert np.array_equal(frames[number % 6], pictures[number % 6])
        assert len(few._videos) <= 3
    small = lerobot_video._OpenVideos(budget=1, most=64)
    monkeypatch.setattr(lerobot_video, "_open", small)
    for number in (0, 1, 0):
        assert VideoFrames(tmp_path / f"{number}.mp4", 0.0, 6, 20.0, SIZE)[1].shape == (*SIZE, 3)
    assert len(small._videos) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # what torch's loader does all the same
def test_a_forked_worker_opens_its_own(tmp_path):
    pictures = film(tmp_path / "a.mp4", 60, 20, {"g": "12"})
    frames = VideoFrames(tmp_path / "a.mp4", 0.0, 60, 20.0, SIZE)
    assert np.array_equal(frames[30], pictures[30])
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        for step, picture in zip((5, 41, 17, 59), pool.map(frames.__getitem__, (5, 41, 17, 59)), strict=True):
            assert np.array_equal(picture, pictures[step])
    assert np.array_equal(frames[31], pictures[31])


def test_facts_of_a_header(tmp_path):
    film(tmp_path / "a.mp4", 30, 20, {"g": "12", "bf": "2"})
    facts = video_facts(tmp_path / "a.mp4")
    assert facts.size == SIZE and facts.rate == 20 and facts.end == pytest.approx(1.5, abs=1e-6)


def test_decoders_by_name():
    check_decoder("pyav")
    with pytest.raises(ConfigError, match="pyav, torchcodec"):
        check_decoder("opencv")
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        with pytest.raises(DependencyMissing, match="install torchcodec and FFmpeg"):
            check_decoder("torchcodec")


def test_torchcodec_gives_the_same_pictures(tmp_path):
    try:
        check_decoder("torchcodec")
    except DependencyMissing as error:
        pytest.skip(str(error))
    pictures = film(tmp_path / "a.mp4", 30, 20, {"g": "12"})
    frames = VideoFrames(tmp_path / "a.mp4", 0.0, 30, 20.0, SIZE, "torchcodec")
    for step in (0, 29, 13, 14, 3):
        assert np.abs(frames[step].astype(int) - pictures[step]).max() <= 3  # another conversion from YUV


def test_a_codec_that_nobody_knows(tmp_path):
    film(tmp_path / "a.mp4", 10, 10, {})
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.count(b"avc1") >= 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"avc1", b"\0\0\0\0"))
    with pytest.raises(DataError, match=r"a\.mp4: streams: expected a codec that is known"):
        video_facts(tmp_path / "a.mp4")
    with pytest.raises(DataError):
        _ = VideoFrames(tmp_path / "a.mp4", 0.0, 10, 10.0, SIZE)[3]


def test_errors_that_are_only_ffmpegs_own(tmp_path, monkeypatch):
    """A flipped bit in a header asked for what FFmpeg has not implemented: no OSError and no ValueError."""

    def refuse(path: Path):
        raise PatchWelcomeError(1163346256, "not yet implemented")

    monkeypatch.setattr(lerobot_video, "_container", refuse)
    with pytest.raises(DataError, match="a readable video"):
        video_facts(tmp_path / "a.mp4")
