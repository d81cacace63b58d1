"""What frozen features are worth, and where their fields jump."""

from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.boundaries import Boundaries, find_boundaries, score_boundaries, sobel
from levyjepa.evaluation.evaluate import evaluate
from levyjepa.evaluation.features import Dense, Features, extract, fields, patches, pixels
from levyjepa.evaluation.gallery import Gallery, gallery
from levyjepa.evaluation.jumps import increment_map, increment_pixels, jump_map, jump_pixels
from levyjepa.evaluation.knn import knn
from levyjepa.evaluation.probe import LowShot, linear_probe, low_shot
from levyjepa.evaluation.representation import Representation, examine
from levyjepa.evaluation.segmentation import Overlays, Segmentation, segmentation_probe

__all__ = [
    "Accuracy",
    "Boundaries",
    "Dense",
    "Features",
    "Gallery",
    "LowShot",
    "Overlays",
    "Representation",
    "Segmentation",
    "evaluate",
    "examine",
    "extract",
    "fields",
    "find_boundaries",
    "gallery",
    "increment_map",
    "increment_pixels",
    "jump_map",
    "jump_pixels",
    "knn",
    "linear_probe",
    "low_shot",
    "patches",
    "pixels",
    "score_boundaries",
    "segmentation_probe",
    "sobel",
]
