"""The tables of `results/README.md`, from what `study.py` and `ship.py` wrote.

python page.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from holdouts import TESTED

RESULTS = Path(__file__).parent / "results"
TITLES = {
    "tiny": "whisper-tiny.en, 4 layers, frozen",
    "base": "whisper-base, frozen (the aim)",
    "mini": "`subtone-mini:speech`, the encoder alone",
    "mini+prosody": "`subtone-mini`, with prosody",
}


def main() -> None:
    """Write the page."""
    parts = {name: read(name) for name in ("speakers", "speakers-all", "unheard")}
    environment = parts["speakers"]["environment"]
    text = f"""# Figures of the embedded model

Written by `page.py`; what follows from them is in [../README.md](../README.md). UA in %, 95 % intervals by resampling
speakers. Every second clip of RAVDESS, nEMO and ASED, all of the others. Means of probabilities of three seeds.
{environment["date"][:10]}, {environment["machine"]["processor"]}, {environment["machine"]["cores"]} cores, no GPU.

## New speakers of a corpus, four classes

Three folds of speakers of each corpus by itself; classifiers trained on the corpus's other speakers. **The encoder
of `mini` was trained without the corpus**, and without one more of the four: not even other speakers of it were heard.

{table(parts["speakers"])}

## The same with all classes of each corpus

{table(parts["speakers-all"])}

## Corpora that were never heard, four classes

Classifiers trained on five corpora, tested on the sixth; the encoder of `mini` as above.

{table(parts["unheard"])}

## Paired tests, new speakers, four classes

{paired(parts["speakers"])}

## Paired tests, corpora that were never heard (`mini`: the shipped models stand on it)

{paired(parts["unheard"], "mini")}
"""
    (RESULTS / "README.md").write_text(text, encoding="utf-8")


def read(name: str) -> Any:
    """One of the study's parts."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(part: Mapping[str, Any]) -> str:
    """Systems by corpora."""
    systems = list(part["ravdess"]["systems"])
    heads = [
        f"{corpus}, {len(part[corpus]['labels'])} classes, {part[corpus]['clips']} clips" for corpus in TESTED
    ]
    lines = [f"| | {' | '.join(heads)} | mean |", "|---|" + "---|" * (len(TESTED) + 1)]
    for system in systems:
        found = [part[corpus]["systems"][system] for corpus in TESTED]
        cells = [f"{100 * f['ua']:.1f} ({100 * f['ua_ci'][0]:.1f}–{100 * f['ua_ci'][1]:.1f})" for f in found]
        mean = 100 * np.mean([f["ua"] for f in found])
        lines.append(f"| {TITLES.get(system, system)} | {' | '.join(cells)} | {mean:.1f} |")
    return "\n".join(lines)


def paired(part: Mapping[str, Any], system: str = "mini+prosody") -> str:
    """What `subtone.evaluation.compare` says of the model that ships."""
    return "\n".join(
        f"- {corpus}: {pair['sentence']}"
        for corpus in TESTED
        for pair in part[corpus]["comparisons"]
        if pair["b"] == system
    )


if __name__ == "__main__":
    main()
