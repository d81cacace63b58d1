"""Images to a field of patch tokens and an embedding, and the heads that training adds."""

from levyjepa.models.encoder import Encoder, Encoding
from levyjepa.models.network import Network, Output

__all__ = ["Encoder", "Encoding", "Network", "Output"]
