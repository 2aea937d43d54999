"""An encoder fine-tuned end to end: Subtone's loop beside the Hugging Face Trainer and SpeechBrain's IEMOCAP recipe.

    python benchmarks/peers.py PEERS                                            # once, for SpeechBrain
    python benchmarks/finetune.py --corpus ravdess=PATH --speechbrain-python PEERS/speechbrain/bin/python
    python benchmarks/finetune.py --corpus ravdess=PATH --clips 8 --rounds 1 --out /tmp/try.json   # that it runs

All train the same encoder, a mean over its frames and one linear layer by cross-entropy, from the same weights, on the
same decoded clips, by the same AdamW with the same rate falling linearly to 0, nothing dropped or hidden. In turn, each
in a process of its own. Writes a result as JSON and as a page in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from harness import worker
from safetensors.torch import save_file

from subtone import corpora, upstreams
from subtone.evaluation import describe_environment
from subtone.extraction import clips_of
from subtone.speech import get_detector
from subtone.training.end_to_end.clips import DecodedClips, decode
from subtone.training.end_to_end.network import Downstream, shape_of
from subtone.training.end_to_end.plan import Plan
from subtone.upstreams.base import SAMPLE_RATE_HZ

HERE = Path(__file__).resolve().parent
OURS, YARDSTICK = "Subtone", "plain loop, clip by clip, in Subtone's batches"
#: Seconds after which a training will never end.
PATIENCE_S = 7200.0


@dataclass(frozen=True)
class Contender:
    """Who takes part: a module of ``contenders/``, and how it trains."""

    name: str
    module: str
    how: dict[str, Any] = field(default_factory=dict)


CONTENDERS = (
    Contender(OURS, "tune_subtone"),
    Contender("Hugging Face Trainer", "tune_huggingface", {"order": "random"}),
    Contender("Hugging Face Trainer, by length", "tune_huggingface", {"order": "group_by_length"}),
    Contender(
        "Hugging Face Trainer, by length, mask",
        "tune_huggingface",
        {"order": "group_by_length", "mask": True},
    ),
    Contender("SpeechBrain recipe", "tune_speechbrain"),
    Contender(YARDSTICK, "tune_plain"),
)


def main() -> None:
    """Measure and write."""
    given = arguments()
    worker.PATIENCE_S = PATIENCE_S
    # Children inherit it: everybody has as many cores as threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    began, loads = time.perf_counter(), [os.getloadavg()[0]]

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s  {line}", flush=True)

    versions: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="subtone-benchmark-") as name:
        work = Path(name)
        weights = steady(given.model or random_weights(work / "random", given.seed), work / "weights")
        model_type = transformers.AutoConfig.from_pretrained(weights).model_type
        field_ = line_up(given.only, model_type)
        runs: dict[str, list[dict[str, Any]]] = {one.name: [] for one in field_}
        clips, targets, classes = material(given, work / "decoded")
        budgets = [matching_budget(clips, given, round_) for round_ in range(given.rounds)]
        for round_ in range(given.rounds):
            job = write_job(given, work, weights, (clips, targets, len(classes)), budgets[round_], round_)
            for one in field_[round_ % len(field_) :] + field_[: round_ % len(field_)]:
                found, of = take_turn(one, given, weights, job, work / "log", before=round_ == 0)
                runs[one.name].append(found)
                versions.setdefault(one.module, of)
                say(f"round {round_ + 1}: {one.name}: {in_short(found)}")
                if one.name == OURS and "skipped" in found:
                    sys.exit("nothing to compare with")
    loads.append(os.getloadavg()[0])
    audio_s = float(clips.lengths.sum()) / SAMPLE_RATE_HZ
    result = {
        "contenders": {one: summary(runs[one], runs[OURS], audio_s) for one in runs},
        "model": "wav2vec2-base shape, random weights" if given.model is None else given.model.name,
        "model_type": model_type,
        "precision": given.precision,
        "clips": len(clips),
        "audio_s": audio_s,
        "clip_s": [float(x) / SAMPLE_RATE_HZ for x in np.percentile(clips.lengths, [0, 50, 100])],
        "classes": len(classes),
        "epochs": given.epochs,
        "batch": given.batch,
        "batch_s": [round(budget / SAMPLE_RATE_HZ, 3) for budget in budgets],
        "learning_rate": given.learning_rate,
        "rounds": given.rounds,
        "threads": given.threads,
        "load_average": loads,
        "took_s": time.perf_counter() - began,
        "contender_versions": versions,
        "environment": describe(given),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(page(result), encoding="utf-8")
    say(f"written: {given.out} and {given.out.with_suffix('.md')}")
    print(page(result))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, metavar="NAME=PATH")
    parser.add_argument("--clips", type=int, default=64, help="the first so many clips")
    parser.add_argument("--model", type=Path, help="folder; default: the shape of wav2vec2-base, random")
    parser.add_argument("--speechbrain-python", type=Path, help="without it its loop is reproduced")
    parser.add_argument("--only", action="append", default=[], help="part of a rival's name; may be repeated")
    parser.add_argument("--batch", type=int, default=4, help="clips to an update")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each has the next")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "finetune.json")
    given = parser.parse_args()
    given.only = given.only or [""]
    return given


def describe(given: argparse.Namespace) -> dict[str, Any]:
    """Return date, command without anybody's paths, versions and machine."""
    command = (
        f"python benchmarks/finetune.py --corpus {given.corpus.partition('=')[0]}=PATH --clips {given.clips}"
    )
    command += f" --model {given.model.name}" if given.model else ""
    command += " --speechbrain-python PYTHON" if given.speechbrain_python else ""
    command += f" --batch {given.batch} --epochs {given.epochs} --learning-rate {given.learning_rate:g}"
    command += f" --precision {given.precision} --rounds {given.rounds} --threads {given.threads}"
    command += f" --seed {given.seed}"
    seeds = [given.seed + round_ for round_ in range(given.rounds)]
    return describe_environment(seeds=seeds, device="cpu", command=command)


