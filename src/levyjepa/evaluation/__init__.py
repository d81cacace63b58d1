"""What frozen features are worth, and where their fields jump."""

from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.evaluate import evaluate
from levyjepa.evaluation.features import Features, extract, pixels
from levyjepa.evaluation.gallery import Gallery, gallery
from levyjepa.evaluation.jumps import jump_map
from levyjepa.evaluation.knn import knn
from levyjepa.evaluation.probe import linear_probe

__all__ = [
    "Accuracy",
    "Features",
    "Gallery",
    "evaluate",
    "extract",
    "gallery",
    "jump_map",
    "knn",
    "linear_probe",
    "pixels",
]
