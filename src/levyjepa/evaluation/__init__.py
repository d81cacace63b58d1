"""What frozen features are worth, and where their fields jump."""

from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.evaluate import evaluate
from levyjepa.evaluation.features import Dense, Features, extract, fields, patches, pixels
from levyjepa.evaluation.gallery import Gallery, gallery
from levyjepa.evaluation.jumps import jump_map
from levyjepa.evaluation.knn import knn
from levyjepa.evaluation.probe import linear_probe
from levyjepa.evaluation.segmentation import Segmentation, segmentation_probe

__all__ = [
    "Accuracy",
    "Dense",
    "Features",
    "Gallery",
    "Segmentation",
    "evaluate",
    "extract",
    "fields",
    "gallery",
    "jump_map",
    "knn",
    "linear_probe",
    "patches",
    "pixels",
    "segmentation_probe",
]
