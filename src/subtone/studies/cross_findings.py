"""Tables, heat maps and sentences of the study across corpora."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from subtone.evaluation.bootstrap import Metric
from subtone.evaluation.comparison import Comparison
from subtone.evaluation.findings import Cell, HeatMap, Measure, Table, rows_of
from subtone.studies.cross_cells import ADJUSTMENTS, ASSUMED, VARIANTS, Variant
from subtone.studies.cross_figures import OTHERS, Answers, Scores, Setting, System

MAIN = System("gap+sap")
NAMES = {"gap": "GAP", "gap+sap": "GAP ‖ SAP"}
WORDS: Mapping[Variant, str] = {"raw": "as it is", "standardised": "standardised by corpus"}
ADJUSTED = {"plain": "", "em": "EM", "bbse": "BBSE", "oracle": "oracle"}
_INTERVALS = "95 % intervals by resampling tested speakers and seeds."


@dataclass(frozen=True)
class Tested:
    """A paired test, over the speakers of all tested corpora."""

    setting: Setting
    comparison: Comparison


@dataclass(frozen=True)
class Found:
    """All that the study's words are made of.

    Parameters
    ----------
    answers
        Whose figures these are.
    scores
        UA and WA.
    tests
        Corrected together.
    off
        (who taught, tested) → assumed class shares → how far from the true ones, in points.
    """

    answers: Answers
    scores: Mapping[Metric, Scores]
    tests: Sequence[Tested]
    off: Mapping[tuple[str, str], Mapping[str, float]]

    def teachers(self) -> tuple[str, ...]:
        """Rows of a matrix: each corpus, and all others where that is another thing."""
        names = self.answers.names
        return (*names, OTHERS) if len(names) > 2 else names

    def across(self) -> Iterator[tuple[str, str]]:
        """Yield who taught and who was tested, where that is not the same corpus."""
        for teacher in self.teachers():
            for tested in self.answers.names:
                if teacher != tested:
                    yield teacher, tested


def heat_maps(found: Found) -> tuple[HeatMap, ...]:
    """UA of GAP ‖ SAP by pair, and what each remedy gains."""
    standardised, em = System("gap+sap", "standardised"), System("gap+sap", "raw", "em")
    scores = found.scores["ua"]

    def matrix(name: str, title: str, note: str, first: System | None, second: System) -> HeatMap:
        def cell(teacher: str, tested: str) -> Measure | None:
            if first is None:
                return scores.pair(tested, teacher, second)
            if teacher == tested and second.variant != first.variant:
                return None  # nothing changes, by construction
            return scores.gain(tested, teacher, first, second)

        names = found.answers.names
        values = tuple(tuple(cell(teacher, tested) for tested in names) for teacher in found.teachers())
        rows = tuple(found.teachers())
        return HeatMap(name, title, "taught on", "tested on", rows, names, values, note)

    return (
        matrix("ua", "UA (%) across corpora, GAP ‖ SAP", _INTERVALS, None, MAIN),
        matrix(
            "gain-em",
            "UA gained by EM's class shares (points)",
            "GAP ‖ SAP, features as they are.",
            MAIN,
            em,
        ),
        matrix(
            "gain-standardised",
            "UA gained by standardising (points)",
            "GAP ‖ SAP; each corpus by itself. Within one nothing changes.",
            MAIN,
            standardised,
        ),
        matrix(
            "gain-sap", "UA gained by SAP beside GAP (points)", "Features as they are.", System("gap"), MAIN
        ),
    )


def tables(found: Found) -> tuple[Table, ...]:
    """Means first, then tests, then every pair."""
    metrics: tuple[Metric, ...] = ("ua", "wa")
    pairs = [_pairs(found, metric, p, v) for p in NAMES for v in VARIANTS for metric in metrics]
    return (_means(found), _tests(found), _shares(found), *pairs)


def _means(found: Found) -> Table:
    settings = found.answers.settings()
    rows: list[list[Cell]] = []
    for pooling, name in NAMES.items():
        for variant in VARIANTS:
            for adjustment in ADJUSTMENTS:
                system = System(pooling, variant, adjustment)
                row: list[Cell] = [name, WORDS[variant], ADJUSTED[adjustment] or "none"]
                for scores in found.scores.values():
                    row += [scores.mean(setting, system) for setting in settings]
                rows.append(row)
    heads = [f"{metric.upper()}, {setting}" for metric in found.scores for setting in settings]
    return Table(
        "means",
        "Means over the tested corpora (%)",
        ("system", "features", "shares adjusted", *heads),
        rows_of(rows),
        f"{_INTERVALS} Each corpus weighs alike. The oracle knows the true shares of the test clips.",
    )


def _tests(found: Found) -> Table:
    rows: list[list[Cell]] = []
    for one in found.tests:
        comparison = one.comparison
        gain = Measure(100 * comparison.difference, *(100 * end for end in comparison.ci))
        assert comparison.p_corrected is not None
        rows.append(
            [one.setting, comparison.a, comparison.b, gain, _p(comparison.p), _p(comparison.p_corrected)]
        )
    return Table(
        "tests",
        "All paired tests of the study",
        ("taught", "first", "second", "second less first (points of UA)", "p", "p, corrected (Holm)"),
        rows_of(rows),
        "Speakers of all tested corpora, whose answers are exchanged whole; UA is the mean over corpora. Intervals "
        "draw the speakers of each corpus by themselves.",
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _shares(found: Found) -> Table:
    rows: list[list[Cell]] = [
        [teacher, tested, *(found.off[teacher, tested][name] for name in ASSUMED)]
        for teacher in found.teachers()
        for tested in found.answers.names
        if (teacher, tested) in found.off
    ]
    return Table(
        "shares",
        "How far assumed class shares are from the true ones (points)",
        ("taught on", "tested on", "as taught", "estimated by EM", "estimated by BBSE"),
        rows_of(rows),
        "Half the sum of absolute differences, of 100; GAP ‖ SAP as it is, mean over seeds and folds.",
    )


def _pairs(found: Found, metric: Metric, pooling: str, variant: Variant) -> Table:
    scores = found.scores[metric]
    rows: list[list[Cell]] = [
        [
            teacher,
            tested,
            *(scores.pair(tested, teacher, System(pooling, variant, one)) for one in ADJUSTMENTS),
        ]
        for teacher in found.teachers()
        for tested in found.answers.names
    ]
    heads = [f"{metric.upper()}, {ADJUSTED[one]}" if ADJUSTED[one] else metric.upper() for one in ADJUSTMENTS]
    return Table(
        f"{metric}-{pooling}-{variant}",
        f"{metric.upper()} (%) of every pair, {NAMES[pooling]}, {WORDS[variant]}",
        ("taught on", "tested on", *heads),
        rows_of(rows),
        f"{_INTERVALS} The oracle knows the true shares of the test clips.",
    )


def conclusions(found: Found) -> tuple[str, ...]:
    """Say what follows from the figures."""
    return (
        *_loss(found),
        *_teachers(found),
        *_tested(found),
        *_remedy(found, "Standardising each corpus by itself", System("gap+sap", "standardised")),
        *_remedy(found, "Adjusting to the shares that EM estimates", System("gap+sap", "raw", "em")),
        *_nearer(found),
        *_oracle(found),
    )


def _tested(found: Found) -> Iterator[str]:
    """Say each difference that was found, and all others in one sentence."""
    for one in found.tests:
        if one.comparison.significant:
            yield f"{_words(one.setting)}: {one.comparison.sentence()}."
    rest = [
        f"{_words(one.setting).lower()}, {one.comparison.b} less {one.comparison.a} "
        f"{Measure(100 * one.comparison.difference).text()}"
        for one in found.tests
        if not one.comparison.significant
    ]
    if rest:
        yield (
            f"No evidence of a difference in {len(rest)} of {len(found.tests)} paired tests, corrected together (in "
            f"points of UA): {'; '.join(rest)}."
        )


def _words(setting: Setting) -> str:
    return {
        "within": "Within a corpus",
        "one other": "Taught on one other corpus",
        "all others": "Taught on all others",
    }[setting]


def _loss(found: Found) -> Iterator[str]:
    scores = found.scores["ua"]
    parts = []
    for setting in found.answers.settings():
        mean = scores.mean(setting, MAIN)
        if mean is not None:
            parts.append(f"{_words(setting).lower()} {mean.text()}")
    if parts:
        chance = 100 / len(found.answers.materials[0].classes)
        yield f"Mean UA of GAP ‖ SAP over the tested corpora: {'; '.join(parts)}; chance is {chance:.1f}."


def _teachers(found: Found) -> Iterator[str]:
    scores = found.scores["ua"]
    single = {
        pair: measure
        for pair in found.across()
        if pair[0] != OTHERS and (measure := scores.pair(pair[1], pair[0], MAIN)) is not None
    }
    if not single:
        return
    worst, best = min(single, key=lambda p: single[p].value), max(single, key=lambda p: single[p].value)
    yield (
        f"Of {len(single)} pairs the best is {best[0]} to {best[1]}, UA {single[best].text()}, the worst {worst[0]} to "
        f"{worst[1]}, {single[worst].text()}."
    )
    ahead, told = 0, 0
    for tested in found.answers.names:
        together = scores.pair(tested, OTHERS, MAIN)
        own = [measure.value for (_, other), measure in single.items() if other == tested]
        if together is not None and own:
            told += 1
            ahead += together.value > max(own)
    if told:
        yield (
            f"All others together are ahead of the best single one on {ahead} of {told} corpora; nobody knows which is "
            "best without test labels."
        )


def _remedy(found: Found, what: str, remedy: System) -> Iterator[str]:
    """Count where a remedy helps and where it hurts."""
    gains = {
        pair: gain
        for pair in found.across()
        if (gain := found.scores["ua"].gain(pair[1], pair[0], MAIN, remedy)) is not None
    }
    if not gains:
        return
    if not any(one.value for one in gains.values()):
        yield f"{what} changes UA in none of {len(gains)} tests across corpora."
        return
    helps = [one for one in gains.values() if one.low is not None and one.low > 0]
    hurts = [one for one in gains.values() if one.high is not None and one.high < 0]
    most, least = max(gains, key=lambda p: gains[p].value), min(gains, key=lambda p: gains[p].value)
    yield (
        f"{what} raises UA in {sum(one.value > 0 for one in gains.values())} of {len(gains)} tests across corpora and "
        f"lowers it in {sum(one.value < 0 for one in gains.values())}; the interval lies above zero in {len(helps)}, "
        f"below in {len(hurts)}. Most: {gains[most].text()} points ({most[0]} to {most[1]}), least: "
        f"{gains[least].text()} ({least[0]} to {least[1]})."
    )


def _nearer(found: Found) -> Iterator[str]:
    across = [found.off[pair] for pair in found.across() if pair in found.off]
    if not across:
        return
    counts = {name: sum(one[name] < one["taught"] for one in across) for name in ("em", "bbse")}
    means = {name: sum(one[name] for one in across) / len(across) for name in ASSUMED}
    yield (
        f"Across corpora, class shares estimated by EM are nearer to the true ones than those taught in "
        f"{counts['em']} of {len(across)} tests, by BBSE in {counts['bbse']}: {means['em']:.1f} and "
        f"{means['bbse']:.1f} points off on average, those taught {means['taught']:.1f}."
    )


def _oracle(found: Found) -> Iterator[str]:
    oracle = System("gap+sap", "raw", "oracle")
    parts = []
    for setting in found.answers.settings():
        ua, wa = (found.scores[metric].mean_gain(setting, MAIN, oracle) for metric in ("ua", "wa"))
        if ua is not None and wa is not None:
            parts.append(f"{_words(setting).lower()} {ua.text()} of UA and {wa.text()} of WA")
    if parts:
        yield f"The true class shares, which an oracle tells, change the means by so many points: {'; '.join(parts)}."
