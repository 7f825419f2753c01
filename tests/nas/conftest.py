"""One thread for torch: sums over several threads may round differently from run to run, and no test is about that."""

import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
