"""The methods paragraph, with the study's own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import medvlm

if TYPE_CHECKING:
    from medvlm.reader_study.analyze import Analysis, Options

_PRIMARY = {
    "U-statistic mean": "one-shot U-statistics of the mean over readers and cases (Gallas et al., 2009), with a t "
    "interval whose degrees of freedom follow Hillis (2007)",
    "U-statistic AUC": "one-shot U-statistics of the reader-averaged area under the ROC curve (Gallas, 2006)",
    "Obuchowski-Rockette (DeLong covariance)": "the Obuchowski-Rockette method with the degrees of freedom of Hillis "
    "(2007) and the covariances of DeLong et al. (1988)",
}


def methods_text(analysis: Analysis, options: Options) -> str:
    """A paragraph for the paper: what was done, with numbers; what only the authors know is in brackets."""
    facts = analysis.facts
    parts = [_design(facts)]
    if "design" in facts:
        parts.append(_conduct(facts))
    parts.append(_statistics(analysis, options))
    return "\n\n".join(parts)


def _design(facts: dict[str, object]) -> str:
    modalities = facts["modalities"]
    assert isinstance(modalities, list)
    listed = ", ".join(map(str, modalities))
    truth = f" ({facts['diseased']} with and {facts['normal']} without the finding)" if "diseased" in facts else ""
    text = (
        f"{facts['readers']} readers rated {facts['cases']} cases{truth} of {facts['patients']} patients under "
        f"{len(modalities)} conditions ({listed}), {facts['reads']} ratings in all"
    )
    return text + (", fully crossed." if facts["crossed"] else "; not every reader read every case.")


def _conduct(facts: dict[str, object]) -> str:
    groups = facts["groups"]
    assert isinstance(groups, dict)
    who = ", ".join(f"{count} {name}" for name, count in groups.items())
    text = (
        f"The readers ({who}; [qualification and years of experience]) worked through {facts['sessions']} sittings in "
        f"a {facts['design']} design, with the orders of the sources counterbalanced by Williams squares, an order of "
        f"items of its own for each reader and a washout of {facts['washout_days']} days between sources of a case. "
        "Reports were normalised in layout, signatures and identifiers were taken out, items carried random codes, and "
        "the key was sealed under a published SHA-256 commitment until all answers were in."
    )
    extras = []
    for key, words in (("training", "training"), ("calibration", "calibration"), ("probes", "planted-error"),
                       ("duplicates", "hidden duplicate")):  # fmt: skip
        if facts[key]:
            extras.append(f"{facts[key]} {words} items")
    if extras:
        text += f" The sittings also held {', '.join(extras)}, which do not enter the comparison."
    return text + f" Answers came in for {facts['answered']} of {facts['items']} items."


def _statistics(analysis: Analysis, options: Options) -> str:
    first = analysis.questions[0]
    primary = _PRIMARY.get(first.primary, first.primary)
    text = (
        f"The primary analysis of {first.question} used {primary}, with readers and cases as random effects. Intervals "
        f"are {100 * options.level:g} %. "
    )
    if options.margin is not None:
        text += (
            f"Non-inferiority was tested one-sided against a margin of {options.margin:g} at {options.alpha / 2:g}, "
            "equivalence by two one-sided tests. "
        )
    others = sorted({row.method for row in first.methods} - {first.primary})
    if others:
        text += f"Sensitivity analyses: {'; '.join(others)}. "
    if len(analysis.questions) > 1 or len(first.differences) > 1:
        text += (
            f"p-values of all primary comparisons were adjusted by the method of {options.adjustment.capitalize()}. "
        )
    text += (
        f"Agreement is given as Krippendorff's alpha and ICC(2,1) with intervals over patients; bootstraps used "
        f"{options.bootstrap} draws (seed {options.seed}). Analyses were made with medvlm {medvlm.__version__}."
    )
    return text
