"""Images or clips to a field of patch tokens and an embedding, and the heads that training adds."""

from levyjepa.models.encoder import Encoder, Encoding
from levyjepa.models.network import Network, Output
from levyjepa.models.tubelet import TubeletEncoder
from levyjepa.models.video import FrameEncoder

__all__ = ["Encoder", "Encoding", "FrameEncoder", "Network", "Output", "TubeletEncoder"]
