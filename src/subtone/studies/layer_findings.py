"""What the study of layers found, as tables, curves and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.evaluation import Comparison, compare, corrected
from subtone.evaluation.findings import Cell, Curves, Findings, Measure, Series, Table, rows_of
from subtone.studies.context import Context
from subtone.studies.figures import Resampled, p_cell, pooled_over, resampled_ua
from subtone.studies.layer_energy import FEWEST, RATIOS, Energies
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions

SYSTEMS: dict[str, str] = {"gap": "GAP", "sap": "SAP", "gap+sap": "GAP ‖ SAP"}
ALL, MIX, PICKED = "all layers side by side", "learned mix of layers", "layer picked on development"


@dataclass(frozen=True, eq=False)
class Found:
    """What the cells of one corpus gave.

    Parameters
    ----------
    material
        The corpus.
    answers
        (system, which layers) → ``(seeds, clips)`` class numbers.
    picks
        System → ``(folds,)`` the layer that development picked.
    weights
        System → ``(folds, seeds, layers)`` of the learned mix.
    energies
        Speech against the rest; None where no clip has enough of both.
    """

    material: Material
    answers: Mapping[tuple[str, str], npt.NDArray[np.int64]]
    picks: Mapping[str, npt.NDArray[np.int64]]
    weights: Mapping[str, npt.NDArray[np.float64]]
    energies: Energies | None


def findings_of(context: Context, layers: int, found: Sequence[Found]) -> Findings:
    """Turn what was found into tables, curves and sentences.

    Parameters
    ----------
    context
        The study.
    layers
        Of the upstream.
    found
        One a corpus.
    """
    options = context.options
    each = {one.material.name: _resampled(one, options, place) for place, one in enumerate(found)}
    scopes = dict(each)
    if len(each) > 1:
        scopes = {"mean of corpora": pooled_over(list(each.values())), **each}
    tested = _comparisons(found, options)
    tables = [_ua_table(scope, ua, layers) for scope, ua in scopes.items()]
    tables.append(_paired_table(tested))
    curves = [_ua_curves(scope, ua, layers) for scope, ua in scopes.items()]
    for one in found:
        tables.append(_mix_table(one))
        curves.append(_mix_curves(one))
        if one.energies is not None:
            tables.append(_energy_table(one.material.name, one.energies))
            curves.append(_energy_curves(one.material.name, one.energies))
    return Findings(
        study="layers",
        title="Layers: which of them tell emotions, and which tell speech from the rest",
        question=(
            "Does one layer of the upstream do as well as all of them, which layers does a learned mix take, and in "
            "which layers do frames of speech differ from the other frames of a clip?"
        ),
        protocol=_protocol(context, layers, found),
        conclusions=tuple(_conclusions(found, each, tested)),
        limits=(
            "Few speakers pick the layer of a fold, so that another draw of them may pick another.",
            "Weights of a mix are what training left them at: layers that say the same can share a weight in any way, "
            "and a short training leaves all near to alike. They rank layers by no test.",
            "Speech is what the detector says. Frames near its edges hold both, and a transformer's frames have heard "
            "the whole clip.",
        ),
        tables=tuple(tables),
        curves=tuple(curves),
        settings={"upstream": context.upstream, **options.model_dump(mode="json")},
    )


def _protocol(context: Context, layers: int, found: Sequence[Found]) -> str:
    options = context.options
    corpora = "; ".join(one.material.sentence() for one in found)
    return (
        f"{corpora}. Upstream {context.upstream.rstrip('/').split('/')[-1]}, {options.precision}, {layers} layers from "
        "0, the lowest, to the last. Mean and deviation of a layer are pooled over all frames (GAP), "
        f"those of speech (SAP, detector {options.detector.name}) or both; classifiers of the recipe sap, "
        f"{len(options.seeds)} seeds. '{PICKED}' takes in each fold the layer with the best UA on its development "
        "speakers, whom the test does not hear; no row is chosen by its test. Test speakers are in no training."
    )


def _key(system: str, which: str) -> str:
    return f"{system} | {which}"


def _resampled(one: Found, options: StudyOptions, place: int) -> Resampled:
    return resampled_ua(
        one.material.targets,
        {_key(*names): answers for names, answers in one.answers.items()},
        len(one.material.classes),
        one.material.speakers,
        resamples=options.resamples,
        seed=[options.seed, place],
    )


def _comparisons(found: Sequence[Found], options: StudyOptions) -> dict[tuple[str, str, str], Comparison]:
    """Compare against all layers, (corpus, system, which) → what came out; corrected for all tests of the study."""
    made = {}
    for one in found:
        for system in SYSTEMS:
            for which in (PICKED, MIX):
                made[one.material.name, system, which] = compare(
                    one.material.targets,
                    one.answers[system, ALL],
                    one.answers[system, which],
                    one.material.classes,
                    one.material.speakers,
                    names=(ALL, which),
                    seed=options.seed,
                    resamples=options.resamples,
                    permutations=options.permutations,
                )
    return dict(zip(made, corrected(list(made.values())), strict=True))


def _short(scope: str) -> str:
    return scope.replace(" ", "-")


def _ua_table(scope: str, ua: Resampled, layers: int) -> Table:
    rows: list[list[Cell]] = []
    for which in (*map(str, range(layers)), ALL, MIX, PICKED):
        one: list[Cell] = [f"layer {which}" if which.isdigit() else which]
        one += [ua.measure(_key(system, which)) for system in SYSTEMS]
        one.append(ua.of(lambda both, gap: both - gap, _key("gap+sap", which), _key("gap", which)))
        rows.append(one)
    return Table(
        f"ua-{_short(scope)}",
        f"UA (%) by layer, {scope}",
        ("layers", *SYSTEMS.values(), "GAP ‖ SAP − GAP (points)"),
        rows_of(rows),
        "95 % intervals by resampling speakers and seeds. The best of the single layers in this table was chosen by "
        "its test, and so is no result; the last row is.",
    )


def _paired_table(tested: Mapping[tuple[str, str, str], Comparison]) -> Table:
    rows: list[list[Cell]] = []
    for (corpus, system, which), one in tested.items():
        low, high = one.ci
        assert one.p_corrected is not None
        gain = Measure(100 * one.difference, 100 * low, 100 * high)
        rows.append([corpus, SYSTEMS[system], which, gain, p_cell(one.p), p_cell(one.p_corrected)])
    return Table(
        "against-all-layers",
        "Against all layers side by side",
        ("corpus", "system", "instead of all layers", "UA gained (points)", "p", "p, corrected"),
        rows_of(rows),
        "Paired by speaker: intervals resample speakers and seeds, p by exchanging answers of whole speakers; "
        f"corrected for {len(tested)} tests (Holm).",
    )


def _ua_curves(scope: str, ua: Resampled, layers: int) -> Curves:
    series = tuple(
        _series(words, [ua.measure(_key(system, str(layer))) for layer in range(layers)])
        for system, words in SYSTEMS.items()
    )
    return Curves(
        f"ua-{_short(scope)}-layers",
        f"{scope}: UA of each layer by itself",
        "layer",
        "UA (%)",
        series,
        "Bands: 95 % intervals by resampling speakers and seeds.",
        (ua.values[_key("gap+sap", ALL)], "GAP ‖ SAP, all layers side by side"),
    )


def _series(label: str, measures: Sequence[Measure]) -> Series:
    """A line over the layers, whose numbers are names: there is nothing between two of them."""
    return Series(
        label,
        tuple(map(str, range(len(measures)))),
        tuple(one.value for one in measures),
        tuple(one.low for one in measures),
        tuple(one.high for one in measures),
    )


def _spread(values: npt.NDArray[np.float64]) -> Measure:
    """Mean, and one standard deviation down and up."""
    mean, deviation = float(values.mean()), float(values.std())
    return Measure(mean, mean - deviation, mean + deviation)


def effective(weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How many layers a mix takes in effect: the exponential of its entropy.

    Parameters
    ----------
    weights
        ``(..., layers)``, each row with the sum 1.

    Returns
    -------
    NDArray of float64
        ``(...)``, from 1 for one layer alone to all of them for a plain mean.

    Examples
    --------
    >>> effective([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).round(6).tolist()
    [2.0, 1.0]
    """
    given = np.asarray(weights, np.float64)
    terms = given * np.log(np.where(given > 0, given, 1.0))
    return np.asarray(np.exp(-terms.sum(-1)), np.float64)


