"""What a step of the prior adds to the memory, as torch's allocator counts it."""

import pytest
from benchmarks.memory import share


@pytest.mark.parametrize("nodes", [17, 128])
def test_a_step_adds_at_most_four_fields_whatever_the_nodes(nodes):
    """Tokens of ViT-B/16, 64 images: enough that the chunks, of constant size, do not count."""
    assert 1 < share(64, nodes) < 4
