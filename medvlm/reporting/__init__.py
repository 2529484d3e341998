"""Reports: structured results whose every sentence is tied to the Findings that support it."""

from medvlm.reporting.report import DISCLAIMER, Report, Section, Sentence, read_report

__all__ = ["DISCLAIMER", "Report", "Section", "Sentence", "read_report"]
