"""What the figures of a run say, in sentences that follow from them and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subtone.evaluation.gap_words import gap_sentences, p_text, plain
from subtone.evaluation.report.confidence import Surety, sureties
from subtone.evaluation.report.pairs import PairedTest, base_of, folds_of, is_dependent, title_of
from subtone.evaluation.report.read import VOTE, Run
from subtone.evaluation.report.tables import count_of, speaker_scores
from subtone.evaluation.scoring import Evaluation

FEW_SPEAKERS = 10  # below that, 95 % intervals held the truth in 86 to 90 % of simulated studies
FEW_CLIPS = 5  # a speaker with fewer is no example of anything


def summary(run: Run, tests: Sequence[PairedTest]) -> list[str]:
    """What came out, in the order of a reader's questions."""
    best = run.best
    one = run.systems[best]
    told = [_best(best, one), _support(run, tests), _hardest(best, one)]
    told += [_worst_speaker(run), _groups(run), _calibrated(sureties(run)[:1])]
    return [sentence for sentence in told if sentence]


def cautions(run: Run) -> list[str]:
    """What would mislead if it went unsaid."""
    told = []
    if is_dependent(run):
        told.append(
            "Speaker-dependent split: clips were divided at random, so test speakers are heard in training. These "
            "figures are not comparable with speaker-disjoint ones and say nothing of new speakers."
        )
    one = run.systems[run.best]
    if one.ci_unit == "clip":
        told.append(
            "Speakers are unknown or one, so clips were resampled: the intervals say nothing of new speakers."
        )
    elif one.ci_units < FEW_SPEAKERS:
        told.append(
            f"With {one.ci_units} speakers, intervals are too narrow, and no small difference can be shown."
        )
    if len({other.n for other in run.systems.values()}) > 1:
        told.append("The systems were not all tested on the same clips; compare only those that were.")
    for name, other in run.systems.items():
        answered = [label for label, count in zip(other.labels, np.asarray(other.confusion).sum(0)) if count]
        if len(answered) == 1 and len(other.labels) > 1:
            told.append(f"{name} answered {answered[0]} for every clip: it has learned nothing.")
    told += _lost(run.record)
    upstream = run.record.get("upstream")
    taught = upstream.get("taught_on") if isinstance(upstream, Mapping) else None
    if isinstance(taught, list) and taught:
        told.append(
            f"The upstream has been taught emotions on {', '.join(map(str, taught))}, test speakers included."
        )
    return [*told, *run.remarks]


def cautions_between(runs: Sequence[Run]) -> list[str]:
    """What would mislead a reader of several runs if it went unsaid."""
    told = []
    heard = [run.name for run in runs if is_dependent(run)]
    if 0 < len(heard) < len(runs):
        told.append(
            f"Speaker-dependent runs stand beside others. In {_and(heard)}, clips were divided at "
            "random, so test speakers are heard in training; such figures are too high for new speakers. They are not "
            "comparable with those of the other runs, and no test is made between the two kinds."
        )
    elif heard:
        told.append(
            "Speaker-dependent splits: in all runs, test speakers are heard in training. No figure says anything of "
            "new speakers."
        )
    for corpus in dict.fromkeys(str(run.record["protocol"].get("corpus")) for run in runs):
        same = [run for run in runs if str(run.record["protocol"].get("corpus")) == corpus and folds_of(run)]
        if len({folds_of(run) for run in same}) > 1:
            each = _and([f"{run.name} ({'; '.join(folds_of(run))})" for run in same])
            told.append(
                f"Folds differ between runs of the same corpus, so what they were taught on does, too: {each}."
            )
    return told


