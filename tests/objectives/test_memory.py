"""The memory that a step of the prior adds, as counted by torch's allocator."""

import pytest
from benchmarks.memory import share


@pytest.mark.parametrize("nodes", [17, 128])
def test_a_step_adds_at_most_four_fields_whatever_the_nodes(nodes):
    """Tokens of ViT-B/16 for 64 images: large enough to neglect the chunks of constant size."""
    assert 1 < share(64, nodes) < 4
