"""Which voice activity detector, threshold and shortest speech: how well each finds speech, and the UA it leads to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from subtone.errors import SpeechError, UsageError
from subtone.evaluation import holm
from subtone.evaluation.bootstrap import percentile_interval
from subtone.evaluation.findings import Cell, Curves, Findings, Measure, Series, Table, rows_of
from subtone.speech import get_detector
from subtone.studies.cells import Cell as WorkCell
from subtone.studies.cells import Earlier
from subtone.studies.conditions import Condition
from subtone.studies.context import Context, Made, Study
from subtone.studies.figures import (
    Examined,
    Resampled,
    decided,
    p_cell,
    p_words,
    paired_p,
    pooled_over,
)
from subtone.studies.hearing import Hearing, sounds_cell
from subtone.studies.material import Material
from subtone.studies.options import SoundsOptions
from subtone.studies.systems import POOLED, Features, system_cell

SYSTEMS = ("sap", "gap+sap")
#: Detector → its threshold, and the values that are tried.
THRESHOLDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "silero": ("threshold", (0.3, 0.5, 0.7)),
    "webrtc": ("aggressiveness", (1, 2, 3)),
    "energy": ("range_db", (20.0, 30.0, 40.0)),
}
MIN_SPEECH_S = (0.1, 0.25, 0.5)
DEFAULT = "silero 0.5, 0.25 s"
MIXED = Condition("mixed")


class DetectorOptions(SoundsOptions):
    """Settings of the study; ``detector`` has no use in it.

    Parameters
    ----------
    share
        Of speech in what is heard in the test, in (0, 1).
    snr_db
        Of speech above noise and sounds.
    """

    share: float = Field(default=0.5, gt=0, lt=1)
    snr_db: float = Field(default=10.0, ge=-40, le=100)


@dataclass(frozen=True)
class _Corpus:
    material: Material
    heard: Mapping[str, WorkCell]
    systems: Mapping[tuple[str, str], WorkCell]

    @property
    def cells(self) -> tuple[WorkCell, ...]:
        """Of its conditions, and of the systems on them."""
        return (*self.heard.values(), *self.systems.values())


def candidates() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return name → configuration of the detectors to try, and those that are not installed, with the reason.

    Examples
    --------
    >>> DEFAULT in candidates()[0]
    True
    """
    found: dict[str, dict[str, Any]] = {}
    lacking: dict[str, str] = {}
    for name, (threshold, values) in THRESHOLDS.items():
        for value, shortest in itertools.product(values, MIN_SPEECH_S):
            try:
                detector = get_detector(name, **{threshold: value, "min_speech_s": shortest})
            except SpeechError as error:
                lacking[name] = str(error)
                continue
            found[f"{name} {value:g}, {shortest:g} s"] = detector.config()
    return found, lacking


def make(context: Context) -> Made:
    """Make the study."""
    options = context.options
    assert isinstance(options, DetectorOptions)
    tried, lacking = candidates()
    if DEFAULT not in tried:
        raise UsageError(f"the default detector cannot be opened: {lacking['silero']}")
    basis = [] if options.sounds is None else [sounds_cell(options.sounds, options.seed)]
    planned = [_plan(context, options, material, tried) for material in context.gather()]
    whole, earlier, failed = context.run_planned(planned, basis)
    return Made(_findings(context, options, whole, tried, lacking, earlier), failed)


def heard_conditions(options: DetectorOptions) -> list[Condition]:
    """Return what is heard in the test."""
    found = [Condition("diluted", "silence", options.share), Condition("diluted", "room", options.share)]
    found.append(Condition("diluted", "noise", options.share, options.snr_db))
    if options.sounds is not None:
        found.append(Condition("diluted", "sounds", options.share, options.snr_db))
    return found


def _plan(
    context: Context, options: DetectorOptions, material: Material, tried: Mapping[str, Mapping[str, Any]]
) -> _Corpus:
    hearing = Hearing(
        material, context.upstream, options, POOLED["gap+sap"], tried, options.sounds is not None
    )
    learned = hearing.cell(MIXED, prefix="learned", rehearsal=True)
    heard = {one.label: hearing.cell(one) for one in heard_conditions(options)}
    systems = {
        (system, detector): system_cell(
            f"{material.name}/systems/{system}/{detector.replace(' ', '_')}",
            material,
            Features(learned.name, detector, POOLED[system]),
            {label: Features(cell.name, detector, POOLED[system]) for label, cell in heard.items()},
            options,
        )
        for system in SYSTEMS
        for detector in tried
    }
    return _Corpus(material, {MIXED.label: learned, **heard}, systems)


def _key(system: str, detector: str, condition: str) -> str:
    return f"{system} | {detector} | {condition}"


