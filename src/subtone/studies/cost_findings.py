"""What the study of cost measured, as tables, curves and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.evaluation.findings import Cell, Curves, Findings, Measure, Series, Table, rows_of
from subtone.studies.context import Context
from subtone.studies.options import StudyOptions

Floats = npt.NDArray[np.float64]
Key = tuple[str, str]
"""Engine and system."""

#: What the time of a clip is divided into.
PHASES = ("detection", "encoder", "pooling", "classifier")
#: In the place of a system: all statistics, kept in a store with where speech is.
STORE = "store"
#: What is pooled, the one that the others are set against first.
SYSTEMS: dict[str, str] = {"gap": "GAP alone, no detector", "sap": "SAP", "gap+sap": "GAP ‖ SAP"}
FOLDER: dict[str, str] = {**SYSTEMS, STORE: "all statistics, into a store"}


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured on the clips of one corpus.

    Parameters
    ----------
    corpus
        Its name.
    lengths_s
        Of the clips.
    wall, cpu
        Engine and system → ``(passes, clips, phases)`` seconds, see `PHASES`. Systems of one engine took turns.
    passes
        Engine and system, or `STORE` → what each extraction took, as :func:`subtone.studies.cost_process.folder` says.
    memory
        Engine and system → ``opening``, ``clip`` and ``folder``, 10^6 bytes; None where unknown.
    unavailable
        Engine → why it could not be used.
    loads
        The machine's load average after each process.
    """

    corpus: str
    lengths_s: tuple[float, ...]
    wall: Mapping[Key, Floats]
    cpu: Mapping[Key, Floats]
    passes: Mapping[Key, Sequence[Mapping[str, float]]]
    memory: Mapping[Key, Mapping[str, float | None]]
    unavailable: Mapping[str, str]
    loads: tuple[float, ...]

    @property
    def engines(self) -> list[str]:
        """Those that were measured."""
        return list(dict.fromkeys(engine for engine, _ in (*self.wall, *self.passes)))

    def steady(self, key: Key) -> Floats:
        """Seconds of audio a second, ``(passes,)``, once an extraction is under way."""
        return np.array([one["steady_audio_s"] / one["steady_wall_s"] for one in self.passes[key]])


def quartiles(values: npt.ArrayLike) -> Measure:
    """Median, and the quartiles as its spread.

    Examples
    --------
    >>> quartiles([1.0, 2.0, 3.0, 4.0, 9.0]).text()
    '3.0 (2.0 to 4.0)'
    """
    low, middle, high = np.percentile(np.asarray(values, np.float64), [25, 50, 75])
    return Measure(float(middle), float(low), float(high))


def more(values: npt.ArrayLike, than: npt.ArrayLike) -> Measure:
    """How much more than others measured beside them, in percent: median and quartiles of the ratios, pair by pair.

    Examples
    --------
    >>> more([1.1, 2.2], [1.0, 2.0]).text()
    '10.0 (10.0 to 10.0)'
    """
    return quartiles(100 * (np.asarray(values, np.float64) / np.asarray(than, np.float64) - 1))


def findings_of(context: Context, options: StudyOptions, found: Sequence[Measured]) -> Findings:
    """Turn what was measured into tables, curves and sentences.

    Parameters
    ----------
    context
        The study.
    options
        Of the study.
    found
        One a corpus.
    """
    tables: list[Table] = []
    curves: list[Curves] = []
    for one in found:
        tables += [_clip_table(one), _folder_table(one), _memory_table(one)]
        curves += [
            _curves(one, "clip", "one clip, on one thread", "milliseconds a clip"),
            _curves(one, "folder", "a folder, once under way", "times real time"),
        ]
    unavailable = {engine: why for one in found for engine, why in one.unavailable.items()}
    rows: list[list[Cell]] = [[_called(engine), why] for engine, why in unavailable.items()]
    if rows:
        tables.append(
            Table("unavailable", "Engines that could not be measured", ("engine", "reason"), rows_of(rows))
        )
    loads = [load for one in found for load in one.loads]
    return Findings(
        study="cost",
        title="Cost: what pooling over speech takes beside pooling over all frames",
        question=(
            "How much more time and memory do the detector and the statistics of speech take than GAP alone, for one "
            "clip and for a folder, with each engine?"
        ),
        protocol=_protocol(context, found, loads),
        conclusions=tuple(sentence for one in found for sentence in _conclusions(one)),
        limits=(
            "Engines were measured one after the other, each in several processes with the others between them; "
            "systems of one engine took turns within a process. Compare systems sooner than engines.",
            "Spreads are quartiles over passes. What else the machine was doing is in them: CPU time suffers from it "
            "least, throughput most.",
            "A folder of a minute of audio takes seconds, in which processes start and end: between such folders a few "
            "percent are noise, whatever the quartiles say. Raise the setting seconds to tell them apart.",
            "The classifiers have random weights; what they cost does not depend on them.",
        ),
        tables=tuple(tables),
        curves=tuple(curves),
        settings={"upstream": context.upstream, **options.model_dump(mode="json")},
    )


