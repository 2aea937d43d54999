"""The results' page of the study, from the result folders of ``ladder.yaml``.

    python page.py EmoDB-4=OUT/emodb RAVDESS=OUT/ravdess --frozen EmoDB-4=OUT/sap-emodb --results results

Every sentence with a figure on the page follows from these folders; ``notes.md`` is put below as it is.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import yaml

from subtone.evaluation import holm

Record = dict[str, Any]
#: What of a result folder a reader may want to check.
KEPT = ("metrics.json", "folds.csv", "recipe.yaml", "environment.json")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#444444", "#8c8c8c", "#e69f00")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument(
        "--frozen", action="append", default=[], metavar="NAME=FOLDER", help="of the recipe sap"
    )
    parser.add_argument("--results", type=Path, required=True)
    given = parser.parse_args()
    folders, references = named(given.runs), named(given.frozen)
    records = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in folders.items()}
    frozen = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in references.items()}
    for name, record in frozen.items():
        if record["protocol"]["checksum"] != records[name]["protocol"]["checksum"]:
            raise SystemExit(f"{references[name]}: other clips than those of {folders[name]}")
    given.results.mkdir(parents=True, exist_ok=True)
    for name, folder in folders.items():
        keep(folder, given.results / re.sub(r"\W+", "-", name.lower()))
    draw_ladder(records, given.results / "ladder.png")
    draw_curves(records, given.results / "curves.png")
    plan = yaml.safe_load((next(iter(folders.values())) / "recipe.yaml").read_text())
    lines = [
        "# From a frozen upstream to two fine-tuned ones joined",
        "",
        *verdict(records),
        *against_frozen(records, frozen),
        "",
        *table(records, plan, frozen),
        "",
        "![UA of every step](ladder.png)",
        "",
        *tests(records),
        "",
        *averaging(records),
        "",
        "![development UA](curves.png)",
        "",
    ]
    notes = Path(__file__).with_name("notes.md")
    if notes.is_file():
        lines += [notes.read_text().strip(), ""]
    lines += how(folders, records)
    (given.results / "README.md").write_text("\n".join(lines) + "\n")


def keep(folder: Path, target: Path) -> None:
    """Copy what a reader may want to check; paths of a machine stay out."""
    target.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        (target / name).write_text(placeless((folder / name).read_text()))


def placeless(text: str) -> str:
    """Take the folders off absolute paths."""
    return re.sub(r"(?<=[\s=\"'])/[^\s\"']*/(?=[^\s/\"'])", "", text)


def percent(system: Record, metric: str) -> str:
    low, high = system[f"{metric}_ci"]
    return f"{100 * system[metric]:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def named(pairs: Sequence[str]) -> dict[str, Path]:
    """Read ``NAME=FOLDER`` pairs."""
    return {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in pairs)}


def table(records: Mapping[str, Record], plan: Record, frozen: Mapping[str, Record]) -> list[str]:
    """Every step, in the shape of the paper's table; below it, what the frozen upstream gives with all its layers."""
    lines = [
        "UA and WA in % with 95 % intervals over speakers. Upstream 1: whisper-tiny.en. Upstream 2: an encoder trained "
        "like `subtone-mini:speech`, without the corpus that is tested.",
        "",
        "| step | upstream | weights | checkpoints averaged | aggregator |"
        + "".join(f" {name} UA | {name} WA |" for name in records),
        "|---|---|---|---|---|" + "---|---|" * len(records),
    ]
    for step, network in plan["networks"].items():
        only = network["only"]
        aggregator = network["aggregator"]
        shown = {"mean": "mean", "ecapa": "ECAPA-TDNN", "sap": "SAP", "gap+sap": "GAP ‖ SAP"}[
            aggregator["name"]
        ]
        shown += ", with deviations" if aggregator["std"] else ""
        weights = {"frozen": "frozen", "best": "fine-tuned", "averaged": "fine-tuned"}[network["weights"]]
        averaged = {"frozen": "downstream", "best": "no", "averaged": "both"}[network["weights"]]
        cells = [
            percent(record["systems"][step], metric) for record in records.values() for metric in ("ua", "wa")
        ]
        streams = f"1 + 2, {network['fusion']}" if only is None else str(only)
        lines.append(f"| {step} | {streams} | {weights} | {averaged} | {shown} | " + " | ".join(cells) + " |")
    if frozen:
        for system in ("gap+sap", "gap+sap (vote)"):
            cells = [
                percent(frozen[name]["systems"][system], metric) if name in frozen else "–"
                for name in records
                for metric in ("ua", "wa")
            ]
            seeds = "vote of five seeds" if system.endswith("(vote)") else "mean over five seeds"
            lines.append(
                f"| recipe `sap`, {seeds} | 1 | frozen, all layers | – | GAP ‖ SAP, with deviations | "
                + " | ".join(cells)
                + " |"
            )
    return lines


def tests(records: Mapping[str, Record]) -> list[str]:
    """The paired tests, corrected for their number."""
    found = [
        (name, one)
        for name, record in records.items()
        for one in record["comparisons"]
        if one["metric"] == "ua"
    ]
    corrected = holm([one["p"] for _, one in found])
    lines = [
        "## Paired tests",
        "",
        "Differences in UA in points, second against first; 95 % intervals and p by speakers; p corrected for all "
        f"{len(found)} tests (Holm).",
        "",
        "| corpus | first | second | difference | p | p corrected |",
        "|---|---|---|---|---|---|",
    ]
    for (name, one), p in zip(found, corrected, strict=True):
        low, high = one["ci"]
        lines.append(
            f"| {name} | {one['a']} | {one['b']} | {100 * one['difference']:+.1f} ({100 * low:+.1f} to "
            f"{100 * high:+.1f}) | {shown(one['p'])} | {shown(p)} |"
        )
    return lines