def _examined(one: _Corpus, labels: Sequence[str], earlier: Earlier) -> Examined:
    answers = {
        _key(system, detector, label): decided(earlier.array(cell.name, label))
        for (system, detector), cell in one.systems.items()
        for label in labels
    }
    return Examined.of(one.material, answers)


def _mean_ua(found: Resampled, system: str, detector: str, labels: Sequence[str]) -> Measure:
    return found.of(lambda *each: sum(each) / len(each), *(_key(system, detector, label) for label in labels))


def _less_default(found: Resampled, system: str, detector: str, labels: Sequence[str]) -> Measure:
    count = len(labels)
    return found.of(
        lambda *each: sum(each[:count]) / count - sum(each[count:]) / count,
        *(_key(system, name, label) for name in (detector, DEFAULT) for label in labels),
    )


def _tests(
    examined: Sequence[Examined], detectors: Sequence[str], labels: Sequence[str], options: DetectorOptions
) -> dict[tuple[str, str], float]:
    """Return the p value of each detector's difference from the default, Holm over all of them."""
    pairs = [(system, name) for system in SYSTEMS for name in detectors if name != DEFAULT]

    def named(system: str, detector: str) -> list[str]:
        return [_key(system, detector, label) for label in labels]

    raw = [
        paired_p(
            [one.pair(named(system, DEFAULT), named(system, name)) for one in examined],
            permutations=options.permutations,
            seed=options.seed,
        )
        for system, name in pairs
    ]
    return dict(zip(pairs, holm(raw), strict=True))


