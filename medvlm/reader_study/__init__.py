"""Reader studies: blinded comparisons of reports or readings, from the design to the statistics of the paper."""

from medvlm.reader_study.allocate import make_plan
from medvlm.reader_study.collect import collect
from medvlm.reader_study.export import export_study
from medvlm.reader_study.forms import Form, list_presets, load_form
from medvlm.reader_study.plan import Plan
from medvlm.reader_study.spec import StudySpec, load_study_spec
from medvlm.reader_study.unblind import unblind_collected, verify_study

__all__ = [
    "Form",
    "Plan",
    "StudySpec",
    "collect",
    "export_study",
    "list_presets",
    "load_form",
    "load_study_spec",
    "make_plan",
    "unblind_collected",
    "verify_study",
]