def _protocol(context: Context, found: Sequence[Measured], loads: Sequence[float]) -> str:
    corpora = "; ".join(
        f"{one.corpus}, {len(one.lengths_s)} clips of {np.median(one.lengths_s):.1f} s in the median, "
        f"{sum(one.lengths_s):.0f} s in all"
        for one in found
    )
    load = f" The machine's load average meanwhile was {np.median(loads):.1f} in the median." if loads else ""
    return (
        f"{corpora}. Upstream {context.upstream.rstrip('/').split('/')[-1]}; detector "
        f"{context.options.detector.name}. A clip is timed from its samples to its scores on one thread, after two "
        "that do not count; a folder by extraction from its files, decoding included, with all cores, after one that "
        "does not count. "
        "Extraction does not look for speech where nothing depends on it, so that GAP alone has no detector in either. "
        "Memory is the highest resident size of a fresh process a measurement. One measurement ran at a time, in a "
        f"process of its own.{load}"
    )


def _called(engine: str) -> str:
    return engine.replace("/", " ")


def _latencies(times: Floats) -> Floats:
    """Milliseconds of the median clip of each pass, ``(passes,)``."""
    return np.asarray(1000 * np.median(times.sum(-1), axis=1), np.float64)


def _clip_table(one: Measured) -> Table:
    rows: list[list[Cell]] = []
    passes = 0
    for engine in one.engines:
        for system, words in SYSTEMS.items():
            if (engine, system) not in one.wall:
                continue
            wall, cpu = one.wall[engine, system], one.cpu[engine, system]
            beside, beside_cpu = one.wall[engine, "gap"], one.cpu[engine, "gap"]
            passes = len(wall)
            parts = 1000 * np.median(wall, axis=(0, 1))  # (phases,)
            row: list[Cell] = [_called(engine), words, quartiles(_latencies(wall))]
            row += [float(part) for part in parts]
            same = system == "gap"
            row.append(None if same else more(wall.sum((1, 2)), beside.sum((1, 2))))
            row.append(None if same else more(cpu.sum((1, 2)), beside_cpu.sum((1, 2))))
            rows.append(row)
    return Table(
        f"clip-{one.corpus}",
        f"One clip, in milliseconds, {one.corpus}",
        ("engine", "pooled", "latency", *PHASES, "time over GAP (%)", "CPU time over GAP (%)"),
        rows_of(rows),
        f"On one thread, from samples to scores. Latency of the median clip: median and quartiles over {passes} passes "
        "over all clips; parts: medians over clips and passes. Over GAP: of all clips of a pass, in the same pass. CPU "
        "time counts what the process computed, not what it waited.",
    )


def _folder_table(one: Measured) -> Table:
    rows: list[list[Cell]] = []
    passes = 0
    for engine in one.engines:
        for system, words in FOLDER.items():
            if (engine, system) not in one.passes:
                continue
            steady, whole = one.steady((engine, system)), one.passes[engine, system]
            passes = len(whole)
            over = None
            if system != "gap" and (engine, "gap") in one.passes:
                over = more(1 / steady, 1 / one.steady((engine, "gap")))
            rows.append(
                [
                    _called(engine),
                    words,
                    quartiles(steady),
                    quartiles([record["wall_s"] for record in whole]),
                    over,
                ]
            )
    return Table(
        f"folder-{one.corpus}",
        f"A folder, {one.corpus}",
        ("engine", "kept", "times real time", "seconds from start to end", "time over GAP (%)"),
        rows_of(rows),
        f"Median and quartiles over {passes} extractions. Times real time, and time over GAP in the same round: what "
        "comes after the first third of the audio; seconds from start to end have opening and checking the engine in "
        "them.",
    )


