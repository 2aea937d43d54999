"""The results' page of the study, from what ``run.py`` and ``early.py`` left.

    python page.py --out OUT --results results

Every sentence with a figure on the page follows from these folders; ``notes.md`` is put below as it is.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from run import ENDS, EVERY, LENGTHS

from subtone.evaluation import Comparison, compare, holm

Record = dict[str, Any]
#: What of a result folder a reader may want to check.
KEPT = ("metrics.json", "folds.csv", "recipe.yaml", "environment.json")
TITLES = {"ravdess": "RAVDESS", "emodb": "EmoDB-4", "nemo": "nEMO", "ased": "ASED"}
CLASSES = {"all": "all classes", "four": "common four"}
#: The length on which claims are tested: one from the middle, whatever it gives, so that none is the best of several.
LENGTH = "1s"
COLOURS = {
    "segment-cnn": "#0072b2",
    "segment-cnn-alone": "#56b4e9",
    "transfer-cnn": "#d55e00",
    "gap+sap": "#009e73",
    "svm-egemaps": "#444444",
    "svm-compare": "#8c8c8c",
    "svm-pooled": "#cc79a7",
}


@dataclass(frozen=True)
class Setting:
    """A corpus and its classes: all runs on it."""

    corpus: str
    classes: str
    folder: Path

    @property
    def title(self) -> str:
        """For readers."""
        classes = "four classes" if self.corpus == "emodb" else CLASSES[self.classes]
        return f"{TITLES[self.corpus]}, {classes}"

    def runs(self) -> dict[str, Record]:
        """Return the finished runs' records."""
        found = sorted(self.folder.glob("*/metrics.json"))
        return {path.parent.name: json.loads(path.read_text()) for path in found}

    def answers(self, run: str, system: str) -> pd.DataFrame:
        """Return what a system said of each clip, a row a clip and seed, sorted by clip."""
        table = pd.read_parquet(self.folder / run / "predictions.parquet")
        return table[table["system"] == system].sort_index()

    def compared(self, first: tuple[str, str], second: tuple[str, str]) -> Comparison:
        """Test the second system against the first, each (run, system), speaker by speaker.

        Raises
        ------
        SystemExit
            If they were not tested on the same clips and folds.
        """
        a, b = self.answers(*first), self.answers(*second)
        if not (a.index.equals(b.index) and (a["fold"].to_numpy() == b["fold"].to_numpy()).all()):
            raise SystemExit(f"{self.folder}: {first} and {second} were tested on other clips or folds")
        labels = [name for name in a.columns if name in set(a["truth"])]
        return compare(
            a["truth"].to_numpy(object),
            a[labels].to_numpy(float)[None],
            b[labels].to_numpy(float)[None],
            labels,
            a["speaker"].to_numpy(object),
            names=(first[1], second[1]),
        )


def settings(out: Path) -> Iterator[Setting]:
    """Yield what was run."""
    for classes in CLASSES:
        for corpus in TITLES:
            folder = out / f"{corpus}-{classes}"
            if (folder / "segment-cnn" / "metrics.json").exists():
                yield Setting(corpus, classes, folder)


def percent(system: Record, metric: str = "ua") -> str:
    low, high = system[f"{metric}_ci"]
    return f"{100 * system[metric]:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def systems_of(run: str, record: Record) -> Iterator[tuple[str, Record]]:
    """Yield the systems of a run, under names that tell them from those of other runs."""
    for name, system in record["systems"].items():
        if run == "segment-cnn-alone" and not name.startswith("cnn-"):
            continue
        yield name.replace("cnn-", "cnn alone-") if run == "segment-cnn-alone" else name, system