def _mix_measures(one: Found, system: str) -> list[Measure]:
    weights = one.weights[system]  # (folds, seeds, layers)
    return [_spread(100 * weights[..., layer]) for layer in range(weights.shape[-1])]


def _mix_table(one: Found) -> Table:
    each = {system: _mix_measures(one, system) for system in SYSTEMS}
    rows: list[list[Cell]] = [
        [f"layer {layer}", *row] for layer, row in enumerate(zip(*each.values(), strict=True))
    ]
    rows.append(["layers in effect", *(_spread(effective(one.weights[system])) for system in SYSTEMS)])
    return Table(
        f"mix-{one.material.name}",
        f"Weights (%) of a learned mix of layers, {one.material.name}",
        ("", *SYSTEMS.values()),
        rows_of(rows),
        "Mean over folds and seeds; in brackets one standard deviation down and up. Layers are standardised before "
        "they are mixed, so that their weights can be compared. Layers in effect: the exponential of the weights' "
        "entropy.",
    )


def _mix_curves(one: Found) -> Curves:
    layers = one.weights["gap"].shape[-1]
    return Curves(
        f"mix-{one.material.name}-layers",
        f"{one.material.name}: weights of a learned mix of layers",
        "layer",
        "weight (%)",
        tuple(_series(words, _mix_measures(one, system)) for system, words in SYSTEMS.items()),
        "Bands: one standard deviation over folds and seeds.",
        (100 / layers, "all alike"),
    )


