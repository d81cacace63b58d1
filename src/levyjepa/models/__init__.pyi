from levyjepa.models.encoder import Encoder as Encoder
from levyjepa.models.encoder import Encoding as Encoding
from levyjepa.models.encoder import build_encoder as build_encoder
from levyjepa.models.network import Network as Network
from levyjepa.models.network import Output as Output
from levyjepa.models.registry import register_encoder as register_encoder
from levyjepa.models.settings import ModelSettings as ModelSettings