def tables(all_settings: list[Setting]) -> list[str]:
    """UA and WA of every system."""
    lines = []
    for classes, title in CLASSES.items():
        chosen = [one for one in all_settings if one.classes == classes]
        if not chosen:
            continue
        rows: dict[str, dict[str, str]] = {}
        for one in chosen:
            for run, record in one.runs().items():
                for name, system in systems_of(run, record):
                    rows.setdefault(name, {})[one.corpus] = f"{percent(system)} | {percent(system, 'wa')}"
        order = [
            *(f"cnn-{n}" for n in LENGTHS),
            *(f"cnn alone-{n}" for n in LENGTHS),
            "gap+sap",
            *(f"transfer-cnn-{n}" for n in LENGTHS),
            *("svm-egemaps", "svm-compare", "svm-pooled"),
        ]
        lines += [
            f"### {title.capitalize()}",
            "",
            "| system |" + "".join(f" {TITLES[one.corpus]} UA | WA |" for one in chosen),
            "|---|" + "---|---|" * len(chosen),
        ]
        for name in (name for name in order if name in rows):
            cells = [rows[name].get(one.corpus, "– | –") for one in chosen]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


#: What the paper claims, and the two systems of each claim: (run, system) of the rival, then of the CNN.
CLAIMS: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "better than the SVM on eGeMAPS": (("svm-egemaps", "svm-egemaps"), ("segment-cnn", f"cnn-{LENGTH}")),
    "better than the SVM on ComParE": (("svm-egemaps", "svm-compare"), ("segment-cnn", f"cnn-{LENGTH}")),
    "better than the transfer CNN": (
        ("transfer-cnn", f"transfer-cnn-{LENGTH}"),
        ("segment-cnn", f"cnn-{LENGTH}"),
    ),
    "better than an SVM on the same upstream's pooled features": (
        ("svm-egemaps", "svm-pooled"),
        ("segment-cnn", f"cnn-{LENGTH}"),
    ),
    "better than GAP ‖ SAP on the same upstream": (
        ("segment-cnn", "gap+sap"),
        ("segment-cnn", f"cnn-{LENGTH}"),
    ),
    "segments of 0.5 s as good as those of 3 s": (("segment-cnn", "cnn-3s"), ("segment-cnn", "cnn-500ms")),
    "… each encoded by itself": (("segment-cnn-alone", "cnn-3s"), ("segment-cnn-alone", "cnn-500ms")),
}


def claims(all_settings: list[Setting]) -> list[str]:
    """Every claim with its tests, corrected for their number."""
    found: list[tuple[str, Setting, Comparison]] = []
    for claim, (first, second) in CLAIMS.items():
        for one in all_settings:
            if all((one.folder / run / "metrics.json").exists() for run, _ in (first, second)):
                found.append((claim, one, one.compared(first, second)))
    corrected = dict(zip(map(id, found), holm([one.p for *_, one in found]), strict=True))
    lines = ["## The claims", ""]
    for claim in CLAIMS:
        mine = [entry for entry in found if entry[0] == claim]
        if not mine:
            continue
        wins = sum(one.difference > 0 and corrected[id(entry)] < 0.05 for entry in mine for one in entry[2:])
        losses = sum(
            one.difference < 0 and corrected[id(entry)] < 0.05 for entry in mine for one in entry[2:]
        )
        low, high = (100 * end(entry[2].difference for entry in mine) for end in (min, max))
        lines.append(
            f"- **{claim}**: better in {wins} of {len(mine)} settings, worse in {losses}, no evidence in the others "
            f"({low:+.1f} to {high:+.1f} points UA)."
        )
    lines += [
        "",
        f"Where no length is named, the CNN and the transfer CNN are those on segments of {LENGTH}, one from the "
        f"middle whatever it gives. Paired tests by speakers, p corrected for all {len(found)} of them (Holm):",
        "",
        "| claim | setting | difference in UA, points | p | p corrected |",
        "|---|---|---|---|---|",
    ]
    for entry in found:
        claim, one, test = entry
        ends = f"{100 * test.ci[0]:+.1f} to {100 * test.ci[1]:+.1f}"
        lines.append(
            f"| {claim} | {one.title} | {100 * test.difference:+.1f} ({ends}) | {shown(test.p)} | "
            f"{shown(corrected[id(entry)])} |"
        )
    return [*lines, ""]


