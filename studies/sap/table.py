"""Gather all results of the study into ``results/``: one page to read, one JSON a study, one CSV of folds.

    python table.py --out OUT [--results FOLDER]

What is missing in OUT is left out of the page, and said there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from protocols import STUDIES, Study

from subtone.evaluation import Comparison, Evaluation, compare, read_metrics

HERE = Path(__file__).parent
Kind = Literal["recipe", "anchors", "rivals"]
# In the order of the table's rows.
KINDS: tuple[Kind, ...] = ("recipe", "anchors", "rivals")
# The recipe's names; it scores each system as one classifier (mean over seeds) and as the vote of all its seeds.
VOTE = " (vote)"
POOLINGS = {"gap": "GAP", "sap": "SAP", "gap+sap": "GAP+SAP"}
OURS = "gap+sap" + VOTE
CONTROL = "control: "  # shown, but nobody's rival
LEGEND = (
    "Rows that name a pooling alone are the recipe `sap`: the mean over its seeds, and the vote of its seeds (the "
    "mean of their probabilities). LR: logistic regression on the same pooled features. eGeMAPS: the rivals. Each "
    "paired test is made at 5 %, without correction for their number."
)
COMMAND = """python studies/sap/run.py --out OUT \\
    --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb --corpus nemo=DATA/nemo --corpus ased=DATA/ased \\
    --upstream whisper-tiny.en=FOLDER --upstream fbank+deltas=fbank+deltas"""


@dataclass(frozen=True, eq=False)
class Part:
    """One result folder: the recipe on an upstream, the anchors on an upstream, or the rivals."""

    kind: Kind
    upstream: str | None
    record: dict[str, Any]
    systems: dict[str, Evaluation]
    comparisons: list[Comparison]
    environment: dict[str, Any]
    predictions: pd.DataFrame

    def shown(self, system: str) -> str:
        """The system's name in the table."""
        if self.upstream is None:
            return system
        pooling = system.removesuffix(VOTE)
        return f"{self.upstream}, {POOLINGS.get(pooling, pooling)}{VOTE if system.endswith(VOTE) else ''}"


def parts_of(study: Study, out: Path) -> list[Part]:
    """All finished results of a study.

    Raises
    ------
    SystemExit
        If they were not got on the same clips and folds.
    """
    found = [_read("rivals", None, out / "rivals" / study.name)]
    for kind in ("recipe", "anchors"):
        for folder in sorted((out / kind / study.name).glob("[!.]*")):
            found.append(_read(kind, folder.name, folder))
    parts = [part for part in found if part is not None]
    for part in parts[1:]:
        if _what_was_tested(part) != _what_was_tested(parts[0]):
            raise SystemExit(
                f"{study.name}: {part.kind} {part.upstream} and {parts[0].kind} were not tested on the same clips in "
                "the same folds; delete the older one and run it again"
            )
    return sorted(parts, key=lambda part: KINDS.index(part.kind))


def _read(kind: Kind, upstream: str | None, folder: Path) -> Part | None:
    if not (folder / "metrics.json").exists():
        return None
    record, systems, comparisons = read_metrics(folder)
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    predictions = pd.read_parquet(folder / "predictions.parquet")
    if kind == "recipe":
        predictions = _wide(predictions)
    return Part(kind, upstream, record, systems, comparisons, environment, predictions)


def _wide(answers: pd.DataFrame) -> pd.DataFrame:
    """The recipe's predictions, one row a clip and system, as the others keep theirs: one row a clip.

    Only the votes: they are one answer a clip, as the others' are.
    """
    answers = answers[answers["system"].str.endswith(VOTE)]
    clips = [Path(file).stem for file in answers.index.get_level_values("file")]
    answers = answers.reset_index(drop=True).assign(clip=clips)
    wide = answers.pivot(index=["clip", "speaker", "fold", "truth"], columns="system", values="label")
    return wide.reset_index()


def _what_was_tested(part: Part) -> Any:
    """Clips, labels, speakers by checksum; the folds by name and size."""
    folds = next(iter(part.systems.values())).folds
    return part.record["protocol"]["checksum"], sorted((fold.name, fold.n) for fold in folds)


def against(parts: Sequence[Part]) -> Iterator[Comparison]:
    """GAP+SAP of the recipe against each rival, and against the anchor of the same upstream that scored best.

    The recipe's vote, one answer a clip, meets the others' one answer a clip.
    """
    for ours in (part for part in parts if part.kind == "recipe"):
        for theirs in (part for part in parts if part.kind != "recipe"):
            if theirs.upstream not in (None, ours.upstream):
                continue
            names = [name for name in theirs.systems if not name.startswith(CONTROL)]
            if theirs.kind == "anchors":
                names = [max(names, key=lambda name: theirs.systems[name].ua)]
            for name in names:
                yield _compare(theirs, name, ours, OURS)