def line_up(only: Sequence[str], model_type: str) -> list[Contender]:
    """Return who takes part."""
    named = [one for one in CONTENDERS if one.name == OURS or any(part in one.name for part in only)]
    # Whisper looks at no mask: the same twice.
    return [one for one in named if not (one.how.get("mask") and model_type == "whisper")]


# -- what is trained, and on what


def random_weights(folder: Path, seed: int) -> Path:
    """Save random weights."""
    command = [
        sys.executable,
        str(HERE / "contenders" / "weights.py"),
        "wav2vec2-base",
        str(seed),
        str(folder),
    ]
    subprocess.run(command, check=True, env=worker.environment())
    return folder


def steady(model: Path, folder: Path) -> Path:
    """Copy an encoder, with a configuration by which nothing is dropped or hidden at random."""
    shutil.copytree(model, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    config = transformers.AutoConfig.from_pretrained(folder)
    for name in list(vars(config)):
        if name.endswith(("dropout", "layerdrop")):
            setattr(config, name, 0.0)
    config.apply_spec_augment = False
    config.save_pretrained(folder)
    return folder


def material(given: argparse.Namespace, folder: Path) -> tuple[DecodedClips, list[int], list[str]]:
    """Decode the first clips of the corpus; return them, their class numbers, and the classes."""
    name, _, path = given.corpus.partition("=")
    table = corpora.read(name, path)
    table = table[table["emotion"].notna()].iloc[: given.clips]
    clips = decode(clips_of(table), folder, get_detector("silero"))
    emotions = table["emotion"].iloc[clips.rows].tolist()
    classes = sorted(set(emotions))
    return clips, [classes.index(emotion) for emotion in emotions], classes


def planned(clips: DecodedClips, given: argparse.Namespace, round_: int, budget: int) -> Plan:
    """Return Subtone's batches, as its fine-tuning plans them."""
    rows, seed = np.arange(len(clips)), given.seed + round_
    return Plan(rows, clips.lengths, budget=budget, batches_per_step=1, epochs=given.epochs, seed=seed)


def matching_budget(clips: DecodedClips, given: argparse.Namespace, round_: int) -> int:
    """Return the samples of a batch by which Subtone makes as many updates as the others, within what it can."""

    def updates(budget: int) -> int:
        return planned(clips, given, round_, budget).steps

    wanted = given.epochs * -(-len(clips) // given.batch)
    mean = float(clips.lengths.mean())
    candidates = np.linspace(0.5 * given.batch * mean, 2.5 * given.batch * mean, 400).astype(int).tolist()
    # Nearest in updates; among those the middle one.
    distances = [abs(updates(budget) - wanted) for budget in candidates]
    nearest = [b for b, distance in zip(candidates, distances, strict=True) if distance == min(distances)]
    return int(nearest[len(nearest) // 2])


def write_job(
    given: argparse.Namespace,
    work: Path,
    weights: Path,
    data: tuple[DecodedClips, list[int], int],
    budget: int,
    round_: int,
) -> Path:
    """Write what ``contenders/tuning.py`` reads, and the linear layer that Subtone draws by the seed."""
    clips, targets, classes = data
    plan = planned(clips, given, round_, budget)
    shape = shape_of(upstreams.load(str(weights)), "last")
    torch.manual_seed(given.seed + round_)
    linear = Downstream([shape], classes).linear
    save_file(
        {name: x.detach() for name, x in linear.state_dict().items()}, work / f"linear-{round_}.safetensors"
    )
    job = {
        "weights": str(weights),
        "linear": str(work / f"linear-{round_}.safetensors"),
        "clips": list(map(str, clips.paths)),
        "targets": targets,
        "classes": classes,
        "epochs": given.epochs,
        "batch": given.batch,
        "batch_s": budget / SAMPLE_RATE_HZ,
        "batches": [
            [[piece.clip for piece in batch] for batch in plan.batches(e)] for e in range(plan.epochs)
        ],
        "learning_rate": given.learning_rate,
        "precision": given.precision,
        "seed": given.seed + round_,
    }
    path = work / f"job-{round_}.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


# -- measuring


def take_turn(
    one: Contender, given: argparse.Namespace, weights: Path, job: Path, log: Path, *, before: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Train once, in a process of its own; return what it tells, and the versions of what computed."""
    python = Path(sys.executable)
    if one.module == "tune_speechbrain" and given.speechbrain_python is not None:
        python = given.speechbrain_python
    with worker.Worker(python, one.module, log) as process:
        loaded = process.ask("load", weights=str(weights), threads=given.threads)
        if "skipped" in loaded:
            return loaded, {}
        return process.ask("train", job=str(job), before=before, **one.how), loaded["versions"]


def in_short(run: dict[str, Any]) -> str:
    """Say how a turn went."""
    if "skipped" in run:
        return f"skipped: {run['skipped']}"
    return f"{clips_per_s(run):.3f} clips/s, {run['peak_mb']:.0f} MB, loss {run['epochs'][-1]['loss']:.4f}"


def clips_per_s(run: dict[str, Any]) -> float:
    """Return the clips of all epochs by their seconds."""
    return float(sum(map(sum, each(run, "clips"))) / sum(each(run, "wall_s")))


def each(run: dict[str, Any], name: str) -> Iterator[Any]:
    """Go through one figure of all epochs."""
    return (epoch[name] for epoch in run["epochs"])


def summary(runs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]], audio_s: float) -> dict[str, Any]:
    """Return medians over the rounds, ratios to Subtone's of the same round, and how far losses lie from Subtone's."""
    skipped = next((run["skipped"] for run in (*runs, *ours) if "skipped" in run), None)
    if skipped is not None:
        return {"skipped": skipped}
    updates = [sum(len(losses) for losses in each(run, "losses")) for run in runs]
    trained = [sum(map(sum, each(run, "clips"))) for run in runs]
    pairs = list(zip(runs, ours, strict=True))
    told: dict[str, Any] = {
        "clips_per_s": median(clips_per_s(run) for run in runs),
        "clips_per_s_each": [clips_per_s(run) for run in runs],
        "speed_of_subtone": median(clips_per_s(run) / clips_per_s(our) for run, our in pairs),
        "cpu_s_a_clip": median(sum(each(r, "cpu_s")) / n for r, n in zip(runs, trained, strict=True)),
        "cpu_of_subtone": median(sum(each(r, "cpu_s")) / sum(each(o, "cpu_s")) for r, o in pairs),
        "peak_mb": median(run["peak_mb"] for run in runs),
        "peak_of_subtone": median(run["peak_mb"] / our["peak_mb"] for run, our in pairs),
        "whole_peak_mb": median(run["whole_peak_mb"] for run in runs),
        "whole_s": median(run["whole_s"] for run in runs),
        "epochs_s": median(sum(each(run, "wall_s")) for run in runs),
        "clips_an_update": median(n / many for n, many in zip(trained, updates, strict=True)),
        "padding": median(
            1 - audio_s * len(run["epochs"]) / (sum(each(run, "padded")) / SAMPLE_RATE_HZ) for run in runs
        ),
        "loss_before": runs[0]["loss_before"],
        "epoch_losses": [list(each(run, "loss")) for run in runs],
        "loss_after": [run["loss_after"] for run in runs],
        "update_losses": [list(each(run, "losses")) for run in runs],
        "largest_difference_of_epoch_loss": max(
            abs(a / b - 1) for r, o in pairs for a, b in zip(each(r, "loss"), each(o, "loss"), strict=True)
        ),
        "largest_difference_of_loss_after": max(abs(r["loss_after"] / o["loss_after"] - 1) for r, o in pairs),
        "spread_of_loss_after": spread([run["loss_after"] for run in runs]),
    }
    if "how" in runs[0]:
        told["how"] = runs[0]["how"]
    return told


def median(values: Iterator[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def spread(values: Sequence[float]) -> float:
    """Return the range of values as a share of their median."""
    return float((max(values) - min(values)) / statistics.median(values))


# -- telling


def page(result: dict[str, Any]) -> str:
    """Write a result as Markdown."""
    table, machine = result["contenders"], result["environment"]["machine"]
    shown = {name: one for name, one in table.items() if "skipped" not in one}
    lines = ["# Fine-tuning, side by side", ""]
    if shown:
        lines += [verdict(shown), "", *speeds(shown), "", *curves(shown, result), ""]
    lines += [f"{name}: not measured: {one['skipped']}" for name, one in table.items() if "skipped" in one]
    lines += [f"{name}: {one['how']}." for name, one in shown.items() if "how" in one]
    lines += ["", "## How it was measured", "", *method(result), ""]
    lines += [f"- `{result['environment']['command']}`", f"- {result['environment']['date']}"]
    cpu = machine.get("processor") or machine.get("cpu") or machine.get("architecture", "")
    lines += [f"- {cpu}, {result['threads']} threads; load average {loads(result)}"]
    for module, versions in filter(itemgetter(1), result["contender_versions"].items()):
        lines.append(f"- `{module}`: " + ", ".join(f"{name} {v}" for name, v in versions.items()))
    return "\n".join(lines) + "\n"


def loads(result: dict[str, Any]) -> str:
    """Return the load averages before and after."""
    return " before, ".join(f"{x:.1f}" for x in result["load_average"]) + " after"


def verdict(shown: dict[str, Any]) -> str:
    """Say it in a sentence."""
    rivals = {name: one for name, one in shown.items() if name not in (OURS, YARDSTICK)}
    if not rivals:
        return f"{OURS} alone: {shown[OURS]['clips_per_s']:.2f} clips/s."
    fastest = max(rivals, key=lambda name: rivals[name]["clips_per_s"])
    one = rivals[fastest]
    return (
        f"{OURS} trains {1 / one['speed_of_subtone']:.2f}× as fast as the fastest of the others ({fastest}), "
        f"in {1 / one['peak_of_subtone']:.2f}× its memory."
    )


def speeds(shown: dict[str, Any]) -> list[str]:
    """Return the table of speed and memory."""
    rows = [
        "|  | clips / s | × Subtone | CPU s / clip | × | peak MB | × | peak MB, whole run | outside epochs, s "
        "| padding | clips / update |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in shown.items():
        low, high = min(one["clips_per_s_each"]), max(one["clips_per_s_each"])
        rows.append(
            f"| {name} | {one['clips_per_s']:.2f} ({low:.2f}–{high:.2f}) | {one['speed_of_subtone']:.2f} "
            f"| {one['cpu_s_a_clip']:.2f} | {one['cpu_of_subtone']:.2f} | {one['peak_mb']:.0f} "
            f"| {one['peak_of_subtone']:.2f} | {one['whole_peak_mb']:.0f} "
            f"| {one['whole_s'] - one['epochs_s']:.1f} | {100 * one['padding']:.1f} % | {one['clips_an_update']:.2f} |"
        )
    return rows


def curves(shown: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """Return the table of losses."""
    rows = [
        "Losses, round by round (each with its own seed of linear layer and order):",
        "",
        "|  | before | mean of "
        + ("the epoch" if result["epochs"] == 1 else "each epoch")
        + " | after, clip by clip | its span between seeds | largest difference to Subtone: epoch mean | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in shown.items():
        means = "; ".join(" → ".join(f"{x:.4f}" for x in losses) for losses in one["epoch_losses"])
        after = ", ".join(f"{x:.4f}" for x in one["loss_after"])
        apart = [one[f"largest_difference_of_{what}"] for what in ("epoch_loss", "loss_after")]
        told = " | ".join("–" if name == OURS else f"{100 * x:.2f} %" for x in apart)
        span = f"{100 * one['spread_of_loss_after']:.2f} %" if result["rounds"] > 1 else "–"
        rows.append(f"| {name} | {one['loss_before']:.6f} | {means} | {after} | {span} | {told} |")
    told = "Batches and their order are each contender's own: its span between seeds is the noise."
    if YARDSTICK in shown:
        pairs = zip(flat(shown[YARDSTICK]["update_losses"]), flat(shown[OURS]["update_losses"]), strict=True)
        apart = [abs(a - b) for a, b in pairs]
        told += (
            f" The {YARDSTICK} leaves that out: over {len(apart)} updates its losses differ from Subtone's by at most "
            f"{max(apart):.1e}, by {statistics.median(apart):.1e} in the middle."
        )
    return [*rows, "", told]


def flat(rounds: list[list[list[float]]]) -> list[float]:
    """Return the losses of all updates of all epochs and rounds."""
    return [loss for epochs in rounds for losses in epochs for loss in losses]


def method(result: dict[str, Any]) -> list[str]:
    """Say how it was measured."""
    padded = (
        "- Hugging Face pads every clip to 30 s for Whisper, in training and where losses are compared."
        if result["model_type"] == "whisper"
        else "- With a group norm, features of a padded batch are other ones in Hugging Face and SpeechBrain than "
        "those of a clip alone; and by its model card such a model gets no attention mask: its mean takes in padding."
    )
    low, middle, high = result["clip_s"]
    budgets = ", ".join(f"{x:g}" for x in result["batch_s"])
    return [
        f"- {result['model']}, mean over frames, one linear layer over {result['classes']} classes; all weights are "
        f"trained, in {result['precision']}. Nothing is dropped, hidden or augmented.",
        f"- {result['clips']} clips, {result['audio_s']:.0f} s, {low:.1f} to {high:.1f} s long (median {middle:.1f}); "
        "decoded beforehand.",
        f"- Epochs: {result['epochs']}; rounds, in which everybody has a turn: {result['rounds']}. Every "
        "training in a process of its own; medians, and ratios within rounds.",
        f"- AdamW (fused), {result['learning_rate']:g} falling linearly to 0, no weight decay, gradients measured and "
        f"not clipped. The others take {result['batch']} clips to an update, Subtone what fits into {budgets} s "
        "with the padding, which makes as many updates.",
        "- Seconds are those of the epochs' updates. Subtone also writes a checkpoint after each epoch, of weights and "
        "optimiser, which the others do not here: it stands under *outside epochs*, with what sets a training up.",
        "- Peak memory is the highest resident size (VmHWM) up to the end of the first epoch's updates, and of the "
        "whole run.",
        padded,
    ]


if __name__ == "__main__":
    main()
