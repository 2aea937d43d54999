"""A model's card: what it was trained on, what it reached on new speakers, what it is for and what it is not for."""

from __future__ import annotations

from subtone.evaluation import Evaluation
from subtone.protocols import Protocol

USE = """\
## Intended use

Research on, and first looks at, the emotion that a voice *sounds like*. A score is the model's probability, calibrated
on the corpora above, that listeners of such corpora would choose the label.

## Limits

- It hears how speech sounds, not what a person feels. Do not use it to judge people: at work, in school, in hiring, in
  insurance, by the police or at a border.
- Acted speech in quiet rooms taught it. Expect less on spontaneous speech, noise, telephones, and on languages,
  ages and voices that the corpora lack.
- Expect nothing of it at telephone bandwidth (8 kHz) unless the corpora above are of that kind.
- It knows only its own labels and will choose one of them; recordings without speech are reported, not guessed.
"""


def write_card(
    title: str, *, protocol: Protocol, evaluation: Evaluation, calibration_error: float, more: str = ""
) -> str:
    """Write the card of a model in Markdown.

    Parameters
    ----------
    title : str
        First line.
    protocol, evaluation, calibration_error
        As :class:`~subtone.training.TrainedModel` has them.
    more : str
        Further Markdown sections, e.g. licences of the corpora; placed before the limits.
    """
    recalls = "\n".join(f"| {k} | {100 * v:.1f} |" for k, v in evaluation.per_class_recall.items())
    unheard = "clips" if protocol.speaker_dependent else "speakers"
    (ua_low, ua_high), (wa_low, wa_high) = evaluation.ua_ci, evaluation.wa_ci
    return f"""# {title}

Emotions: {", ".join(evaluation.labels)}.

## What it reached on {unheard} that it had not heard

{protocol.describe()}

- UA (mean recall) **{100 * evaluation.ua:.1f} %**, 95 % interval {100 * ua_low:.1f} to {100 * ua_high:.1f}
- WA (accuracy) **{100 * evaluation.wa:.1f} %**, 95 % interval {100 * wa_low:.1f} to {100 * wa_high:.1f}
- expected calibration error {100 * calibration_error:.1f} points at a temperature fitted on development speakers

| emotion | recall % |
|---|---|
{recalls}

These figures are of models trained on the other folds; the model here was then trained on all clips alike.

{more.strip()}

{USE}""".replace("\n\n\n", "\n\n")
