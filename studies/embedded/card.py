"""The card of a model that ships: what was measured, on what, and what the model is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from subtone import corpora
from subtone.evaluation import Evaluation

TITLES = {
    "default": "The model that ships with Subtone",
    "default-7": "The model of seven emotions that ships with Subtone",
}


def card_of(name: str, labels: tuple[str, ...], record: Mapping[str, Any], clips: pd.DataFrame) -> str:
    """Write the card, from what `ship.py` measured and the clips it was trained on."""
    unheard, new = record["corpora"], record["speakers"]
    figures, fresh = Evaluation.from_dict(unheard["figures"]), Evaluation.from_dict(new["figures"])
    rows = "\n".join(f"| {f.name} | {f.n} | {100 * f.ua:.1f} | {100 * f.wa:.1f} |" for f in figures.folds)
    mean = 100 * np.mean([f.ua for f in figures.folds])
    recalls = "\n".join(
        f"| {label} | {_percent(fresh.per_class_recall[label])} | {_percent(figures.per_class_recall[label])} |"
        for label in labels
    )
    data = "\n".join(
        f"| {corpora.get(str(corpus)).title} | {', '.join(sorted(set(part['language'].dropna())))} | {len(part)} | "
        f"{part['speaker'].nunique()} | {corpora.get(str(corpus)).licence} |"
        for corpus, part in clips.groupby("corpus")
    )
    lines = "\n".join(
        f"| {title} | {kind} | {over['clips']} | {100 * over['as it is']['ua']:.1f} "
        f"| {100 * over['changed']['ua']:.1f} |"
        for kind, part in (("new speakers", new), ("corpora never heard", unheard))
        for line, over in part["lines"].items()
        for title in [_LINES[line]]
    )
    worse = f"""
## Over worse lines

UA % of the same clips as they are and changed, by the models measured above:

| line | test | clips | as they are | changed |
|---|---|---|---|---|
{lines}
""" if lines else ""  # fmt: skip
    incomplete = (
        ""
        if name == "default"
        else "\nNot every corpus has all seven: disgust is in RAVDESS alone, surprise in RAVDESS and nEMO, fear in\n"
        "these and ASED. What a corpus lacks can only be named by mistake there. Where RAVDESS is left out, disgust\n"
        "was never heard and is not asked for.\n"
    )
    return f"""# {TITLES[name]}

Emotions: {", ".join(labels)}. Upstream: `subtone-mini:speech`, a three-layer encoder cut from Whisper
tiny.en and trained on emotions{_BESIDE};
means and deviations over all frames and over speech (GAP ‖ SAP). Trained on {record["clips"]} clips, and copies of a
sixth of them over a telephone and in noise, of a twelfth with silence around them.

Every figure below is of a model like this one whose encoder *and* classifier were trained without the clips it was
tested on. RAVDESS, nEMO and ASED were measured on every second clip. Intervals are 95 %, by resampling speakers. The
model here was then trained on all clips alike.
{incomplete}
## On speakers that it had not heard

A third of the speakers of RAVDESS, nEMO and ASED, {fresh.n} clips of {new["speakers"]} speakers, one model for all
corpora (every fourth clip; the encoder had heard none of EmoDB, EmoTale and the Korean corpus). These are the
development speakers on whom the design was chosen, so the figure flatters.

- UA (mean recall) **{100 * fresh.ua:.1f} %**, interval {_interval(fresh.ua_ci)}
- WA (accuracy) **{100 * fresh.wa:.1f} %**, interval {_interval(fresh.wa_ci)}
- expected calibration error {100 * new["calibration_error"]:.1f} points, at a temperature fitted on the other half of
  these speakers

## On corpora that it had not heard

Each of four corpora tested by a classifier of all the others; encoders were trained without the tested corpus and
without one more of the four.

- UA over all clips **{100 * figures.ua:.1f} %**, interval {_interval(figures.ua_ci)}; mean over corpora
  **{mean:.1f} %**; guessing gives {100 / len(labels):.0f}
- expected calibration error {100 * unheard["calibration_error"]:.1f} points, at a temperature fitted on the
  speakers of the other corpora. The scores of this model are made so (temperature {unheard["temperature"]:.2f}): on
  speakers of a corpus that it knows, it is more often right than it says.

| corpus left out | clips | UA % | WA % |
|---|---|---|---|
{rows}

**Expect this, not the figure above, on recordings of your own.** ASED flatters the figure above: there, sentences and
clip lengths give emotions away to who has heard its other speakers.

| emotion | recall %, new speakers | recall %, corpora never heard |
|---|---|---|
{recalls}
{worse}
## Intended use

Research on, and first looks at, the emotion that a voice *sounds like*. A score is the model's probability, calibrated
on corpora that it had not heard, that listeners of such corpora would choose the label.

## Limits

- It hears how speech sounds, not what a person feels. Do not use it to judge people: at work, in school, in hiring, in
  insurance, by the police or at a border.
- Acted speech in quiet rooms taught it: nothing here was measured on spontaneous speech. Expect less there, and on
  languages, ages and voices that the corpora lack.
- It knows only its own labels and will choose one of them; recordings without speech are reported, not guessed.

## Data and licences

| corpus | language | clips | speakers | licence |
|---|---|---|---|---|
{data}

BAVED (Arabic, no licence stated, no emotions) was heard by the encoder as speech alone. No audio is in this package.
The licences of some corpora allow research only or exclude commercial use: whether that binds a model trained on them
is yours to judge before you sell what it says. The encoder derives from Whisper tiny.en (MIT, © 2022 OpenAI); the
notice lies beside its weights.
"""


_LINES = {
    "telephone": "telephone: 8 kHz, 300–3400 Hz, µ-law",
    "noise": "pink noise 5 to 15 dB below the speech",
    "silence": "half a second to six seconds of silence at both ends",
}
_BESIDE = " (without its prosody stream, which cost a point on corpora never heard)"


def _percent(share: float | None) -> str:
    return "–" if share is None or np.isnan(share) else f"{100 * share:.1f}"


def _interval(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
