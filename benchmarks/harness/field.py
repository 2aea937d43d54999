"""Who takes part, and in which process: contenders that share weights in memory share a process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

BASELINE = "Hugging Face, one by one"


@dataclass(frozen=True)
class Process:
    """A contender's process: interpreter, module, and what it is loaded with."""

    python: Path
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Parameters
    ----------
    name
        Of the line.
    process
        Key of its process.
    what
        The encoder alone, from samples in memory to frames; or the whole pipeline, from files to a store.
    precision
        Of the arithmetic: tells which matrix peak its share is taken of.
    mode
        Arguments of the contender's ``frames``.
    note
        What a reader has to know of it.
    """

    name: str
    process: str
    what: Literal["encoder", "pipeline"]
    precision: str
    mode: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is Subtone."""
        return self.process.startswith("subtone")


OURS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
#: Those whose whole pipeline is measured: what `--backend auto` takes for each precision on a CPU with AVX-512.
_PIPELINES = (("torch", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))


def line_up(environments: Path | None) -> tuple[dict[str, Process], list[Contender]]:
    """Return all processes by name, and all contenders in the order of the table.

    Peers whose environment is not there are stood in for by Hugging Face with their batching, and say so.
    """
    here = Path(sys.executable)
    processes = {
        "matrices": Process(here, "of_matrices"),
        "huggingface": Process(here, "of_huggingface"),
    }
    contenders = [
        Contender(BASELINE, "huggingface", "encoder", "fp32", {"batch": 1}),
        Contender("Hugging Face, padded batches of 8, mask", "huggingface", "encoder", "fp32", {"batch": 8}),
        Contender(
            "Hugging Face, padded batches of 8, no mask",
            "huggingface",
            "encoder",
            "fp32",
            {"batch": 8, "mask": False},
            "what the transformers pipeline does with batch_size=8",
        ),
    ]
    for name, module, sizes in (("S3PRL", "s3prl", (4, 8)), ("SpeechBrain", "speechbrain", (4,))):
        python = None if environments is None else environments / module / "bin" / "python"
        there = python is not None and python.exists()
        if python is not None and there:
            processes[module] = Process(python, f"of_{module}")
        for size in sizes:
            note = f"batches of {size}" + (" as in its emotion recipe" if size == 4 else "")
            if not there:
                note += "; its environment is not there: reproduced with Hugging Face, padded, with mask"
            contenders.append(
                Contender(
                    f"{name}, padded batches of {size}",
                    module if there else "huggingface",
                    "encoder",
                    "fp32",
                    {"batch": size},
                    note,
                )
            )
    for backend, precision in OURS:
        key = f"subtone {backend} {precision}"
        processes[key] = Process(here, "of_subtone", {"backend": backend, "precision": precision})
        contenders.append(Contender(f"Subtone {backend} {precision}", key, "encoder", precision))
        if (backend, precision) in _PIPELINES:
            contenders.append(
                Contender(f"Subtone {backend} {precision}, pipeline", key, "pipeline", precision)
            )
    return processes, contenders
