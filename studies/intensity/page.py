"""The page of the study and the shipped model's card, from the files in ``results``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from subtone.corpora import get
from subtone.pretraining.intensity import IntensityModel

OURS = "intensity model, seed 0"
RIVALS = ("loudness", "loudness, gain unknown", "spectral slope", "ridge regression")
PRELIMINARY = "# Intensity model\n\nFinal weights; its card is written when it has been measured.\n"
FIGURES = {
    "pooled": "Spearman over all clips",
    "within": "Spearman inside speakers, mean",
    "pairs": "pairs of a speaker in the right order",
    "matched": "such pairs, of one emotion and sentence",
}


def write(results: Path, folder: Path) -> None:
    """Write ``README.md`` beside the results, and the card into the model's folder."""
    names = ("development", "folds", "corpora", "outside")
    parts = {name: _read(results / f"{name}.json") for name in names if (results / f"{name}.json").is_file()}
    parts.setdefault("folds", {"figures": {}, "cpu_s": 0.0})  # its places say that it has not been run
    (results / "README.md").write_text(_page(parts), encoding="utf-8")
    model = IntensityModel.load(folder)
    replace(model, card=_card(parts, model)).save(folder)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _page(parts: dict[str, dict[str, Any]]) -> str:
    folds, corpora = parts["folds"]["figures"], parts["corpora"]["figures"]
    environment = parts["outside"]["environment"]
    notes = (Path(__file__).parent / "notes.md").read_text(encoding="utf-8")
    versions = ", ".join(f"{name} {environment['versions'][name]}" for name in ("subtone", "torch"))
    seconds = sum(part["cpu_s"] for part in parts.values())
    return f"""# Frame-level emotion intensity: can it be heard, and is it more than loudness?

{_answer(folds, corpora)}

## Speakers that the model has not heard

{_table(folds)}
Five folds of the speakers that are not for development, by models of all other speakers; 95 % intervals over speakers.
Only speakers with clips of two levels or more can be asked.

## Corpora that the model has not heard

{_table(corpora)}
Leave one corpus out of three: another language, other microphones, another meaning of intensity.

## The shipped model where no intensity is told

{_outside(parts["outside"]["figures"])}

{_development(parts["development"]["figures"]) if "development" in parts else ""}{notes}
## How it was made

`{environment["command"]}`

{environment["date"][:10]}, {environment["machine"]["processor"]}, one core, {seconds / 60:.0f} minutes of CPU besides
reading the corpora and training the shipped model; seeds {environment["seeds"]}; {versions}. All figures are in the
JSON files beside this page.
"""


def _answer(folds: dict[str, Any], corpora: dict[str, Any]) -> str:
    lines = [
        "- **Share of a speaker's pairs of clips in which the stronger scores higher** (chance 50 %): "
        f"{_shares(folds)} for speakers that were not heard, {_shares(corpora)} where the whole corpus was not."
    ]
    for what, figures in (("Speakers", folds), ("Corpora", corpora)):
        if not figures:
            continue
        told = "; ".join(_against(figures, rival) for rival in RIVALS)
        lines.append(f"- **{what} not heard, against rivals** (paired intervals over speakers): {told}.")
    return "\n".join(lines)


def _shares(figures: dict[str, Any]) -> str:
    if not figures:
        return "not run yet"
    return ", ".join(f"{name} {_share(found['pairs'])}" for name, found in figures[OURS].items())


def _against(figures: dict[str, Any], rival: str) -> str:
    gained = {name: found["model_above_pairs"] for name, found in figures[rival].items()}
    better = sum(one["interval"][0] > 0 for one in gained.values())
    worse = sum(one["interval"][1] < 0 for one in gained.values())
    points = ", ".join(f"{100 * one['value']:+.0f}" for one in gained.values())
    return f"{rival} {points} points ({better} better, {worse} worse of {len(gained)})"