def _compare(a: Part, name_a: str, b: Part, name_b: str) -> Comparison:
    truth, speakers = _column(a, "truth"), list(_column(a, "speaker"))
    return compare(
        truth,
        _answers(a, name_a),
        _answers(b, name_b),
        a.systems[name_a].labels,
        speakers,
        names=(a.shown(name_a), b.shown(name_b)),
    )


def _column(part: Part, name: str) -> npt.NDArray[np.str_]:
    """A column, in the order of the clips' names."""
    return part.predictions.sort_values("clip")[name].to_numpy(str)


def _answers(part: Part, system: str) -> npt.NDArray[np.str_]:
    return _column(part, system)


def percent(value: float, interval: tuple[float, float]) -> str:
    """``74.5 (71.0–77.9)``."""
    return f"{100 * value:.1f} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def section(study: Study, parts: Sequence[Part]) -> list[str]:
    """One study's part of the page: its protocol, its table, its paired tests."""
    first = next(iter(parts[0].systems.values()))
    best = max((one.ua, part.shown(name)) for part in parts for name, one in part.systems.items())[1]
    lines = [
        f"## {study.title}",
        "",
        *([f"**{study.caveat}**", ""] if study.caveat else []),
        f"`{parts[0].record['protocol']['description']}`",
        "",
    ]
    lines += [
        "| system | UA % (95 % interval) | WA % (95 % interval) | macro-F1 % | fit and test, s |",
        "|---" * 5 + "|",
    ]
    for part in parts:
        for name, one in part.systems.items():
            shown = part.shown(name)
            lines.append(
                f"| {f'**{shown}**' if shown == best else shown} | {percent(one.ua, one.ua_ci)} "
                f"| {percent(one.wa, one.wa_ci)} | {100 * one.macro_f1:.1f} "
                f"| {'–' if one.seconds is None else f'{one.seconds:.0f}'} |"
            )
    lines += ["", f"Intervals by resampling {first.ci_units} {first.ci_unit}s; best UA in bold."]
    tests = [(part, one) for part in parts for one in part.comparisons if part.kind != "rivals"]
    if tests:
        lines += ["", "Poolings, paired by speaker (the recipe's as means over its seeds):", ""]
        lines += [f"- {part.upstream} ({part.kind}): {one.sentence()}" for part, one in tests]
    others = list(against(parts))
    if others:
        lines += [
            "",
            "The recipe's GAP+SAP, vote of its seeds, against the others:",
            "",
            *(f"- {one.sentence()}" for one in others),
        ]
    return [*lines, ""]


def answer(everything: dict[str, list[Part]]) -> list[str]:
    """What the page opens with: counts of verdicts, from the tests alone, and which studies are not counted."""
    lines = []
    sound = {name: parts for name, parts in everything.items() if not _study(name).caveat}
    tests = [
        one
        for parts in sound.values()
        for part in parts
        if part.kind == "recipe"
        for one in part.comparisons
        if (one.a, one.b, one.metric) == ("gap", "gap+sap", "ua")
    ]
    if tests:
        won = sum(one.significant and one.difference > 0 for one in tests)
        lost = sum(one.significant and one.difference < 0 for one in tests)
        gains = [100 * one.difference for one in tests]
        lines.append(
            f"- **GAP+SAP against GAP** (recipe `sap`, UA): better in {won} of {len(tests)} paired tests, worse in "
            f"{lost}, no evidence of a difference in {len(tests) - won - lost}; the differences run from "
            f"{min(gains):+.1f} to {max(gains):+.1f} points."
        )
    for what, kind in (
        ("the eGeMAPS rivals", "rivals"),
        ("the logistic regression on the same features that scored best", "anchors"),
    ):
        tests = [
            one
            for parts in sound.values()
            for one in against([part for part in parts if part.kind in ("recipe", kind)])
        ]
        if tests:
            won = sum(one.significant and one.difference > 0 for one in tests)
            lost = sum(one.significant and one.difference < 0 for one in tests)
            gains = [100 * one.difference for one in tests]
            lines.append(
                f"- **The recipe's GAP+SAP against {what}**: better in {won} of {len(tests)} paired tests, worse in "
                f"{lost}; from {min(gains):+.1f} to {max(gains):+.1f} points UA."
            )
    silent = [name for name in everything if name not in sound]
    if silent:
        lines.append(
            f"- **Not counted: {', '.join(silent)}.** There sentence and clip length give the emotion away; "
            "how that was found stands in the notes below."
        )
    if not any(part.kind == "recipe" for parts in everything.values() for part in parts):
        lines.insert(0, "- The recipe has not been run yet: below are what it is measured against.")
    return lines


def _study(name: str) -> Study:
    return next(study for study in STUDIES if study.name == name)


def overview(everything: dict[str, list[Part]]) -> list[str]:
    """UA of the systems that matter, a column a study."""
    rows: dict[str, dict[str, str]] = {}
    for study, parts in everything.items():
        for part in parts:
            for name, one in part.systems.items():
                rows.setdefault(part.shown(name), {})[study] = percent(one.ua, one.ua_ci)
    order = sorted(rows, key=lambda name: _kind_of(name, everything))
    lines = [
        "| UA % (95 % interval) | " + " | ".join(everything) + " |",
        "|---" * (len(everything) + 1) + "|",
    ]
    return lines + [
        f"| {name} | " + " | ".join(rows[name].get(study, "–") for study in everything) + " |"
        for name in order
    ]


