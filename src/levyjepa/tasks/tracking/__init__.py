"""Objects followed through video by the similarity of tokens, and DAVIS 2017's measures."""

from levyjepa.tasks.tracking.davis_measures import FrameMeasure as FrameMeasure
from levyjepa.tasks.tracking.davis_measures import TrackedObject as TrackedObject
from levyjepa.tasks.tracking.davis_measures import Tracking as Tracking
from levyjepa.tasks.tracking.davis_measures import contour_accuracy as contour_accuracy
from levyjepa.tasks.tracking.davis_measures import region_similarity as region_similarity
from levyjepa.tasks.tracking.davis_measures import score as score
from levyjepa.tasks.tracking.follow import protocol_size as protocol_size
from levyjepa.tasks.tracking.follow import score_results as score_results
from levyjepa.tasks.tracking.follow import track as track
from levyjepa.tasks.tracking.propagation import first_masks as first_masks
from levyjepa.tasks.tracking.propagation import is_cut as is_cut
from levyjepa.tasks.tracking.propagation import propagate as propagate
from levyjepa.tasks.tracking.propagation import step_probability as step_probability
