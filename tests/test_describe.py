"""Descriptions and statistics of the Bridge sample against a few independent lines of NumPy."""

import json

import numpy as np
import pytest

from vla.describe import info
from vla.plugins import open_source
from vla.statistics_cache import pooled


@pytest.fixture(scope="module")
def raw(shared_data, tmp_path_factory):
    path = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    return open_source(path, fixes=False, cache=tmp_path_factory.mktemp("cache"))


def test_info_of_the_bridge_sample(raw):
    facts = info(raw)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["episodes"], facts["steps"], len(facts["instructions"])) == (25, 250, 4)
    assert sum(facts["instructions"].values()) == 25
    assert [camera["name"] for camera in facts["cameras"]] == ["image_0", "image_1", "image_2", "image_3"]
    assert {(camera["height"], camera["width"]) for camera in facts["cameras"]} == {(64, 64)}
    assert facts["action"]["rotation"] == "euler_xyz" and facts["rate"] == 5.0
    assert facts["action"]["gripper"] == {"closed": 0.0, "open": 1.0}
    assert facts["fingerprint"] == raw.spec.fingerprint


def test_statistics_against_numpy(raw, shared_data):
    import tensorflow_datasets as tfds

    measured = pooled([raw]).arrays((*raw.spec.state_names, *raw.spec.action.names))
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    features = tfds.features.FeaturesDict.from_config(str(folder))
    data, rows = (folder / "bridge_dataset-train.tfrecord-00000-of-00001").read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        for step in features.deserialize_example_np(data[12 : 12 + length])["steps"]:  # type: ignore[attr-defined]
            rows.append(np.concatenate([step["observation"]["state"], step["action"]]))
        data = data[16 + length :]
    values = np.array(rows, dtype=np.float64)
    np.testing.assert_allclose(measured["mean"], values.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(measured["std"], values.std(0), rtol=1e-7)
    np.testing.assert_array_equal(measured["min"], values.min(0))
    np.testing.assert_array_equal(measured["max"], values.max(0))
    np.testing.assert_allclose(measured["q01"], np.quantile(values, 0.01, axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(measured["q99"], np.quantile(values, 0.99, axis=0), rtol=1e-9, atol=1e-12)
