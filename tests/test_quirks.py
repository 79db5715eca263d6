import logging
import pickle

import pytest

from vla.errors import DataError
from vla.quirks import Quirk, QuirksFound, admit

CAMERA = Quirk("missing-camera", "meta/info.json", "features: top", "videos", "none", "the camera is left out")
TOTALS = Quirk("wrong-totals", "meta/info.json", "total_videos", "5", "2", "the files are counted instead")


def test_what_nobody_tolerates_is_an_error_that_lists_each_and_says_how():
    with pytest.raises(QuirksFound) as caught:
        admit([CAMERA, TOTALS], ("wrong-totals",))
    text = str(caught.value)
    assert isinstance(caught.value, DataError) and caught.value.quirks == (CAMERA,)
    assert "features: top" in text and "expected videos, found none" in text and "--tolerate missing-camera" in text
    assert "total_videos" not in text


@pytest.mark.parametrize("tolerate", [("missing-camera", "wrong-totals"), ("all",)])
def test_what_is_tolerated_is_logged_once_each(tolerate, caplog):
    with caplog.at_level(logging.WARNING):
        assert admit([CAMERA, TOTALS], tolerate) == (CAMERA, TOTALS)
    assert len(caplog.records) == 2 and "the camera is left out" in caplog.text


def test_the_error_crosses_processes():
    error = QuirksFound([CAMERA])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
