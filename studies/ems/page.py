"""The results' page of the study, from the folders that ``run.py`` ended in.

    python page.py OUT/npc OUT/mockingjay --results studies/ems/results

Every sentence with a figure on the page follows from these folders; ``notes.md`` is put below as it is.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.evaluation import holm

Floats = npt.NDArray[np.float64]
RESAMPLES = 5000
PERMUTATIONS = 20_000
PLAIN = "plain"
#: What tells the choice of spans from all else that sets a variant apart from plain; the first that is there.
CONTROLS = ("random+intensity", "random")
MEAN = "mean of all"
COLOURS = ("#444444", "#8c8c8c", "#d55e00", "#0072b2", "#009e73")


@dataclass(frozen=True)
class Gain:
    """What a variant is better by than another one, the plain or the control, in UA."""

    architecture: str
    than: str
    variant: str
    corpus: str
    difference: float
    ci: tuple[float, float]
    p: float

    def _p(self) -> str:
        return "< 0.001" if self.p < 0.001 else f"= {self.p:.3f}"

    def cell(self) -> str:
        low, high = (100 * x for x in self.ci)
        return f"{100 * self.difference:+.1f} ({low:+.1f} to {high:+.1f}), p {self._p()}"


@dataclass(frozen=True)
class Right:
    """How often a system was right, by speaker and class: the mean over the downstream seeds.

    Parameters
    ----------
    right, clips
        ``(speakers, classes)``.
    """

    right: Floats
    clips: Floats


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--reference", type=Path, help="reference.json of reference.py")
    parser.add_argument("--results", type=Path, required=True)
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    reference = {} if given.reference is None else json.loads(given.reference.read_text(encoding="utf-8"))
    parts, gains = [], []
    for folder in given.folders:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        found = compared(folder, record)
        gains += found
        parts += section(folder, record, found, reference)
        draw_ua(record, given.results / f"{folder.name}-ua.png")
        draw_curves(folder / "curves", given.results / f"{folder.name}-curves.png")
        keep(folder, given.results / folder.name)
    notes = Path(__file__).with_name("notes.md")
    lines = ["# Emotional masking: what holds of it at this size", "", *verdict(gains), "", *parts]
    if notes.is_file():
        lines += ["", notes.read_text(encoding="utf-8").strip()]
    lines += ["", *how(given.folders[0])]
    (given.results / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def keep(folder: Path, target: Path) -> None:
    """Copy what a reader may want to check: all figures of the run, not its plots or predictions."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "recipe.yaml", "folds.csv"):
        shutil.copy(folder / name, target / name)
    recipe = (target / "recipe.yaml").read_text(encoding="utf-8").splitlines()
    kept = [
        Path(line.strip().removeprefix("- ")).name if line.strip().startswith("- /") else None
        for line in recipe
    ]
    told = [f"  - {name}" if name else line for line, name in zip(recipe, kept, strict=True)]
    (target / "recipe.yaml").write_text("\n".join(told) + "\n", encoding="utf-8")


def split_name(system: str) -> tuple[str, str]:
    corpus, _, variant = system.rpartition(": ")
    return corpus, variant


def variants_of(record: dict[str, Any]) -> list[str]:
    return list(
        dict.fromkeys(v for v in (split_name(s)[1] for s in record["systems"]) if not v.endswith(" (vote)"))
    )


def corpora_of(record: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(split_name(s)[0] for s in record["systems"]))


def compared(folder: Path, record: dict[str, Any]) -> list[Gain]:
    """Compare each variant with the plain one, and each that chooses by intensity with the control.

    On each corpus and on the mean over corpora, speaker by speaker.
    """
    table = pd.read_parquet(folder / "predictions.parquet")
    table = table[table["seed"].notna()]
    if "corpus" not in table:
        table = table.assign(corpus=corpora_of(record)[0])
    gains = []
    variants = variants_of(record)
    control = next(name for name in CONTROLS if name in variants)
    pairs_of_variants = [(PLAIN, variant) for variant in variants if variant != PLAIN]
    pairs_of_variants += [(control, variant) for variant in variants if variant.startswith("ems")]
    for than, variant in pairs_of_variants:
        pairs = {}
        for corpus in table["corpus"].unique():
            part = table[table["corpus"] == corpus]
            pairs[corpus] = (rights(part[part["system"] == than]), rights(part[part["system"] == variant]))
        for corpora in [[corpus] for corpus in pairs] + [list(pairs)]:
            name = corpora[0] if len(corpora) == 1 else MEAN
            gains.append(Gain(folder.name, than, variant, name, *paired([pairs[c] for c in corpora])))
    return gains


