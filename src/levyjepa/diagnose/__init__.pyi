from levyjepa.diagnose.diagnosis import Diagnosis as Diagnosis
from levyjepa.diagnose.diagnosis import diagnose as diagnose
from levyjepa.diagnose.measure import STENCILS as STENCILS
from levyjepa.diagnose.read import read_fields as read_fields
from levyjepa.diagnose.read import sample_images as sample_images
