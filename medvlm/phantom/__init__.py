"""The phantom clinic: synthetic chest CT studies with known truth.

`generate_case` makes one case in memory; `write_case` and `make_cohort` write DICOM, masks, truth and reports.
"""

from medvlm.phantom.case import PhantomCase, generate_case
from medvlm.phantom.cohort import make_cohort, write_case

__all__ = ["PhantomCase", "generate_case", "make_cohort", "write_case"]