def rights(part: pd.DataFrame) -> Right:
    hit = (part["label"].to_numpy(object) == part["truth"].to_numpy(object)).astype(float)
    part = part.assign(hit=hit)
    seeds = part["seed"].nunique()
    right = part.pivot_table(index="speaker", columns="truth", values="hit", aggfunc="sum", fill_value=0.0)
    clips = part.pivot_table(index="speaker", columns="truth", values="hit", aggfunc="size", fill_value=0)
    return Right(right.to_numpy(float) / seeds, clips.to_numpy(float) / seeds)


def paired(pairs: list[tuple[Right, Right]]) -> tuple[float, tuple[float, float], float]:
    """Return the difference of UA (mean over corpora), its interval, and p.

    Interval: speakers of each corpus are drawn with replacement. p: the systems' answers of whole speakers are
    exchanged at random; a speaker's exchange turns the sign of her share of the difference.
    """
    generator = np.random.default_rng(0)
    share = 1 / len(pairs)
    drawn, shares = np.zeros(RESAMPLES), []
    for a, b in pairs:
        gain, clips = b.right - a.right, a.clips  # (speakers, classes)
        shares.append(share * (gain / clips.sum(0)).mean(1))  # (speakers,)
        rows = generator.integers(0, len(gain), (RESAMPLES, len(gain)))
        with np.errstate(invalid="ignore"):
            recall = gain[rows].sum(1) / clips[rows].sum(1)  # (resamples, classes)
        drawn += share * np.nanmean(recall, axis=1)
    each = np.concatenate(shares)
    signs = generator.choice((-1.0, 1.0), (PERMUTATIONS, len(each)))
    found = each.sum()
    p = (1 + (np.abs(signs @ each) >= abs(found) - 1e-12).sum()) / (1 + PERMUTATIONS)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(found), (float(low), float(high)), float(p)


def verdict(gains: list[Gain]) -> list[str]:
    lines = [told(gains, PLAIN, "plain pre-training at the same budget")]
    means = [gain for gain in gains if gain.corpus == MEAN and gain.than == PLAIN]
    best = max(means, key=lambda gain: gain.difference)
    lines.append(
        f"- The largest gain over plain is {best.architecture} with `{best.variant}`: {best.cell()}, points UA. The "
        "paper claims up to +7.1."
    )
    for than in CONTROLS:
        if any(gain.than == than for gain in gains):
            lines.append(told(gains, than, f"`{than}`, the control whose spans lie anywhere"))
    return lines


def told(gains: list[Gain], than: str, name: str) -> str:
    """Say how the variants do against one of them, on the mean of the corpora and corpus by corpus."""
    means = [gain for gain in gains if gain.corpus == MEAN and gain.than == than]
    single = [gain for gain in gains if gain.corpus != MEAN and gain.than == than]
    each = ", ".join(f"{g.architecture} `{g.variant}` {100 * g.difference:+.1f}" for g in means)
    return (
        f"- **Against {name}**: {each} points UA on the mean of the corpora; {counted(means)} beyond chance. Corpus by "
        f"corpus, {counted(single)}. (Holm's correction for the number of tests.)"
    )


def counted(gains: list[Gain]) -> str:
    corrected = holm([gain.p for gain in gains])
    better = sum(p < 0.05 and g.difference > 0 for p, g in zip(corrected, gains, strict=True))
    worse = sum(p < 0.05 and g.difference < 0 for p, g in zip(corrected, gains, strict=True))
    return f"{better} of {len(gains)} better and {worse} worse"