def _energy_table(corpus: str, energies: Energies) -> Table:
    columns = [energies.decibels(name) for name in RATIOS] + [energies.explained()]
    rows: list[list[Cell]] = [
        [f"layer {layer}", *row] for layer, row in enumerate(zip(*columns, strict=True))
    ]
    return Table(
        f"speech-{corpus}",
        f"Speech against the rest of a clip, by layer, {corpus}",
        ("", *(f"{one.words} (dB)" for one in RATIOS.values()), "variance explained (%)"),
        rows_of(rows),
        "dB: frames of speech over the other frames of the same clips. Energy: mean squared norm, as the frames come, "
        "and with each dimension divided by its root mean square over the corpus. Variation: variance about the mean "
        "of its own kind in the clip, each dimension divided by its deviation over the corpus. Variance explained: by "
        "a frame being speech or not, were both equally long. Derived exactly from the moments that GAP and SAP store; "
        f"{energies.clips} clips with {FEWEST} frames or more of both, of {energies.speakers} speakers, whom the 95 % "
        "intervals resample.",
    )


def _energy_curves(corpus: str, energies: Energies) -> Curves:
    return Curves(
        f"speech-{corpus}-layers",
        f"{corpus}: speech over the rest of a clip, by layer",
        "layer",
        "speech over the rest (dB)",
        tuple(_series(one.words, energies.decibels(name)) for name, one in RATIOS.items()),
        "Bands: 95 % intervals by resampling speakers.",
        (0.0, "as much in both"),
    )


def _conclusions(
    found: Sequence[Found],
    each: Mapping[str, Resampled],
    tested: Mapping[tuple[str, str, str], Comparison],
) -> Iterator[str]:
    for one in found:
        corpus = one.material.name
        ua = each[corpus]
        for system, words in SYSTEMS.items():
            yield (
                f"{corpus}, {words}: all layers side by side reach {ua.measure(_key(system, ALL)).text()} % UA, the "
                f"layer that development picks ({_picks(one.picks[system])}) {ua.measure(_key(system, PICKED)).text()} "
                f"%: {tested[corpus, system, PICKED].sentence()}."
            )
        for system, words in SYSTEMS.items():
            yield f"{corpus}, {words}: {tested[corpus, system, MIX].sentence()}. {_mix_sentence(one, system)}"
        yield _energy_sentence(corpus, one.energies)


def _picks(picks: npt.NDArray[np.int64]) -> str:
    """Say which layers were picked how often.

    >>> _picks(np.array([3, 3, 2]))
    '3 in 2 folds, 2 in 1 fold'
    """
    return ", ".join(
        f"{layer} in {count} fold{'s' if count > 1 else ''}"
        for layer, count in Counter(picks.tolist()).most_common()
    )


def _mix_sentence(one: Found, system: str) -> str:
    measures = _mix_measures(one, system)
    values = [measure.value for measure in measures]
    top, last = int(np.argmax(values)), int(np.argmin(values))
    layers = float(effective(one.weights[system]).mean())
    return (
        f"Its weights go from {values[last]:.1f} % (layer {last}) to {values[top]:.1f} % (layer {top}), where all "
        f"alike would be {100 / len(values):.1f} %: {layers:.1f} of {len(values)} layers in effect."
    )


def _energy_sentence(corpus: str, energies: Energies | None) -> str:
    if energies is None:
        return (
            f"{corpus}: no clip has {FEWEST} frames of speech and {FEWEST} others, so they can't be compared."
        )
    even, motion, explained = energies.decibels("even"), energies.decibels("motion"), energies.explained()
    most = max(range(energies.layers), key=lambda layer: explained[layer].value)
    last = energies.layers - 1
    return (
        f"{corpus}, speech over the rest of a clip: {even[0].text()} dB of energy in layer 0 and {even[last].text()} "
        f"dB in layer {last}, all dimensions alike; {motion[0].text()} and {motion[last].text()} dB of variation. "
        f"Speech or not explains most of the variance within a clip in layer {most}: {explained[most].text()} %, were "
        "both equally long."
    )
