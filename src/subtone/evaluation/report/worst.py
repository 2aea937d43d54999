"""The clips on which a system was most sure of a wrong answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subtone.evaluation.findings import Measure, Table, rows_of
from subtone.evaluation.report.read import Answers, Run

MOST = 12


@dataclass(frozen=True)
class Mistake:
    """A clip that a system got wrong.

    Attributes
    ----------
    file, start_s, end_s
        The recording's name within the run, and the part of it; None for its end.
    truth, answer
        Labels.
    probabilities
        Label → probability (0..1), mean over seeds.
    speaker, fold
        None where unknown.
    more
        What else the predictions tell of it, name → value.
    """

    file: str
    start_s: float
    end_s: float | None
    truth: str
    answer: str
    probabilities: tuple[tuple[str, float], ...]
    speaker: str | None
    fold: str | None
    more: tuple[tuple[str, str], ...] = ()

    @property
    def confidence(self) -> float:
        """Probability of the wrong answer."""
        return dict(self.probabilities)[self.answer]


def source_of(run: Run) -> str | None:
    """The system whose mistakes are shown: the best one that gives probabilities."""
    for system in run.ranked:
        answers = run.answers(system)
        if answers is not None and answers.scores is not None:
            return system
    return None


def worst_mistakes(answers: Answers, most: int = MOST) -> list[Mistake]:
    """The mistakes with the highest probability of the wrong answer, of as many speakers as there are.

    Each speaker gives its worst, then each its second, until there are enough; then the surest stands first.
    """
    assert answers.scores is not None
    mean = answers.scores.mean(0)  # (clips, classes)
    chosen = mean.argmax(1)
    wrong = np.flatnonzero(chosen != answers.truth)
    sure = mean[np.arange(len(mean)), chosen]
    order = wrong[np.argsort(-sure[wrong], kind="stable")]
    speakers = answers.speakers
    turns: list[tuple[int, int]] = []
    seen: dict[str, int] = {}
    for rank, clip in enumerate(order.tolist()):
        who = speakers[clip] if speakers is not None else ""
        turn = seen.get(who, 0) if speakers is not None else 0
        seen[who] = turn + 1
        turns.append((turn, rank))
    kept = sorted(rank for _, rank in sorted(turns)[:most])
    return [_mistake(answers, int(order[rank]), mean, chosen) for rank in kept]


def mistakes_table(found: Sequence[Mistake], system: str, prefix: str) -> Table:
    """The mistakes with all their probabilities, for its exports."""
    rows = [
        (one.file, one.start_s, one.end_s, one.speaker, one.fold, one.truth, one.answer,
         *(Measure(100 * share) for _, share in one.probabilities))
        for one in found
    ]  # fmt: skip
    labels = [label for label, _ in found[0].probabilities] if found else []
    columns = (
        "file",
        "start (s)",
        "end (s)",
        "speaker",
        "fold",
        "truth",
        "answer",
        *(f"{label} %" for label in labels),
    )
    return Table(f"{prefix}mistakes", f"Surest mistakes of {system}", columns, rows_of(rows), digits=1)


def _mistake(answers: Answers, clip: int, mean: np.ndarray, chosen: np.ndarray) -> Mistake:
    row = answers.clips.iloc[clip]
    known = {
        name: row[name] for name in answers.clips.columns if row[name] is not None and row[name] == row[name]
    }
    told = ("gender", "language", "age", "corpus")
    end = known.get("end")
    return Mistake(
        file=str(row["file"]),
        start_s=float(known.get("start", 0.0)),
        end_s=None if end is None else float(end),
        truth=answers.labels[answers.truth[clip]],
        answer=answers.labels[chosen[clip]],
        probabilities=tuple((label, float(p)) for label, p in zip(answers.labels, mean[clip])),
        speaker=None if "speaker" not in known else str(known["speaker"]),
        fold=None if "fold" not in known else str(known["fold"]),
        more=tuple((name, _plain(known[name])) for name in told if name in known),
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