def _memory_table(one: Measured) -> Table:
    rows: list[list[Cell]] = []
    for engine in one.engines:
        for system, words in SYSTEMS.items():
            found = one.memory.get((engine, system), {})
            beside = one.memory.get((engine, "gap"), {})
            row: list[Cell] = [_called(engine), words]
            for what in ("opening", "clip", "folder"):
                row.append(found.get(what))
            for what in ("clip", "folder"):
                mine, other = found.get(what), beside.get(what)
                row.append(None if system == "gap" or mine is None or other is None else mine - other)
            rows.append(row)
    return Table(
        f"memory-{one.corpus}",
        f"Peak memory in MB, {one.corpus}",
        (
            "engine",
            "pooled",
            "until all is open",
            "clip after clip",
            "folder",
            "clip: over GAP",
            "folder: over GAP",
        ),
        rows_of(rows),
        "Highest resident size, 10^6 bytes, of a fresh process each, measured once. Until all is open: libraries, "
        "weights, conversion and check of the engine. Clip after clip: from then on. Folder: an extraction in memory, "
        "the processes that read for it included. Empty where the system does not tell.",
    )


def _curves(one: Measured, what: str, title: str, unit: str) -> Curves:
    series = []
    for system, words in SYSTEMS.items():
        here = one.wall if what == "clip" else one.passes
        engines = [engine for engine in one.engines if (engine, system) in here]
        measures = [
            quartiles(
                _latencies(one.wall[engine, system]) if what == "clip" else one.steady((engine, system))
            )
            for engine in engines
        ]
        series.append(
            Series(
                words,
                tuple(map(_called, engines)),
                tuple(each.value for each in measures),
                tuple(each.low for each in measures),
                tuple(each.high for each in measures),
            )
        )
    return Curves(
        f"{what}-{one.corpus}-engines",
        f"{one.corpus}: {title}",
        "engine",
        unit,
        tuple(series),
        "Bands: quartiles over passes.",
    )


def _conclusions(one: Measured) -> Iterator[str]:
    for engine in one.engines:
        told = f"{one.corpus}, {_called(engine)}:"
        if (engine, "gap+sap") in one.wall:
            alone, both = one.wall[engine, "gap"], one.wall[engine, "gap+sap"]
            time = more(both.sum((1, 2)), alone.sum((1, 2)))
            cpu = more(one.cpu[engine, "gap+sap"].sum((1, 2)), one.cpu[engine, "gap"].sum((1, 2)))
            detection = quartiles(1000 * np.median(both[..., PHASES.index("detection")], axis=1))
            yield (
                f"{told} one clip ({np.median(one.lengths_s):.1f} s in the median) takes "
                f"{quartiles(_latencies(alone)).text()} ms with GAP alone and {quartiles(_latencies(both)).text()} ms "
                f"with GAP ‖ SAP, {time.text()} % more time and {cpu.text()} % more CPU time over all clips; finding "
                f"speech takes {detection.text()} ms of it."
            )
        if (engine, "gap+sap") in one.passes and (engine, "gap") in one.passes:
            fast, slow = one.steady((engine, "gap")), one.steady((engine, "gap+sap"))
            yield (
                f"{told} a folder goes {quartiles(fast).text()} times real time with GAP alone and "
                f"{quartiles(slow).text()} with GAP ‖ SAP, {more(1 / slow, 1 / fast).text()} % more time."
            )
        alone_mb, both_mb = (one.memory.get((engine, name), {}).get("clip") for name in ("gap", "gap+sap"))
        if alone_mb is not None and both_mb is not None:
            yield (
                f"{told} at work a process takes {alone_mb:.0f} MB with GAP alone and {both_mb:.0f} MB with GAP ‖ SAP."
            )
    for engine, why in one.unavailable.items():
        yield f"{one.corpus}, {_called(engine)} was not measured: {why}."