def shown(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def draw_lengths(all_settings: list[Setting], path: Path) -> None:
    """UA against the length of a segment."""
    columns = 4
    rows = -(-len(all_settings) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 3.5 * rows), layout="constrained", squeeze=False
    )
    seconds = dict(LENGTHS)
    for axis in axes.flat[len(all_settings) :]:
        axis.axis("off")
    for axis, one in zip(axes.flat, all_settings):
        runs = one.runs()
        curves = {"segment-cnn": "cnn-", "segment-cnn-alone": "cnn-", "transfer-cnn": "transfer-cnn-"}
        for number, (run, prefix) in enumerate(curves.items()):
            there = [n for n in LENGTHS if prefix + n in runs.get(run, {"systems": {}})["systems"]]
            if not there:
                continue
            found = [runs[run]["systems"][prefix + n] for n in there]
            at = [
                seconds[n] * 1.03 ** (number - 1) for n in there
            ]  # so that intervals do not hide each other
            ua = np.array([100 * s["ua"] for s in found])
            ends = 100 * np.array([s["ua_ci"] for s in found]).T
            label = {"segment-cnn-alone": "segment-cnn, each segment encoded by itself"}.get(run, run)
            axis.errorbar(
                at, ua, [ua - ends[0], ends[1] - ua], fmt="o-", color=COLOURS[run], label=label, capsize=2
            )
        lines = {"segment-cnn": ("gap+sap",), "svm-egemaps": ("svm-pooled", "svm-compare", "svm-egemaps")}
        for run, names in lines.items():
            for name in names:
                if run in runs:
                    label = {"gap+sap": "GAP ‖ SAP, whole clip"}.get(name, f"{name}, whole clip")
                    axis.axhline(
                        100 * runs[run]["systems"][name]["ua"],
                        color=COLOURS[name],
                        linestyle="--",
                        label=label,
                    )
        axis.set_title(one.title, fontsize=10)
        axis.set_xscale("log")
        axis.set_xticks(list(seconds.values()), [f"{s:g}" for s in seconds.values()])
        axis.minorticks_off()
        axis.set_xlabel("segment in s")
        axis.set_ylabel("UA in %")
        axis.grid(alpha=0.3)
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_early(records: Mapping[str, Record], path: Path) -> None:
    """UA against the seconds that were heard."""
    figure, axes = plt.subplots(
        1, len(records), figsize=(5.4 * len(records), 4.2), layout="constrained", squeeze=False
    )
    names = {
        "gap+sap": ("gap+sap", "GAP ‖ SAP"),
        "cnn-1s": ("segment-cnn", "segment-cnn, 1 s"),
        "transfer-cnn-1s": ("transfer-cnn", "transfer-cnn, 1 s"),
        "svm-egemaps": ("svm-egemaps", "svm-egemaps"),
    }
    for axis, (corpus, record) in zip(axes[0], records.items(), strict=True):
        times = [float(t) for t in record["early"] if t != "all"]
        for name, (colour, label) in names.items():
            found = [record["early"][f"{t:g}"]["systems"][name] for t in times]
            ends = 100 * np.array([s["ua_ci"] for s in found])
            axis.plot(times, [100 * s["ua"] for s in found], "o-", color=COLOURS[colour], label=label)
            axis.fill_between(times, ends[:, 0], ends[:, 1], color=COLOURS[colour], alpha=0.12, linewidth=0)
            whole = 100 * record["early"]["all"]["systems"][name]["ua"]
            axis.axhline(whole, color=COLOURS[colour], linestyle=":", linewidth=1)
        axis.axhline(100 / len(record["protocol"]["classes"]), color="black", linewidth=0.8)
        axis.text(
            times[-1], 100 / len(record["protocol"]["classes"]), "chance", ha="right", va="bottom", fontsize=8
        )
        axis.set_title(f"{TITLES[corpus]}, {len(record['protocol']['classes'])} classes", fontsize=10)
        axis.set_xlabel("seconds heard since speech began (dotted: all of the clip)")
        axis.set_ylabel("UA in %")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def how_early(records: Mapping[str, Record], all_settings: list[Setting]) -> list[str]:
    """The figures of the plot, and of single segments."""
    lines = [
        "## How early can one tell?",
        "",
        "![UA against the seconds heard](early.png)",
        "",
        "Trained on whole clips; of a test clip only the audio until so many seconds after its speech begins was there "
        "when anything was computed. UA in %, all classes:",
        "",
    ]
    for corpus, record in records.items():
        names = list(next(iter(record["early"].values()))["systems"])
        lines += [
            f"| {TITLES[corpus]}: seconds heard | clips that have ended | " + " | ".join(names) + " |",
            "|---|---|" + "---|" * len(names),
        ]
        for time, one in record["early"].items():
            cells = " | ".join(percent(one["systems"][name]) for name in names)
            lines.append(f"| {time} | {100 * one['ended']:.0f} % | {cells} |")
        lines.append("")
    singles = {corpus: record["single"] for corpus, record in records.items() if record["single"]}
    if singles:
        lines += [
            "One segment that was encoded by itself, out of each clip at random (UA in %, expected), beside all "
            "segments of a clip joined:",
            "",
            "| corpus | " + " | ".join(f"{n}: one, joined" for n in ENDS) + " |",
            "|---|" + "---|" * len(ENDS),
        ]
        for corpus, single in singles.items():
            (one,) = [s for s in all_settings if (s.corpus, s.classes) == (corpus, "all")]
            joined = one.runs()["segment-cnn-alone"]["systems"]
            cells = [
                f"{100 * single[f'cnn-{n}']['ua_of_one_segment']:.1f}, {100 * joined[f'cnn-{n}']['ua']:.1f}"
                for n in ENDS
            ]
            lines.append(f"| {TITLES[corpus]} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def keep(folder: Path, target: Path) -> None:
    """Copy what a reader may want to check; paths of a machine stay out."""
    target.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        (target / name).write_text(placeless((folder / name).read_text()))


def placeless(text: str) -> str:
    """Take the folders off absolute paths."""
    return re.sub(r"(?<=[\s=\"'])/[^\s\"']*/(?=[^\s/\"'])", "", text)


def how(all_settings: list[Setting]) -> list[str]:
    """Protocols, machine and versions."""
    lines = ["## How it was run", ""]
    for one in all_settings:
        record = one.runs()["segment-cnn"]
        thinned = EVERY[one.corpus]
        note = f" (every {thinned}th clip)".replace("3th", "3rd") if thinned > 1 else ""
        minutes = sum(r["seconds"]["all"] for r in one.runs().values()) / 60
        lines.append(f"- **{one.title}**{note}: {record['protocol']['description']}; {minutes:.0f} minutes")
    environment = json.loads((all_settings[0].folder / "segment-cnn" / "environment.json").read_text())
    machine, versions = environment["machine"], environment["versions"]
    lines += [
        "",
        f"Commands: `../README.md`. {environment['date'][:10]}, seed 0, one core of {machine['cores']} a process "
        f"({machine['processor']}) that other programs shared, torch {versions['torch']}, subtone "
        f"{versions['subtone']}. Upstream: whisper-tiny.en.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    given = parser.parse_args()
    found = list(settings(given.out))
    given.results.mkdir(parents=True, exist_ok=True)
    for one in found:
        for run in one.runs():
            keep(one.folder / run, given.results / f"{one.corpus}-{one.classes}" / run)
    records = {}
    for corpus in TITLES:
        path = given.out / f"early-{corpus}.json"
        if path.exists():
            records[corpus] = json.loads(path.read_text())
            (given.results / path.name).write_text(placeless(path.read_text()))
    draw_lengths(found, given.results / "lengths.png")
    lines = [
        "# Short segments: the CNN on feature maps, and its baselines",
        "",
        *claims(found),
        "## UA against the length of a segment",
        "",
        "![UA against the length of a segment](lengths.png)",
        "",
        "UA and WA in % with 95 % intervals over speakers, speaker-disjoint. `cnn` hears segments of feature maps "
        "of the whole clip; of `cnn alone` each segment was encoded by itself. `gap+sap` and the SVMs hear the whole "
        "clip.",
        "",
        *tables(found),
    ]
    if records:
        draw_early(records, given.results / "early.png")
        lines += how_early(records, found)
    notes = Path(__file__).with_name("notes.md")
    if notes.is_file():
        lines += [notes.read_text().strip(), ""]
    lines += how(found)
    (given.results / "README.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
