"""Clinical pathways: a guideline as data that teaches, reads, checks, rewards and lints."""

from medvlm.pathways.loader import list_pathways, load_pathway, parse_pathway
from medvlm.pathways.located import PathwayError
from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, show_symbol

__all__ = [
    "NOT_ASSESSABLE",
    "Pathway",
    "PathwayError",
    "list_pathways",
    "load_pathway",
    "parse_pathway",
    "show_symbol",
]
