"""What the engine's choices do to the accuracy of the recipe `sap`: precision, backend, and leaving out silence.

    python studies/extraction/run.py --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb \\
        --corpus nemo=DATA/nemo --upstream whisper-tiny.en=FOLDER --out OUT

Each choice extracts the corpora anew and runs the recipe on the same folds and seeds. What is finished in OUT is not
repeated. The page and its figures go to ``results/``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from subtone import recipes
from subtone.cli.options import named_paths, pairs
from subtone.evaluation import Comparison, compare, read_metrics

HERE = Path(__file__).parent
REFERENCE = "torch fp32"
#: Choice → settings of the recipe.
CHOICES: dict[str, tuple[str, ...]] = {
    REFERENCE: ("extraction.backend=torch", "extraction.precision=fp32"),
    "torch bf16": ("extraction.backend=torch", "extraction.precision=bf16"),
    "openvino fp32": ("extraction.backend=openvino", "extraction.precision=fp32"),
    "openvino bf16": ("extraction.backend=openvino", "extraction.precision=bf16"),
    "openvino int8": ("extraction.backend=openvino", "extraction.precision=int8"),
    "silences cut to 1 s": ("extraction.backend=torch", "extraction.leave_out_silence_s=1.0"),
    "silences cut to 0.3 s": ("extraction.backend=torch", "extraction.leave_out_silence_s=0.3"),
}
#: Corpus → folds and classes, as in the study of the recipe.
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "ravdess": ("protocol.folds=group-k-fold", "protocol.k=10"),
    "emodb": ("corpus.classes=[anger, happiness, sadness, neutral]",),
    "nemo": (),
}
SYSTEMS = ("gap", "sap", "gap+sap")
VOTE = " (vote)"


def main() -> None:
    parser = argparse.ArgumentParser(description="What precision and leaving out silence do to accuracy")
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--upstream", required=True, metavar="LABEL=NAME_OR_FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="working folder, outside the repository")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--page", action="store_true", help="run nothing; write the page of what is in OUT")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    corpora = named_paths(given.corpus)
    ((label, source),) = pairs([given.upstream], "--upstream", "whisper-tiny.en=FOLDER").items()
    for corpus, path in corpora.items():
        for choice in given.choices:
            folder = given.out / corpus / choice.replace(" ", "-")
            if not given.page and not (folder / "metrics.json").exists():
                recipes.run(
                    "sap",
                    {corpus: path},
                    out=folder,
                    upstream=source,
                    overrides=[*PROTOCOLS.get(corpus, ()), *CHOICES[choice]],
                    overwrite=True,
                )
            print(
                f"{corpus}, {choice}: {'done' if (folder / 'metrics.json').exists() else 'not there'}",
                flush=True,
            )
    _write(given.out, list(corpora), given.choices, label, given.results)


def _write(out: Path, corpora: Sequence[str], choices: Sequence[str], label: str, results: Path) -> None:
    lines = [
        "# Precision, backend and silence: what they do to accuracy",
        "",
        f"Recipe `sap`, upstream {label}, five seeds; UA in per cent with 95 % intervals over speakers. The difference "
        f"is the vote of the seeds for GAP+SAP against that of `{REFERENCE}`, paired by speaker. Seconds are those of "
        "the extraction in this run, beside whatever else ran: for speed see `benchmarks/`.",
        "",
    ]
    record: dict[str, Any] = {}
    tests: list[Comparison] = []
    for corpus in corpora:
        folders = {c: out / corpus / c.replace(" ", "-") for c in choices}
        # What was not run is left out of the page.
        found = {c: _read(folder) for c, folder in folders.items() if (folder / "metrics.json").exists()}
        lines += [
            f"## {corpus}",
            "",
            f"{found[REFERENCE][0]['protocol']['description']}",
            "",
            "| choice | GAP | SAP | GAP+SAP | GAP+SAP, vote | difference of the vote | audio, min | extraction, s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for choice, (document, systems, answers) in found.items():
            cells = [_percent(systems[name]) for name in (*SYSTEMS, SYSTEMS[-1] + VOTE)]
            test = None if choice == REFERENCE else _against(found[REFERENCE][2], answers, choice)
            tests += [] if test is None else [test]
            cells.append("–" if test is None else _difference(test))
            cells.append(f"{document['audio_s'] / 60:.1f}")
            cells.append(f"{document['seconds']['extraction']:.0f}")
            lines.append(f"| {choice} | {' | '.join(cells)} |")
            record.setdefault(corpus, {})[choice] = {
                "backend": document["backend"],
                "systems": {name: one.to_dict() for name, one in systems.items()},
                "against_reference": None if test is None else test.to_dict(),
                "audio_s": document["audio_s"],
                "seconds": document["seconds"],
            }
        lines.append("")
    environment = json.loads(
        (out / corpora[0] / REFERENCE.replace(" ", "-") / "environment.json").read_text("utf-8")
    )
    environment.pop(
        "command", None
    )  # names folders of one machine; the form of it stands in this file's docstring
    lines += [_verdict(tests), "", "Command: see `studies/extraction/run.py`. Environment:", "", "```"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in environment.items()]
    lines += ["```", ""]
    results.mkdir(parents=True, exist_ok=True)
    (results / "README.md").write_text("\n".join(lines), encoding="utf-8")
    document = {"environment": environment, "upstream": label, "corpora": record}
    (results / "results.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    document, systems, _ = read_metrics(folder)
    answers = pd.read_parquet(folder / "predictions.parquet")
    vote = answers[answers["system"] == SYSTEMS[-1] + VOTE]
    return document, systems, vote.sort_index()


def _against(reference: pd.DataFrame, other: pd.DataFrame, choice: str) -> Comparison:
    if not reference.index.equals(other.index):
        raise SystemExit(f"{choice}: not the same clips as {REFERENCE}")
    truth = reference["truth"].to_numpy(str)
    return compare(
        truth,
        reference["label"].to_numpy(str),
        other["label"].to_numpy(str),
        sorted(np.unique(truth)),
        list(reference["speaker"]),
        names=(REFERENCE, choice),
    )


def _verdict(tests: Sequence[Comparison]) -> str:
    """Count the differences that are more than chance, alone and with Holm's correction for their number."""
    ordered = sorted(test.p for test in tests)
    alone = sum(p < 0.05 for p in ordered)
    corrected = 0
    for i, p in enumerate(ordered):
        if p >= 0.05 / (len(ordered) - i):
            break
        corrected += 1
    largest = max((abs(test.difference) for test in tests), default=0.0)
    return (
        f"Of {len(tests)} differences from {REFERENCE}, {alone} have p < 0.05 taken alone and {corrected} with Holm's "
        f"correction for their number; the largest is {100 * largest:.1f} points."
    )


def _percent(one: Any) -> str:
    return f"{100 * one.ua:.1f} ({100 * one.ua_ci[0]:.1f}–{100 * one.ua_ci[1]:.1f})"


def _difference(test: Comparison) -> str:
    low, high = test.ci
    return f"{100 * test.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), p = {test.p:.2f}"


if __name__ == "__main__":
    main()
