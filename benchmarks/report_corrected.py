"""What becomes of a model's sentences that contradict a measurement, with a real model.

    medvlm quickstart
    python benchmarks/report_corrected.py runs/quickstart/clinic --model runs/quickstart/fit/model \\
        --out benchmarks/results/report_corrected.json

Sentences of the reference reports of held-out studies get one planted error each (side, size, unit, presence, level;
as in `report_evidence.py`). The check finds them; then the corrected mode has the model write them again, holds the
model's own sentence to the measurements where that fails, and falls back on the sentence of the measurement. Counted is
what stands in the place of each wrong sentence, that it is supported, and whether it is the sentence as it was before
the error was planted.
"""

from __future__ import annotations

import argparse
import platform
import random
import re
from collections import Counter
from pathlib import Path

from report_evidence import KINDS, plant, true_sentences

from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import read_cohort
from medvlm.reporting.draft import VLMWriter, check_draft, correct_draft
from medvlm.reporting.support import check_sentence
from medvlm.storage import write_json

SOURCES = ("model", "constrained", "measurement", "nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--each", type=int, default=20, help="planted errors of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cohort = read_cohort(options.cohort)
    writer = VLMWriter(options.model, "cpu")
    pairs = []
    for split in ("test", "validation"):
        for entry in cohort.split(split):
            assert entry.truth is not None
            assert entry.report is not None
            truth = read_findings(cohort.root / entry.truth)
            pairs += [(text, truth) for text in true_sentences(cohort.root / entry.report)]
    rng = random.Random(options.seed)
    became: dict[str, Counter[str]] = {}
    restored = unsupported = 0
    for kind in KINDS:
        planted = [(wrong, text, truth) for text, truth in pairs if (wrong := plant(text, kind)) is not None]
        counts = became[kind] = Counter[str]()
        for wrong, text, truth in rng.sample(planted, min(len(planted), options.each)):
            corrected = correct_draft(check_draft(wrong, truth), truth, writer.rewrite, writer.choose)
            if not corrected.revisions:
                counts["not a contradiction"] += 1
                continue
            (revision,) = corrected.revisions
            counts[revision.source] += 1
            same = re.sub(r"\W+", " ", revision.replaced).lower() == re.sub(r"\W+", " ", text).lower()
            restored += same and revision.source in ("model", "constrained")
            unsupported += sum(not check_sentence(one.text, truth).findings for one in corrected.sentences)
    total = sum((Counter(counts) for counts in became.values()), Counter[str]())
    for kind, counts in became.items():
        print(f"{kind:10} " + ", ".join(f"{name} {counts[name]}" for name in (*SOURCES, "not a contradiction")))
    print(f"all {total.total()}: " + ", ".join(f"{name} {total[name]}" for name in (*SOURCES, "not a contradiction")))
    print(f"the sentence as it was before the error: {restored}; sentences left that nothing supports: {unsupported}")
    if options.out is not None:
        write_json(
            options.out,
            {
                "machine": f"{platform.machine()}, Python {platform.python_version()}",
                "planted": total.total(),
                "became": {kind: dict(counts) for kind, counts in became.items()},
                "restored": restored,
                "unsupported_left": unsupported,
            },
        )


if __name__ == "__main__":
    main()