def shown(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(records: Mapping[str, Record]) -> list[str]:
    """What the tests say of each step, in words."""
    questions = (
        ("Fine-tuning", "frozen mean", "fine-tuned"),
        ("Averaging checkpoints", "fine-tuned", "averaged"),
        ("ECAPA-TDNN in place of the mean", "averaged", "averaged ECAPA"),
        ("GAP ‖ SAP in place of the mean", "averaged", "averaged GAP+SAP"),
        ("Joining a second upstream early (ECAPA-TDNN)", "averaged ECAPA", "early fusion ECAPA"),
        ("Joining a second upstream early (GAP ‖ SAP)", "averaged GAP+SAP", "early fusion GAP+SAP"),
    )
    lines = []
    for what, a, b in questions:
        parts = []
        for name, record in records.items():
            (one,) = [c for c in record["comparisons"] if (c["a"], c["b"], c["metric"]) == (a, b, "ua")]
            low, high = one["ci"]
            clear = one["p"] < 0.05 and not low <= 0 <= high
            word = "" if clear else ", no evidence of a difference"
            parts.append(
                f"{100 * one['difference']:+.1f} points on {name} ({100 * low:+.1f} to {100 * high:+.1f}{word})"
            )
        lines.append(f"- **{what}**: {'; '.join(parts)}.")
    return lines


def against_frozen(records: Mapping[str, Record], frozen: Mapping[str, Record]) -> list[str]:
    """The best of the steps beside the frozen upstream of which all layers are used."""
    parts = []
    for name, record in frozen.items():
        steps = {k: v for k, v in records[name]["systems"].items() if "frozen" not in k}
        best = max(steps, key=lambda step: steps[step]["ua"])
        probe = record["systems"]["gap+sap"]
        parts.append(
            f"{name}: {percent(probe, 'ua')} frozen, {percent(steps[best], 'ua')} for the best of {len(steps)} steps "
            f"with fine-tuning ({best})"
        )
    if not parts:
        return []
    return [
        "- **Against the frozen upstream with all its layers** (recipe `sap`, UA): " + "; ".join(parts) + "."
    ]


def averaging(records: Mapping[str, Record]) -> list[str]:
    """What averaging does to the development UA of the networks in which the upstream was tuned."""
    lines = [
        "## Averaging as training sees it",
        "",
        "Development UA (%) of the single best epoch and of the averaged weights, the linear layer of the fine-tuning "
        "averaged with its upstream; mean over folds. The best epoch was chosen by this figure, so it flatters.",
        "",
        "| corpus | upstream | best epoch | averaged |",
        "|---|---|---|---|",
    ]
    for name, record in records.items():
        jobs = list(record["finetuning"].values())
        for upstream in jobs[0]["upstreams"]:
            mean = {
                which: sum(job["upstreams"][upstream]["dev_ua"][which] for job in jobs) / len(jobs)
                for which in ("best", "averaged")
            }
            lines.append(
                f"| {name} | {Path(upstream).name} | {100 * mean['best']:.1f} | {100 * mean['averaged']:.1f} |"
            )
    return lines


def how(folders: Mapping[str, Path], records: Mapping[str, Record]) -> list[str]:
    lines = ["## How it was run", ""]
    for name, folder in folders.items():
        environment = json.loads((folder / "environment.json").read_text())
        versions = environment["versions"]
        machine = environment["machine"]
        lines += [
            f"- **{name}**: {records[name]['protocol']['description']}",
            f"  `{placeless(environment['command'])}`, {environment['date'][:10]}, seed "
            f"{', '.join(map(str, environment['seeds']))}, {records[name]['seconds']['all'] / 60:.0f} minutes on "
            f"{machine['cores']} cores ({machine['processor']}) that other programs shared, torch {versions['torch']}, "
            f"subtone {versions['subtone']}",
        ]
    return lines


def draw_ladder(records: Mapping[str, Record], path: Path) -> None:
    steps = list(next(iter(records.values()))["systems"])
    figure, axes = plt.subplots(
        1, len(records), figsize=(5.2 * len(records), 5), sharey=True, layout="constrained"
    )
    for axis, (name, record) in zip(axes if len(records) > 1 else [axes], records.items(), strict=True):
        for place, step in enumerate(steps):
            one = record["systems"][step]
            low, high = one["ua_ci"]
            colour = COLOURS[0] if "frozen" not in step else COLOURS[5]
            axis.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2)
            axis.plot(100 * one["ua"], place, "o", color=colour)
        axis.set_title(name)
        axis.set_xlabel("UA in %, 95 % interval over speakers")
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(steps)), steps)
    (axes if len(records) == 1 else axes[0]).invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_curves(records: Mapping[str, Record], path: Path) -> None:
    figure, axes = plt.subplots(1, len(records), figsize=(5.2 * len(records), 3.6), layout="constrained")
    for axis, (name, record) in zip(axes if len(records) > 1 else [axes], records.items(), strict=True):
        for style, upstream in zip(("-", "--"), next(iter(record["finetuning"].values()))["upstreams"]):
            for colour, (job, told) in zip(COLOURS, record["finetuning"].items()):
                rows = told["upstreams"][upstream]["history"]
                axis.plot(
                    [row["epoch"] for row in rows],
                    [100 * row["dev_ua"] for row in rows],
                    style,
                    color=colour,
                    label=job.split("-")[0] if style == "-" else None,
                )
        axis.set_title(name)
        axis.set_xlabel("epoch (full: upstream 1, dashed: upstream 2)")
        axis.set_ylabel("development UA in %")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
