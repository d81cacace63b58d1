from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


torch.set_num_threads(1)  # small tensors; several threads would wait for one another


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is absent: {SHARED_DATA.name} does not stand beside the checkout")
    return SHARED_DATA