def section(folder: Path, record: dict[str, Any], gains: list[Gain], reference: dict[str, Any]) -> list[str]:
    corpora, variants = corpora_of(record), variants_of(record)
    lines = [
        f"## {folder.name}",
        "",
        "UA % (95 % interval over speakers); mean over five downstream seeds.",
        "",
    ]
    lines.append("| variant | " + " | ".join(corpora) + " | mean |")
    lines.append("|---" * (len(corpora) + 2) + "|")
    for variant in variants:
        each = [record["systems"][f"{c}: {variant}" if c else variant] for c in corpora]
        lines.append(row(variant, each))
    if reference:
        for corpus in corpora:
            if reference[corpus]["folds_checksum"] != record["protocol"]["corpora"][corpus]["folds_checksum"]:
                raise SystemExit(f"{corpus}: the filter banks were measured on other folds")
        lines.append(row("filter banks, nothing learned", [reference[corpus] for corpus in corpora]))
    for than in dict.fromkeys(gain.than for gain in gains):
        lines += [
            "",
            f"Difference from `{than}`, points UA, paired by speaker (p before any correction):",
            "",
        ]
        lines.append("| variant | " + " | ".join(corpora) + f" | {MEAN} |")
        lines.append("|---" * (len(corpora) + 2) + "|")
        for variant in variants:
            own = [gain for gain in gains if gain.variant == variant and gain.than == than]
            if own:
                lines.append(f"| {variant} | " + " | ".join(gain.cell() for gain in own) + " |")
    lines += ["", f"![UA by variant and corpus]({folder.name}-ua.png)", "", "### Pre-training", ""]
    runs = record["pretraining"]["runs"]
    lines.append(
        "| variant | runs | steps | frames heard, each | frames hidden % | last loss | frames / s | waiting % |"
    )
    lines.append("|---" * 8 + "|")
    for variant in variants:
        own_runs = [run for name, run in runs.items() if name.rsplit("-", 2)[0] == variant]
        mean = {
            key: np.mean([run[key] for run in own_runs])
            for key in ("frames", "coverage", "frames_per_s", "wait_share")
        }
        last = np.mean(
            [last_loss(folder / "curves" / f"{n}.csv") for n in runs if n.rsplit("-", 2)[0] == variant]
        )
        lines.append(
            f"| {variant} | {len(own_runs)} | {own_runs[0]['steps']} | {mean['frames'] / 1e6:.2f} million "
            f"| {100 * mean['coverage']:.1f} | {last:.3f} | {mean['frames_per_s']:,.0f} "
            f"| {100 * mean['wait_share']:.1f} |"
        )
    hours = record["pretraining"]["hours"]
    lines += [
        "",
        f"{hours:.1f} hours of speech, of which each run heard the part without its test speakers; seeds "
        f"{', '.join(map(str, record['pretraining']['seeds']))}, one a fold. Losses of variants with intensity hold a "
        "second target and cannot be compared with plain. Frames a second: one thread on a machine that was shared.",
        "",
        f"![Losses of pre-training]({folder.name}-curves.png)",
        "",
        f"Protocol: {record['protocol']['description']}",
        "",
    ]
    return lines


def row(name: str, each: list[dict[str, Any]]) -> str:
    cells = [f"{100 * e['ua']:.1f} ({100 * e['ua_ci'][0]:.1f}–{100 * e['ua_ci'][1]:.1f})" for e in each]
    return f"| {name} | " + " | ".join(cells) + f" | {100 * np.mean([e['ua'] for e in each]):.1f} |"


def last_loss(path: Path) -> float:
    return float(pd.read_csv(path)["loss"].iloc[-3:].mean())


def draw_ua(record: dict[str, Any], path: Path) -> None:
    corpora, variants = corpora_of(record), variants_of(record)
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for i, variant in enumerate(variants):
        each = [record["systems"][f"{c}: {variant}" if c else variant] for c in corpora]
        ua = 100 * np.array([e["ua"] for e in each])
        low, high = 100 * np.array([e["ua_ci"] for e in each]).T
        at = np.arange(len(corpora)) + (i - (len(variants) - 1) / 2) * 0.14
        axes.errorbar(
            at, ua, (ua - low, high - ua), fmt="o", color=COLOURS[i % 5], label=variant, capsize=2, ms=5
        )
    axes.set_xticks(range(len(corpora)), corpora)
    axes.set_ylabel("UA %, 95 % interval over speakers")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_curves(folder: Path, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    variants = list(dict.fromkeys(file.stem.rsplit("-", 2)[0] for file in sorted(folder.glob("*.csv"))))
    for i, variant in enumerate(variants):
        for number, file in enumerate(sorted(folder.glob(f"{variant}-fold*.csv"))):
            rows = pd.read_csv(file)
            label = variant if number == 0 else None
            axes.plot(rows["step"], rows["loss"], color=COLOURS[i % 5], lw=1, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (L1; with intensity: of both targets)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def how(folder: Path) -> list[str]:
    where = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    told = {key: value for key, value in where.items() if key != "command"}  # it names folders of one machine
    lines = [f"{key}: {json.dumps(value)}" for key, value in told.items()]
    return ["## How it was run", "", "Commands: see `studies/ems/README.md`.", "", "```", *lines, "```"]


if __name__ == "__main__":
    main()