def between_runs(runs: Sequence[Run], tests: Sequence[PairedTest]) -> list[str]:
    """What several runs say together; speaker-dependent ones are ranked by themselves."""
    kinds = [[run for run in runs if not is_dependent(run)], [run for run in runs if is_dependent(run)]]
    told = []
    for number, kind in enumerate(kinds):
        split = ("without a speaker-dependent split", "with a speaker-dependent split")[number]
        among = f" {split}" if all(kinds) else ""
        told += _ranked(kind, tests, among) if kind else []
    if any(run.best.endswith(VOTE) for run in runs):
        told.append("Between runs, systems count with the mean over seeds, not with their vote.")
    made = [test for test in tests if test.run is None]
    if not made:
        told.append(
            "No paired test could be made between the runs, so nothing says that one is better than another."
        )
        if len({tuple(sorted(run.systems[run.best].labels)) for run in runs}) > 1:
            told.append("Their classes differ, and UA falls with their number: do not compare these figures.")
        return told
    supported = sum(test.winner is not None for test in made)
    total = sum(test.comparison.metric == made[0].comparison.metric for test in tests)
    told.append(
        f"{supported if supported else 'None'} of {len(made)} paired tests between runs "
        f"{'shows' if supported < 2 else 'show'} a difference after Holm's correction over the {total} tests of this "
        "page in UA."
    )
    return told


def _ranked(runs: Sequence[Run], tests: Sequence[PairedTest], among: str) -> list[str]:
    """Runs of one kind by UA, and the tests of the first against the others."""
    first, *others = sorted(runs, key=lambda run: -_sound(run.systems[base_of(run)].ua))
    best = f"{base_of(first)} with {_ua(first.systems[base_of(first)])}"
    if not others:
        return [f"{first.name} is the only run{among}: {best}."]
    told = [
        f"Of {len(runs)} runs{among}, {first.name} has the highest UA: {best}; it is followed by "
        + _and([f"{run.name} ({_percent(run.systems[base_of(run)].ua)} %)" for run in others[:6]])
        + "."
    ]
    for run in others:
        names = {title_of(first, base_of(first)), title_of(run, base_of(run))}
        told += [
            _sentence(test)
            for test in tests
            if test.run is None and {test.comparison.a, test.comparison.b} == names
        ]
    return told


def _best(name: str, one: Evaluation) -> str:
    chance = 1 / max(1, sum(not math.isnan(recall) for recall in one.per_class_recall.values()))
    told = f"{name} has the highest UA: {_ua(one)}."
    if not math.isfinite(one.ua_ci[0]) or chance == 1:
        return told
    if one.ua_ci[0] > chance:
        return f"{told} Chance would be {_percent(chance)} %, below the whole interval."
    return f"{told} Chance would be {_percent(chance)} %, and the interval does not exclude it."


def _support(run: Run, tests: Sequence[PairedTest]) -> str:
    """Whether paired tests bear the best system's lead out."""
    best = run.best
    if len(run.systems) == 1:
        return "There is one system, so there is nothing to compare."
    mine = [test for test in tests if test.run == run.name and test.comparison.metric == "ua"]
    of_best = [test for test in mine if best in (test.comparison.a, test.comparison.b)]
    told = ""
    if not of_best and best.endswith(VOTE):
        base = best.removesuffix(VOTE)
        of_best = [test for test in mine if base in (test.comparison.a, test.comparison.b)]
        if of_best:
            told = f"Paired tests take the mean over seeds, not their vote. For {base}: "
            best = base
    if not of_best:
        return f"No paired test compares {best} with another system, so nothing says that its lead is more than chance."
    won = [test for test in of_best if test.winner == best]
    lost = [test for test in of_best if test.winner not in (None, best)]
    open_ = [test for test in of_best if test.winner is None]
    parts = []
    if won:
        parts.append("the tests bear out that it beats " + _and([_against(test, best) for test in won]))
    if lost:
        parts.append("it is beaten by " + _and([_against(test, best) for test in lost]))
    if open_:
        parts.append(
            "there is no evidence of a difference from " + _and([_against(test, best) for test in open_])
        )
    tested = {name for test in of_best for name in (test.comparison.a, test.comparison.b)}
    rest = [name for name in run.systems if name not in tested and not name.endswith(VOTE)]
    tail = (
        f" It was not tested against {_and(rest[:5])}{' and others' if len(rest) > 5 else ''}."
        if rest
        else ""
    )
    said = "; ".join(parts) + " (UA, after Holm's correction)."
    return (told + said if told else said[0].upper() + said[1:]) + tail


