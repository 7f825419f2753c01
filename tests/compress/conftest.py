import numpy as np
import pytest

from tests.compress.models import network


@pytest.fixture
def model():
    return network()


@pytest.fixture
def data():
    return {"tokens": np.random.default_rng(1).integers(0, 100, (24, 6))}


@pytest.fixture
def files(model, data, tmp_path):
    """The model and its calibration data in files."""
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "data.npz", **data)
    return tmp_path / "model.onnx", tmp_path / "data.npz"
