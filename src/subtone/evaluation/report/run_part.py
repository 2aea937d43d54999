"""A run's part of a page, section by section; what a run does not tell gives no section."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from subtone.evaluation.findings import Curves, Table
from subtone.evaluation.report import confidence, tables, words
from subtone.evaluation.report.blocks import (
    Block,
    Facts,
    Figures,
    Headline,
    Heat,
    Mistakes,
    Part,
    Plot,
    Plots,
    Section,
    Text,
    Words,
)
from subtone.evaluation.report.clips import Clips
from subtone.evaluation.report.pairs import PairedTest
from subtone.evaluation.report.read import Run
from subtone.evaluation.report.svg import Row, curves_svg, legend, reliability_svg, strip_svg
from subtone.evaluation.report.worst import mistakes_table, source_of, worst_mistakes

MOST_STRIPS = 12
MOST_MATRICES = 12


def run_part(run: Run, tests: Sequence[PairedTest], clips: Clips, *, key: str, prefix: str) -> Part:
    """All that a page says of a run.

    Parameters
    ----------
    run
        The run.
    tests
        All of the page; those of the run are shown.
    clips
        Where recordings come from.
    key
        Of the part, for links.
    prefix
        Of the names of its tables.
    """
    made = [
        Section("summary", "What came out", _summary(run, tests)),
        Section("systems", "Systems", _systems(run, prefix)),
        Section("spread", "Folds and speakers", _spread(run, prefix)),
        Section("classes", "Emotions", _classes(run, prefix)),
        Section("tests", "Is one better than another?", _tests(run, tests, prefix)),
        Section("groups", "For whom it works", _groups(run, prefix)),
        Section("confidence", "Confidence", _confidence(run, prefix)),
        Section("mistakes", "Surest mistakes", _mistakes(run, clips, prefix)),
        Section("provenance", "How it was made", _provenance(run, prefix)),
    ]
    protocol = str(run.record["protocol"].get("description") or "The protocol is not described.")
    return Part(key, run.name, protocol, tuple(section for section in made if section.blocks))


def _summary(run: Run, tests: Sequence[PairedTest]) -> tuple[Block, ...]:
    best = run.systems[run.best]
    found = confidence.sureties(run)[:1]
    cards = [
        ("UA", tables.percent(best.ua), best.ua_ci, ""),
        ("WA", tables.percent(best.wa), best.wa_ci, ""),
        ("macro-F1", tables.percent(best.macro_f1), None, "mean over classes"),
        *(("ECE", tables.percent(one.reliability.error), None, "points, lower is better") for one in found),
    ]
    told = []
    for name, figure, ends, below in cards:
        if ends is not None and all(map(math.isfinite, ends)):
            below = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
        told.append(
            (name, "–" if figure is None else f"{figure.text()}{'' if name == 'ECE' else ' %'}", below)
        )
    who = f"{best.ci_units} {'speaker' if best.ci_unit == 'speaker' else 'clip'}{'' if best.ci_units == 1 else 's'}"
    told.append(("clips", str(best.n), who if best.ci_unit == "speaker" else "speakers unknown"))
    cautions = words.cautions(run)
    return (
        Headline(run.best, tuple(told)),
        *((Words(tuple(cautions), caution=True),) if cautions else ()),
        Words(tuple(words.summary(run, tests))),
    )


def _systems(run: Run, prefix: str) -> tuple[Block, ...]:
    return (Figures(tables.systems_table([run], prefix)),)


def _spread(run: Run, prefix: str) -> tuple[Block, ...]:
    blocks: list[Block] = []
    shown = run.ranked[:MOST_STRIPS]
    more = "" if len(shown) == len(run.systems) else f" The {MOST_STRIPS} systems with the highest UA."
    folds = tables.folds_table(run, prefix)
    plots = []
    if folds is not None:
        rows = [
            _row(run, name, tuple((f"fold {fold.name}", 100 * fold.ua) for fold in run.systems[name].folds))
            for name in shown
        ]  # fmt: skip
        plots.append(_strip(rows, "UA by fold", "fold", more, folds))
    speakers = tables.speakers_table(run, prefix)
    if speakers is not None:
        rows = []
        for name in shown:
            answers = run.answers(name)
            each = {} if answers is None else tables.speaker_scores(answers)
            if each:
                rows.append(
                    _row(run, name, tuple((f"speaker {who}", 100 * one[1]) for who, one in each.items()))
                )
        plots.append(_strip(rows, "UA by speaker", "speaker", more, speakers))
    if plots:
        blocks.append(Plots(tuple(plots)))
    return tuple(blocks)


def _row(run: Run, name: str, dots: tuple[tuple[str, float], ...]) -> Row:
    one = run.systems[name]
    return Row(name, 100 * one.ua, 100 * one.ua_ci[0], 100 * one.ua_ci[1], dots)


def _strip(rows: Sequence[Row], title: str, dots: str, more: str, table: Table) -> Plot:
    note = f"Dots: {dots}s. Diamond and bar: all clips, interval.{more}"
    return Plot(strip_svg(rows, title, "UA (%)", dots), title, note, table=table)


def _classes(run: Run, prefix: str) -> tuple[Block, ...]:
    blocks: list[Block] = [Figures(tables.recall_table(run, prefix))]
    for number, name in enumerate(run.ranked[:MOST_MATRICES]):
        title = f"Confusion matrix of {name}"
        heat_map, below = tables.confusion_map(f"{prefix}confusion-{number + 1}", run.systems[name], title)
        blocks.append(Heat(heat_map, tables.heat_map_table(heat_map), below, folded=number > 0))
    return tuple(blocks)


def _tests(run: Run, tests: Sequence[PairedTest], prefix: str) -> tuple[Block, ...]:
    mine = [test for test in tests if test.run == run.name]
    if not mine:
        return ()
    return (Figures(tables.tests_table(mine, prefix, "Paired tests")),)


def _groups(run: Run, prefix: str) -> tuple[Block, ...]:
    found = tables.slices_tables(run.slices, run.ranked, prefix)
    spread = next((run.slices[name].spread for name in run.ranked if name in run.slices), None)
    blocks: list[Block] = []
    if spread is not None:
        low, high = spread.worst_decile_ci
        blocks.append(
            Words(
                (
                    f"Recall of single speakers: {100 * spread.minimum:.1f} to {100 * spread.maximum:.1f} %, median "
                    f"{100 * spread.median:.1f} %, over {spread.speakers} speakers with {spread.fewest_clips} clips "
                    f"or more each. The worst tenth ({spread.worst_decile_speakers}) has "
                    f"{100 * spread.worst_decile:.1f} % ({100 * low:.1f} to {100 * high:.1f}).",
                )
            )
        )
    blocks += [Figures(table, folded=number > 0) for number, table in enumerate(found)]
    return tuple(blocks)


def _confidence(run: Run, prefix: str) -> tuple[Block, ...]:
    found = confidence.sureties(run)
    if not found:
        return ()
    diagrams = tuple(
        Plot(
            reliability_svg(one.reliability, one.system),
            one.system,
            f"ECE {100 * one.reliability.error:.1f} points",
        )
        for one in found
    )
    blocks: list[Block] = [
        Figures(confidence.calibration_table(found, run.calibration, prefix)),
        Plots(diagrams, confidence.reliability_table(found, prefix), small=True),
    ]
    curves = confidence.coverage_curves(run, prefix)
    if curves:
        blocks.append(Plots(tuple(plot_of(one) for one in curves)))
    return tuple(blocks)


def plot_of(curves: Curves) -> Plot:
    """Curves as a picture with legend and figures."""
    return Plot(
        curves_svg(curves), curves.title, curves.note, tuple(legend(curves)), confidence.curves_table(curves)
    )


def _mistakes(run: Run, clips: Clips, prefix: str) -> tuple[Block, ...]:
    system = source_of(run)
    answers = None if system is None else run.answers(system)
    if answers is None:
        return ()
    found = worst_mistakes(answers)
    if not found:
        return (Words((f"{system} made no mistake.",)),)
    many = len({one.speaker for one in found})
    said = f"Where {system} was most sure of a wrong answer, "
    said += (
        f"{len(found)} clips of {many} speakers" if answers.speakers is not None else f"{len(found)} clips"
    )
    said += (
        "; bars are the mean probability over seeds."
        if len(answers.codes) > 1
        else "; bars are probabilities."
    )
    return (
        Words((said,)),
        Mistakes(tuple((one, clips.get(one.file, one.start_s, one.end_s)) for one in found)),
        Figures(mistakes_table(found, str(system), prefix), folded=True),
    )


def _provenance(run: Run, prefix: str) -> tuple[Block, ...]:
    record = run.record
    recipe = _recipe(run.recipe)
    facts = [
        ("Recipe", _joined([record.get("recipe"), recipe.get("title")], ": ")),
        ("Paper", _text(recipe.get("paper"))),
        ("Upstream", _upstream(record.get("upstream"))),
        ("Protocol", _text(record["protocol"].get("description"))),
        *environment_facts(run.environment),
        ("Computed by", _backend(record.get("backend"))),
        (
            "Recordings",
            f"{record['audio_s'] / 60:.1f} minutes"
            if isinstance(record.get("audio_s"), (int, float))
            else "",
        ),
        ("Time", _seconds(record.get("seconds"))),
    ]
    lost = tables.lost_table(record, prefix)
    return (
        Facts(tuple((name, value) for name, value in facts if value)),
        *((Figures(lost),) if lost is not None else ()),
        *((Text("The recipe as it was run", run.recipe),) if run.recipe else ()),
    )


def environment_facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Command, seeds, date, versions and machine of what `describe_environment` gave."""
    machine = environment.get("machine")
    machine = machine if isinstance(machine, Mapping) else {}
    versions = environment.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    seeds = environment.get("seeds")
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    system = _joined([machine.get("system"), machine.get("release"), machine.get("architecture")], " ")
    return [
        ("Command", _text(environment.get("command"))),
        ("Seeds", ", ".join(map(str, seeds)) if isinstance(seeds, list) else ""),
        ("Date", _text(environment.get("date"))),
        ("Hardware", _joined([environment.get("device"), machine.get("processor"), cores, system], ", ")),
        ("Versions", ", ".join([f"Python {environment['python']}"] if environment.get("python") else [])
         + (", " if environment.get("python") and versions else "")
         + ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]  # fmt: skip


def _recipe(text: str | None) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(text or "")
    except (yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _upstream(upstream: Any) -> str:
    """An upstream, or several, by name and the beginning of the fingerprint of its weights."""
    each = upstream if isinstance(upstream, list) else [upstream]
    told = []
    for one in each:
        if isinstance(one, Mapping):
            print_ = one.get("fingerprint")
            told.append(
                _text(one.get("name")) + (f" ({print_[:12]})" if isinstance(print_, str) and print_ else "")
            )
        else:
            told.append(_text(one))
    return ", ".join(one for one in told if one)


def _backend(backend: Any) -> str:
    if not isinstance(backend, Mapping):
        return ""
    return _joined([backend.get(key) for key in ("name", "precision", "device")], ", ")


def _seconds(seconds: Any) -> str:
    if not isinstance(seconds, Mapping):
        return ""
    return ", ".join(
        f"{name} {value:.0f} s" for name, value in seconds.items() if isinstance(value, (int, float))
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _joined(parts: Sequence[Any], by: str) -> str:
    return by.join(str(part) for part in parts if part)