def _table(figures: dict[str, Any]) -> str:
    if not figures:
        return "Not run yet.\n"
    lines = []
    for corpus in figures[OURS]:
        shown = [key for key in FIGURES if figures[OURS][corpus][key] is not None]
        speakers = figures[OURS][corpus]["within"]["speakers"]
        lines.append(f"| {corpus} ({speakers} speakers) | " + " | ".join(FIGURES[k] for k in shown) + " |")
        lines.append("|---|" + "---|" * len(shown))
        for system, found in figures.items():
            cells = (_cell(found[corpus][key]) for key in shown)
            lines.append(f"| {system} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _development(figures: dict[str, Any]) -> str:
    corpora = [name for name in figures["chosen"] if name not in ("options", "cpu_s")]
    lines = [
        "## What was chosen, on development speakers",
        "",
        "| pairs in the right order | " + " | ".join(corpora) + " |",
        "|---|" + "---|" * len(corpora),
    ]
    for name, found in figures.items():
        lines.append(f"| {name} | " + " | ".join(f"{found[c]['pairs']['value']:.3f}" for c in corpora) + " |")
    lines += [
        "A fifth of each corpus's speakers, none of whom is in the first table; one seed. The rows differ from the "
        "first in what they name.",
        "",
        "",
    ]
    return "\n".join(lines)


def _outside(figures: dict[str, Any]) -> str:
    systems = ("intensity model", "loudness", "spectral slope")
    lines = [
        f"| corpus | emotion | clips | mean score | {' | '.join(systems)} |",
        "|---|---|---|---|" + "---|" * len(systems),
    ]
    for corpus, found in figures["corpora"].items():
        for emotion, one in found["emotions"].items():
            above = [_cell(one.get("above_neutral", {}).get(name)) for name in systems]
            lines.append(
                f"| {corpus} | {emotion} | {one['clips']} | {one['mean']:.2f} | {' | '.join(above)} |"
            )
    lines += [
        "",
        "The last columns: share of pairs in which a speaker's clip lies above a neutral one of the speaker.",
    ]
    for corpus, found in figures["corpora"].items():
        curves = found["curves"]
        lines.append(
            f"\nCurves on {corpus} (medians over clips): deviation inside speech {curves['deviation_in_speech']:.2f}; "
            f"rank correlation with frame energy {curves['energy_rank_correlation']:.2f}, over speech frames alone "
            f"{curves['energy_rank_correlation_in_speech']:.2f}; autocorrelation falls to a half after "
            f"{curves['half_correlation_ms']:.0f} ms. Of the top frames, those that the exact form of EMS looks at, "
            f"{100 * curves['speech_share_of_top_frames']:.0f} % are speech; of all "
            f"{100 * curves['speech_share']:.0f} %."
        )
    return "\n".join(lines)


def _card(parts: dict[str, dict[str, Any]], model: IntensityModel) -> str:
    folds, corpora = parts["folds"]["figures"], parts["corpora"]["figures"]
    rows = "\n".join(
        f"| {get(name).title} | {', '.join(get(name).languages)} | {get(name).licence} | "
        f"{_cell(folds[OURS][name]['pairs']) if folds else 'not run'} | {_cell(corpora[OURS][name]['pairs'])} | "
        f"{_cell(corpora['loudness'][name]['pairs'])} |"
        for name in model.trained_on
    )
    return f"""# Intensity model

How strongly a voice is moved, 0 to 1, every 10 ms: where emotional masking looks for frames to hide. A clip's score is
the mean over its speech.

## Data and what it reached

Share of pairs of clips of one speaker that it puts in the right order of intensity (chance 0.50), 95 % intervals over
speakers. "Unheard speakers" and "unheard corpus" are of models trained alike without them; this one has heard all.

| corpus | language | licence | unheard speakers | unheard corpus | loudness alone |
|---|---|---|---|---|---|
{rows}

What teaches: RAVDESS normal and strong, its neutral clips as none; BAVED's three levels; the mean arousal of EmoTale's
raters. These are three meanings of intensity, brought to one range. No audio is in this package. The licences of some
corpora allow research only or exclude commercial use: whether that binds a model trained on them is yours to judge.

## Limits

- Scores order clips of one speaker. Across speakers, rooms and languages they compare less well: see the column
  "unheard corpus" and `studies/intensity/results`.
- Only whole clips have levels. That a *frame* of a clip is stronger than another was taught by nobody; in silence the
  model was taught to score low.
- A recording's gain is taken off, and with it what loudness says: where all clips are recorded alike, plain loudness
  may order them better (last column), and did so on each corpus that was not heard.
- Broadband noise scores high: white noise gets 0.99. On one Korean corpus its anger scored below neutral.
- Acted speech taught it. It is made to choose frames for pre-training, not to judge people.
"""


def _cell(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "–"
    low, high = measured["interval"]
    return f"{measured['value']:.2f} ({low:.2f} to {high:.2f})"


def _share(measured: dict[str, Any]) -> str:
    low, high = measured["interval"]
    return f"{100 * measured['value']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