def _against(test: PairedTest, best: str) -> str:
    one = test.comparison
    other = one.a if one.b == best else one.b
    points = 100 * one.difference * (1 if one.b == best else -1)
    return f"{other} ({_signed(points)} points, p = {p_text(one.p_corrected)})"


def _sentence(test: PairedTest) -> str:
    text = test.comparison.sentence()
    return text[0].upper() + text[1:] + "."


def _hardest(name: str, one: Evaluation) -> str:
    known = {label: recall for label, recall in one.per_class_recall.items() if not math.isnan(recall)}
    if len(known) < 2:
        return f"Only one class occurs among the clips, {next(iter(known))}." if known else ""
    label = min(known, key=lambda each: known[each])
    row = np.asarray(one.confusion, dtype=float)[one.labels.index(label)].copy()
    whole = row.sum()
    row[one.labels.index(label)] = -1
    taken = one.labels[int(row.argmax())]
    easiest = max(known, key=lambda each: known[each])
    share = f" and takes {_percent(row.max() / whole)} % of it for {taken}" if row.max() > 0 else ""
    if known[label] == known[easiest]:
        return f"{name} recognises every class equally well, {_percent(known[label])} %."
    return (
        f"Hardest is {label}: {name} recognises {_percent(known[label])} % of it{share}. Easiest is {easiest} with "
        f"{_percent(known[easiest])} %."
    )


def _worst_speaker(run: Run) -> str:
    answers = run.answers(run.best)
    if answers is None:
        return ""
    each = {name: one for name, one in speaker_scores(answers).items() if one[0] >= FEW_CLIPS}
    if len(each) < 2:
        return ""
    worst, best = min(each, key=lambda one: each[one][1]), max(each, key=lambda one: each[one][1])
    return (
        f"{run.best} serves speaker {worst} worst, with a UA of {_percent(each[worst][1])} % on {each[worst][0]} "
        f"clips, and speaker {best} best, with {_percent(each[best][1])} % on {each[best][0]}."
    )


def _groups(run: Run) -> str:
    slices = run.slices.get(run.best)
    return "" if slices is None else " ".join(gap_sentences(slices))


def _calibrated(found: Sequence[Surety]) -> str:
    if not found:
        return ""
    one = found[0]
    error, over = 100 * one.reliability.error, 100 * (one.confidence - one.accuracy)
    if abs(over) < 1:
        kind = "on average about as sure as it is right"
    else:
        kind = f"on average {abs(over):.1f} points {'surer' if over > 0 else 'less sure'} than it is right"
    return f"Probabilities of {one.system} are off by {error:.1f} points (expected calibration error): it is {kind}."


def _lost(record: Mapping[str, Any]) -> list[str]:
    told = []
    if failed := count_of(record.get("failed")):
        told.append(f"{_clips(failed)} could not be used and {'is' if failed == 1 else 'are'} in no figure.")
    left_out = record.get("left_out")
    for kind, why in (("skipped", "their reader does not know them"), ("missing", "named, but not there")):
        if number := count_of(left_out.get(kind) if isinstance(left_out, Mapping) else None):
            told.append(f"{number} file{'s' if number > 1 else ''} left out: {why}.")
    asked = record.get("not_asked_for")
    if isinstance(asked, Mapping) and asked:
        names = _and([f"{name} ({count} clips)" for name, count in asked.items()])
        told.append(f"Emotions left out, as the recipe says: {names}.")
    return told


def _ua(one: Evaluation) -> str:
    if not math.isfinite(one.ua):
        return "not a number"
    if not all(map(math.isfinite, one.ua_ci)):
        return f"{_percent(one.ua)} %"
    return (
        f"{_percent(one.ua)} % ({100 * one.confidence:g} % interval {_percent(one.ua_ci[0])} to "
        f"{_percent(one.ua_ci[1])}, over {one.ci_units} {one.ci_unit}{'' if one.ci_units == 1 else 's'})"
    )


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def _clips(number: int) -> str:
    return f"{number} clip{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return plain(100 * share)


def _signed(points: float) -> str:
    return plain(points) if points < 0 or plain(points) == "0.0" else f"+{plain(points)}"


def _sound(value: float) -> float:
    return value if math.isfinite(value) else -1.0
