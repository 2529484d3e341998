"""Statistics of reader studies: multi-reader multi-case analysis, ordinal models, agreement, blinding, preferences."""

from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.dbm import dorfman_berbaum_metz
from medvlm.reader_study.statistics.figures_of_merit import Merits, figures_of_merit
from medvlm.reader_study.statistics.or_hillis import obuchowski_rockette, standalone_against_readers
from medvlm.reader_study.statistics.rating_files import read_ratings, write_imrmc, write_rjafroc
from medvlm.reader_study.statistics.ratings import Ratings, ratings_from_rows
from medvlm.reader_study.statistics.resample import two_way_bootstrap
from medvlm.reader_study.statistics.u_auc import u_statistic_auc
from medvlm.reader_study.statistics.u_mean import u_statistic_mean

__all__ = [
    "Contrast",
    "Merits",
    "Ratings",
    "dorfman_berbaum_metz",
    "figures_of_merit",
    "obuchowski_rockette",
    "ratings_from_rows",
    "read_ratings",
    "standalone_against_readers",
    "two_way_bootstrap",
    "u_statistic_auc",
    "u_statistic_mean",
    "write_imrmc",
    "write_rjafroc",
]
