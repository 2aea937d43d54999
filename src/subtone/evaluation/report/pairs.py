"""The paired tests of a page: those that runs hold, and those between runs; all corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from subtone.errors import UsageError
from subtone.evaluation.comparison import Comparison, compare, corrected
from subtone.evaluation.page import speaker_dependent
from subtone.evaluation.report.read import VOTE, Answers, Run

MOST_TESTS = 60  # between runs


@dataclass(frozen=True)
class PairedTest:
    """A paired test among all of the page.

    Attributes
    ----------
    run
        Name of the run that both systems are of; None for a test between runs.
    comparison
        With the p value of this test alone, and the one corrected for all tests of the page in its metric.
    """

    run: str | None
    comparison: Comparison

    @property
    def winner(self) -> str | None:
        """The system that is better, None without evidence after correction."""
        if not self.comparison.significant:
            return None
        return self.comparison.b if self.comparison.difference > 0 else self.comparison.a


def paired_tests(runs: Sequence[Run]) -> tuple[list[PairedTest], list[str]]:
    """All tests of a page.

    Returns
    -------
    (list of PairedTest, list of str)
        The tests, those of runs first, and a sentence for each pair of runs that says which clips were compared, or why
        none were.
    """
    found: list[tuple[str | None, Comparison]] = [(run.name, one) for run in runs for one in run.comparisons]
    remarks: list[str] = []
    for a, b in combinations(runs, 2):
        made, remark = _between(a, b, MOST_TESTS - sum(name is None for name, _ in found))
        found += [(None, one) for one in made]
        remarks.append(remark)
    kept = [(name, one) for name, one in found if 0 <= one.p <= 1]
    fixed = corrected([one for _, one in kept])
    return [PairedTest(name, one) for (name, _), one in zip(kept, fixed, strict=True)], remarks


def title_of(run: Run, system: str) -> str:
    """How a system is called beside those of other runs.

    A slash stands between, as in a path; neither name need be free of it.
    """
    return f"{run.name} / {system}"


def base_of(run: Run) -> str:
    """The system with the highest UA among means over seeds, as which runs are compared, and not as votes of seeds."""
    return next((name for name in run.ranked if not name.endswith(VOTE)), run.best)


def is_dependent(run: Run) -> bool:
    """Whether test speakers of a run are heard in its training by the nature of its folds."""
    return speaker_dependent(run.record["protocol"])


def split_of(run: Run) -> str | None:
    """A run's split in a word; None where nobody looked whether it keeps speakers apart, as with lists of others."""
    if is_dependent(run):
        return "speaker-dependent"
    leaks = run.record["protocol"].get("leaks")  # kinds that were looked for and not found
    return "speaker-disjoint" if isinstance(leaks, list) and "speaker" in leaks else None


def folds_of(run: Run) -> tuple[str, ...]:
    """How a run's folds were made, by kind and number, one for each corpus that has its own; empty if not told."""
    protocol = run.record["protocol"]
    corpora = protocol.get("corpora")
    each = [protocol, *(corpora.values() if isinstance(corpora, dict) else ())]
    return tuple(
        dict.fromkeys(
            one["folds"] + (f", {one['num_folds']} folds" if isinstance(one.get("num_folds"), int) else "")
            for one in each
            if isinstance(one, dict) and isinstance(one.get("folds"), str)
        )
    )


def _between(a: Run, b: Run, most: int) -> tuple[list[Comparison], str]:
    """Tests of the systems that both runs have, and of the best of each."""
    who = f"{a.name} and {b.name}"
    if is_dependent(a) != is_dependent(b):
        heard, apart = (a.name, b.name) if is_dependent(a) else (b.name, a.name)
        return [], (
            f"{who}: not compared, for the split of {heard} is speaker-dependent (test speakers are heard in "
            f"training) and that of {apart} is not; test both on the same kind of folds."
        )
    pairs = [(name, name) for name in a.systems if name in b.systems and not name.endswith(VOTE)]
    best = (base_of(a), base_of(b))
    pairs = [best, *(pair for pair in pairs if pair != best)]
    if most < len(pairs):
        pairs = pairs[: max(0, most)]
        if not pairs:
            return [], f"{who}: not compared; a page holds up to {MOST_TESTS} tests between runs."
    made: list[Comparison] = []
    told = ""
    for name_a, name_b in pairs:
        first, second = a.answers(name_a), b.answers(name_b)
        if first is None or second is None:
            lacking = a.name if first is None else b.name
            return (
                [],
                f"{who}: not compared, for {lacking} does not hold the answers of its systems clip by clip.",
            )
        try:
            one, told = _on_common(first, second, (title_of(a, name_a), title_of(b, name_b)))
        except UsageError as refused:
            return [], f"{who}: not compared; {refused}."
        made.append(one)
    return made, f"{who}: {told}.{_told_of_folds(a, b)}"


def _told_of_folds(a: Run, b: Run) -> str:
    kinds = folds_of(a), folds_of(b)
    if not all(kinds) or kinds[0] == kinds[1]:
        return ""
    return (
        f" Their folds differ ({'; '.join(kinds[0])} in {a.name}, {'; '.join(kinds[1])} in {b.name}), so the same clip "
        "was answered after training on other ones: what differs may be due to that."
    )


def _on_common(a: Answers, b: Answers, names: tuple[str, str]) -> tuple[Comparison, str]:
    if set(a.labels) != set(b.labels):
        raise UsageError(f"their classes differ ({', '.join(a.labels[:12])} and {', '.join(b.labels[:12])})")
    first, second = _keys(a), _keys(b)
    rows_b = second.get_indexer(first)
    common = rows_b >= 0
    if not common.any():
        raise UsageError(
            "they have tested no clip in common (clips are told by file, start and end, files from the folder that "
            "holds all of a run's)"
        )
    chosen = rows_b[common]
    truth_a = np.array(a.labels, dtype=object)[a.truth[common]]
    truth_b = np.array(b.labels, dtype=object)[b.truth[chosen]]
    differing = int((truth_a != truth_b).sum())
    if differing:
        raise UsageError(f"{differing} of their {int(common.sum())} common clips have another label in each")
    renumbered = np.array([a.labels.index(label) for label in b.labels])
    speakers = a.speakers
    chosen_speakers = None if speakers is None else [one for one, kept in zip(speakers, common) if kept]
    made = compare(
        a.truth[common],
        a.codes[:, common],
        renumbered[b.codes[:, chosen]],
        a.labels,
        chosen_speakers,
        names=names,
    )
    whole = int(common.sum()) == len(a.truth) == len(b.truth)
    clips = f"all {made.n} clips of both" if whole else (
        f"{made.n} clips in common (of {len(a.truth)} and {len(b.truth)}); what is said holds for those alone"
    )  # fmt: skip
    over = f"paired over {made.units} {made.unit}s"
    return made, f"{over}, {clips}"


def _keys(answers: Answers) -> pd.MultiIndex:
    clips = answers.clips
    # Milliseconds: times are read back from text and floats.
    times = [np.nan_to_num(clips[name].to_numpy(float) * 1000, nan=-1).round() for name in ("start", "end")]
    return pd.MultiIndex.from_arrays([clips["file"].astype(str), *times, clips["turn"]])
