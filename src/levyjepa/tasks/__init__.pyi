from levyjepa.tasks.context import Context as Context
from levyjepa.tasks.evaluation import Evaluation as Evaluation
from levyjepa.tasks.evaluation import evaluate as evaluate
from levyjepa.tasks.features import Features as Features
from levyjepa.tasks.features import Subject as Subject
from levyjepa.tasks.registry import register_task as register_task
from levyjepa.tasks.score import Picture as Picture
from levyjepa.tasks.score import Score as Score