def _quality(
    whole: Sequence[_Corpus], detector: str, labels: Sequence[str], options: DetectorOptions, earlier: Earlier
) -> tuple[Measure, Measure, Measure]:
    """Speech that is found, non-speech that is taken for speech, and their balanced accuracy, all in percent."""
    counts, speakers = [], []
    for one in whole:
        for label in labels:
            counts.append(earlier.array(one.heard[label].name, f"{detector}/counts"))
            speakers += one.material.speakers
    seconds = np.concatenate(counts)  # (clips of all conditions, 4)
    codes = np.unique(np.array([str(one) for one in speakers]), return_inverse=True)[1]
    each = np.zeros((codes.max() + 1, seconds.shape[1]))
    np.add.at(each, codes, seconds)  # (speakers, 4)
    drawn = np.random.default_rng(options.seed).multinomial(
        len(each), np.full(len(each), 1 / len(each)), size=options.resamples
    )

    def figures(total: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        hits, misses, alarms, rejections = np.moveaxis(total, -1, 0)
        found = 100 * hits / np.maximum(hits + misses, 1e-9)
        false = 100 * alarms / np.maximum(alarms + rejections, 1e-9)
        return found, false, (found + 100 - false) / 2

    values, draws = figures(each.sum(0)), figures(drawn.astype(np.float64) @ each)
    found, false, balanced = (
        Measure(float(value), *percentile_interval(draw)) for value, draw in zip(values, draws, strict=True)
    )
    return found, false, balanced


def _findings(
    context: Context,
    options: DetectorOptions,
    whole: Sequence[_Corpus],
    tried: Mapping[str, Mapping[str, Any]],
    lacking: Mapping[str, str],
    earlier: Earlier,
) -> Findings:
    labels = [one.label for one in heard_conditions(options)]
    examined = [_examined(one, labels, earlier) for one in whole]
    found = pooled_over(
        [
            one.resampled(resamples=options.resamples, seed=[options.seed, place])
            for place, one in enumerate(examined)
        ]
    )
    p = _tests(examined, list(tried), labels, options)
    quality = {name: _quality(whole, name, labels, options, earlier) for name in tried}
    rows: list[list[Cell]] = []
    for name in sorted(tried, key=lambda one: -_mean_ua(found, "gap+sap", one, labels).value):
        figures: list[Cell] = [_mean_ua(found, system, name, labels) for system in SYSTEMS]
        beside: list[Cell] = [
            "the default" if name == DEFAULT else _less_default(found, system, name, labels)
            for system in SYSTEMS
        ]
        tests: list[Cell] = [None if name == DEFAULT else p_cell(p[system, name]) for system in SYSTEMS]
        rows.append([name, *quality[name], *figures, *beside, *tests])
    by_condition: list[list[Cell]] = [
        [
            name,
            *(_quality(whole, name, [label], options, earlier)[2] for label in labels),
            *(found.measure(_key("gap+sap", name, label)) for label in labels),
        ]
        for name in tried
    ]
    words = [one.words for one in heard_conditions(options)]
    note = (
        "Detector: name and threshold (Silero: probability; WebRTC: aggressiveness; energy: dB below the peak), "
        "shortest speech. Found: share of clearly loud speech; false: share of what was added that was taken for "
        "speech; balanced: mean of found and 100 less false. 95 % intervals by resampling speakers and seeds."
    )
    return Findings(
        study="detectors",
        title="Detectors: how well each finds speech, and the UA it leads to",
        question="Which voice activity detector, threshold and shortest speech should SAP stand on?",
        protocol=(
            f"{'; '.join(one.material.sentence() for one in whole)}. Upstream "
            f"{context.upstream.rstrip('/').split('/')[-1]}, {options.precision}. Clips cut to their speech and "
            f"embedded, speech {100 * options.share:g} % of what is heard, noise and sounds {options.snr_db:g} dB "
            "below it: where speech lies is known. Classifiers of the recipe sap, trained for each detector on clips "
            "in mixed dilutions, with sounds that no test hears. UA: mean over "
            f"{', '.join(words)}" + (" and over corpora." if len(whole) > 1 else ".")
        ),
        conclusions=_conclusions(found, quality, p, list(tried), labels),
        limits=(
            *context.taught([one.material for one in whole]),
            "Soft speech and pauses within a clip are not scored: nobody knows which is which.",
            "Speech was found in clips by its level, which suits the energy detector.",
            *(f"Not tried: {name} ({why})." for name, why in lacking.items()),
        ),
        tables=(
            Table(
                "detectors",
                "Detectors, the highest UA of gap+sap first",
                (
                    "detector",
                    "found %",
                    "false %",
                    "balanced %",
                    *(f"UA % {system}" for system in SYSTEMS),
                    *(f"{system} less the default" for system in SYSTEMS),
                    *(f"p, Holm, {system}" for system in SYSTEMS),
                ),
                rows_of(rows),
                note,
            ),
            Table(
                "detectors-by-condition",
                "The same by what is heard",
                (
                    "detector",
                    *(f"balanced %, {one}" for one in words),
                    *(f"UA % gap+sap, {one}" for one in words),
                ),
                rows_of(by_condition),
                note,
            ),
        ),
        curves=tuple(_curves(found, quality, labels)),
        settings={"upstream": context.upstream, **options.model_dump(mode="json")},
    )


def _curves(
    found: Resampled, quality: Mapping[str, tuple[Measure, Measure, Measure]], labels: Sequence[str]
) -> list[Curves]:
    """UA against how well speech is found, one line a detector, by rising quality; bands would hide one another."""
    series = []
    for kind in dict.fromkeys(name.split()[0] for name in quality):
        own = sorted((q[2].value, name) for name, q in quality.items() if name.split()[0] == kind)
        measures = [_mean_ua(found, "gap+sap", name, labels) for _, name in own]
        series.append(
            Series(
                kind,
                tuple(x for x, _ in own),
                tuple(one.value for one in measures),
            )
        )
    return [
        Curves(
            "ua-against-quality",
            "UA of gap+sap against how well speech is found",
            "balanced accuracy of the detector (%)",
            "UA (%)",
            tuple(series),
            "One point a threshold and shortest speech; intervals stand in the table.",
        )
    ]


def _conclusions(
    found: Resampled,
    quality: Mapping[str, tuple[Measure, Measure, Measure]],
    p: Mapping[tuple[str, str], float],
    detectors: Sequence[str],
    labels: Sequence[str],
) -> tuple[str, ...]:
    told = []
    sharpest = max(detectors, key=lambda name: quality[name][2].value)
    told.append(
        f"Speech is found best by {sharpest}: balanced accuracy {quality[sharpest][2].text()} %, the default "
        f"({DEFAULT}) {quality[DEFAULT][2].text()} %."
    )
    for system in SYSTEMS:
        best = max(detectors, key=lambda name: _mean_ua(found, system, name, labels).value)
        own = _mean_ua(found, system, DEFAULT, labels)
        if best == DEFAULT:
            told.append(f"{system}: the default leads to the highest UA, {own.text()} %.")
            continue
        ahead = _less_default(found, system, best, labels)
        sure = "beyond chance" if p[system, best] < 0.05 else "the two are not told apart"
        told.append(
            f"{system}: {best} leads to the highest UA, {_mean_ua(found, system, best, labels).text()} %, the default "
            f"to {own.text()} %: {ahead.text()} points, {sure} ({p_words(p[system, best])}, Holm over {len(p)} tests)."
        )
        behind = [name for name in detectors if name != DEFAULT and p[system, name] < 0.05]
        lower = [name for name in behind if _less_default(found, system, name, labels).value < 0]
        told.append(
            f"{system}: {len(lower)} of {len(detectors) - 1} others are behind the default beyond chance"
            + (f": {'; '.join(lower)}." if lower else ".")
        )
    return tuple(told)


STUDY = Study(
    "detectors",
    "Which voice activity detector, threshold and shortest speech should SAP stand on?",
    DetectorOptions,
    make,
)