def _kind_of(shown: str, everything: dict[str, list[Part]]) -> int:
    kinds = [
        part.kind
        for parts in everything.values()
        for part in parts
        for name in part.systems
        if part.shown(name) == shown
    ]
    return KINDS.index(kinds[0])


def how(everything: dict[str, list[Part]]) -> list[str]:
    """Commands, dates, machines, seeds, versions."""
    lines = ["## How it was run", "", "```", COMMAND, "```", ""]
    machines: set[str] = set()
    versions: dict[str, set[str]] = {}
    for kind in KINDS:
        parts = [part for every in everything.values() for part in every if part.kind == kind]
        if not parts:
            lines.append(f"- {kind}: not run yet.")
            continue
        dates = sorted({part.environment["date"][:10] for part in parts})
        seeds = sorted({tuple(part.environment["seeds"]) for part in parts})
        text = f"- {kind}: {' and '.join(dates)}"
        if any(seeds):
            text += f"; seeds {', '.join(map(str, seeds[-1]))}"
        clip = [(part.record.get("features") or {}).get("seconds_per_clip") for part in parts]
        timed = [1000 * seconds for seconds in clip if seconds]
        if timed:
            text += f"; features {_span(timed)} ms a clip, decoding included"
        spent = [part.record["seconds"]["training"] for part in parts if "seconds" in part.record]
        if spent:
            text += f"; training three systems, all folds and seeds: {_span(spent)} s a study and upstream"
        lines.append(text + ".")
        for part in parts:
            machine = part.environment["machine"]
            machines.add(
                f"{machine['processor']} ({machine['architecture']}), {machine['cores']} cores, {machine['system']}"
            )
            pairs = {"python": part.environment["python"], **part.environment["versions"]}
            for name, number in pairs.items():
                versions.setdefault(name, set()).add(number)
    lines += [
        f"- Machine: {'; '.join(sorted(machines))}; low priority, others at work beside it: seconds are upper bounds."
    ]
    upstreams = {
        part.upstream for parts in everything.values() for part in parts if part.upstream is not None
    }
    lines += [
        f"- Not run yet: {kind} with {upstream} on {', '.join(missing)}."
        for upstream in sorted(upstreams)
        for kind in ("recipe", "anchors")
        if (missing := [name for name, parts in everything.items() if not _has(parts, kind, upstream)])
    ]
    numbers = [f"{name} {' and '.join(sorted(found))}" for name, found in versions.items()]
    lines += [f"- Versions: {', '.join(numbers)}."]
    lines += [
        "- Folds: seed 0. Intervals: percentile bootstrap, 2,000 resamples, seed 0. p: randomisation over speakers."
    ]
    return lines


def _has(parts: Sequence[Part], kind: str, upstream: str) -> bool:
    return any(part.kind == kind and part.upstream == upstream for part in parts)


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}–{high}"


def write(out: Path, results: Path) -> None:
    """Write the page and its data."""
    everything = {study.name: parts for study in STUDIES if (parts := parts_of(study, out))}
    if not everything:
        raise SystemExit(f"{out}: no results of this study; see the README beside table.py")
    results.mkdir(parents=True, exist_ok=True)
    folds = []
    for name, parts in everything.items():
        record = {
            "study": name,
            "protocol": parts[0].record["protocol"],
            "systems": {
                part.shown(system): {"kind": part.kind, **one.to_dict(full=True)}
                for part in parts
                for system, one in part.systems.items()
            },
            "comparisons": [
                {"upstream": part.upstream, "kind": part.kind, **one.to_dict()}
                for part in parts
                for one in part.comparisons
            ]
            + [one.to_dict() for one in against(parts)],
        }
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        (results / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        folds += [
            (name, part.shown(system), fold.name, fold.n, round(fold.ua, 4), round(fold.wa, 4))
            for part in parts
            for system, one in part.systems.items()
            for fold in one.folds
        ]
    if (out / "shortcuts.json").exists():
        shutil.copyfile(out / "shortcuts.json", results / "shortcuts.json")
    columns = ["study", "system", "fold", "n", "ua", "wa"]
    pd.DataFrame(folds, columns=columns).to_csv(results / "folds.csv", index=False)
    page = ["# Segmental average pooling: does it help, and against what?", "", *answer(everything), ""]
    page += [
        *overview(everything),
        "",
        LEGEND,
        "",
        (HERE / "notes.md").read_text(encoding="utf-8").strip(),
        "",
    ]
    for name, parts in everything.items():
        page += section(_study(name), parts)
    page += how(everything)
    (results / "README.md").write_text("\n".join(page) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="working folder of the study's runs")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    write(options.out, options.results)


if __name__ == "__main__":
    main()
