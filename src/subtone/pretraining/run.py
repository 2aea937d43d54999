"""A pre-training from a frame corpus to a folder: started, taken up again after any interruption, and told about."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from subtone.errors import PretrainingError, UsageError, is_out_of_memory
from subtone.extraction.scratch import alone_if_free
from subtone.files import sweep_partial, write_whole
from subtone.pretraining.checkpoints import Checkpoints
from subtone.pretraining.curves import Curves, draw_curves, read_curves
from subtone.pretraining.frames import FrameCorpus, Sampler
from subtone.pretraining.loading import Loader
from subtone.pretraining.objectives import ARCHITECTURES, Objective, build_objective
from subtone.pretraining.options import PretrainOptions, learning_rate
from subtone.pretraining.trainer import OnProgress, Totals, Trainer
from subtone.upstreams.filterbank_network import FilterBankEncoder

SCHEMA = 1
RUN, CURVES, PICTURE, UPSTREAM, CHECKPOINTS = "run.json", "curves.csv", "curves.png", "upstream", "checkpoint"
#: May lie in the folder beforehand: the frame corpus, where the command line puts it unless told otherwise.
FRAMES = "frames"
_LOCK = ".lock"


@dataclass(frozen=True)
class PretrainingRun:
    """A run that has come to its end.

    Attributes
    ----------
    folder
        Of the run.
    upstream
        Folder that `subtone.upstreams.load` reads.
    result
        What ``run.json`` tells of the whole run: steps, seconds, frames, means over all steps (losses, coverage,
        frames_per_s, wait_share, padding), and the last row of the curves.
    """

    folder: Path
    upstream: Path
    result: Mapping[str, Any]


def pretrain(
    architecture: str,
    corpus: FrameCorpus,
    out: str | Path,
    *,
    options: PretrainOptions | None = None,
    on_progress: OnProgress | None = None,
) -> PretrainingRun:
    """Pre-train an encoder on speech, without emotion labels.

    The same call goes on where a run was broken off, at whatever moment, and on the CPU ends in the same weights, to
    the bit, as one that was not. The folder holds ``upstream/`` (what was learned, for `subtone.upstreams.load`),
    ``checkpoint/``, ``curves.csv``, ``curves.png`` and ``run.json``.

    Parameters
    ----------
    architecture
        ``"mockingjay"`` or ``"npc"``.
    corpus
        What is learned from; see `subtone.pretraining.frames.prepare`.
    out
        Folder of the run; must be new, or hold a run with the same settings.
    options
        How; the defaults of the architecture when None. With several ``devices`` the script is started again for
        each process by Lightning Fabric, unless a launcher such as torchrun has done so.
    on_progress
        Told twice a second how far it is, in the first process.

    Raises
    ------
    PretrainingError
        If the folder holds a run with other settings, or another corpus, or another process trains there; if a loss
        is not finite, memory runs out, or a checkpoint is damaged.
    UsageError
        If the corpus is empty, holds no utterance long enough, or lacks what the options need.
    """
    options = PretrainOptions.defaults(architecture) if options is None else options
    objective = objective_of(architecture, options)
    _check(corpus, objective, options)
    whole, corpus = corpus, corpus.select(corpus.lengths >= options.min_frames)
    with _alone_in(Path(out)):
        fabric = _launched(options)
        left_out = len(whole) - len(corpus)
        run = _Run(architecture, corpus, left_out, Path(out), options, fabric, objective)
        cuda = [fabric.device] if fabric.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=cuda):
                return run.finish(on_progress if fabric.is_global_zero else None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise PretrainingError(
                f"{out}: not enough memory for {options.batch_size} utterances of up to {options.crop_frames or 2000} "
                "frames at a time; give a smaller batch size (with more batches to an update) or shorter crops"
            ) from error


def objective_of(architecture: str, options: PretrainOptions) -> Objective:
    """Return what is trained, with fresh weights; also a check of options before recordings are decoded.

    Raises
    ------
    UsageError
        If the choice leaves nothing to learn, or this machine has too few devices.
    """
    if options.accelerator == "cuda" and torch.cuda.device_count() < options.devices:
        raise UsageError(
            f"pretrain: {options.devices} CUDA devices are asked for, this machine has {torch.cuda.device_count()}"
        )
    return build_objective(
        architecture,
        options.size,
        masking=options.masking,
        share=options.share,
        span=options.span,
        intensity_input=options.intensity_input,
        intensity_target=options.intensity_target,
        seed=options.seed,
    )


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot become that of a run; also a check before recordings are decoded.

    Raises
    ------
    PretrainingError
        If it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise PretrainingError(f"{folder}: is a file; name a new folder for the run")
    if not folder.is_dir() or (folder / RUN).exists():
        return
    # Hidden: the lock, and what a killed run had half written.
    if any(path.name != FRAMES and path.name[0] != "." for path in folder.iterdir()):
        raise PretrainingError(f"{folder}: holds other files and no {RUN}; name a new folder for the run")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Have the folder of a run alone; of processes that train together, the first has it for all."""
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
        yield
        return
    check_place(folder)
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = stack.enter_context(alone_if_free(folder / _LOCK))
        except OSError as error:
            raise PretrainingError(
                f"{folder}: cannot be written: {error.strerror or error}; name another folder for the run"
            ) from error
        if not free:
            raise PretrainingError(
                f"{folder}: another process is training there; wait for its end, or name another folder for the "
                "run"
            )
        yield


def _check(corpus: FrameCorpus, objective: Objective, options: PretrainOptions) -> None:
    features = _encoder(objective).options.features
    if not len(corpus):
        raise UsageError(f"{corpus.folder}: no utterance to learn from; all recordings are too short")
    if corpus.num_mel != features.num_mel:
        raise UsageError(
            f"{corpus.folder}: has {corpus.num_mel} mel bands and the encoder takes {features.num_mel}; prepare the "
            "recordings in another folder"
        )
    if objective.needs_intensity and not corpus.has_intensity:
        raise UsageError(
            f"{corpus.folder}: has no intensities, which this masking or objective needs; prepare the recordings in "
            "another folder with an intensity model"
        )
    longest = int(corpus.lengths.max())
    if longest < options.min_frames:
        raise UsageError(
            f"{corpus.folder}: no utterance has {options.min_frames} frames, the longest {longest}; give longer "
            "recordings, or a lower least number of frames"
        )
    longest = min(longest, options.crop_frames or longest)
    if objective.masking.strategy != "none" and not objective.masking.owed(longest):
        raise UsageError(
            f"{corpus.folder}: no utterance, of {longest} frames at most, is long enough for a span of "
            f"{options.span} to be {options.share:g} of it, so nothing would be hidden; give longer recordings, a "
            "larger share, longer crops or shorter spans"
        )


def _encoder(objective: Objective) -> FilterBankEncoder[Any]:
    assert isinstance(objective.encoder, FilterBankEncoder)
    return objective.encoder


def _launched(options: PretrainOptions) -> Fabric:
    devices, nodes = options.devices, 1
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes, and knows how many
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    with _quietly():
        fabric = Fabric(
            accelerator=options.accelerator,
            strategy="ddp" if devices * nodes > 1 else "auto",
            devices=devices,
            num_nodes=nodes,
            precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        )
        fabric.launch()
    return fabric


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what Fabric tells of itself from the terminal; warnings are told."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Run:
    """One call of :func:`pretrain`, in one process."""

    def __init__(
        self,
        architecture: str,
        corpus: FrameCorpus,
        left_out: int,
        folder: Path,
        options: PretrainOptions,
        fabric: Fabric,
        objective: Objective,
    ) -> None:
        self._architecture, self._corpus, self._folder = architecture, corpus, folder
        self._left_out = left_out
        self._options, self._fabric, self._objective = options, fabric, objective
        self._first = fabric.is_global_zero
        self._about = self._description()

    def finish(self, on_progress: OnProgress | None) -> PretrainingRun:
        """Train to the end from wherever the folder stands."""
        self._claim()
        options = self._options
        checkpoints = Checkpoints(self._folder / CHECKPOINTS, options.keep)
        trainer = Trainer(self._fabric, self._objective, options)
        if self._first:
            checkpoints.sweep()
            for place in (self._folder, self._folder / UPSTREAM):
                sweep_partial(place)
        self._fabric.barrier()
        note = checkpoints.load(self._objective, trainer.optimiser)
        begun = 0 if note is None else int(note["step"])
        whole = Totals() if note is None else Totals(**note["totals"])
        curves = Curves(self._folder / CURVES, begun) if self._first else None
        self._fabric.barrier()
        sampler = Sampler(self._corpus.lengths, options.batch_size, options.crop_frames, options.seed)
        loader = Loader(
            trainer.numbers(begun),
            self._corpus,
            sampler,
            deltas=_encoder(self._objective).options.deltas,
            intensity=self._objective.needs_intensity,
        )
        since = Totals()
        with loader:
            for done, totals in trainer.steps(loader, begun, on_progress):
                since.add(totals)
                last = done == options.steps
                saving = last or done % options.checkpoint_every == 0
                if done % options.log_every == 0 or saving:
                    whole.add(since)
                    if curves is not None:
                        epoch = done * trainer.batches_per_step / sampler.batches_per_epoch
                        rate = learning_rate(options, done - 1)
                        curves.add({"step": done, "epoch": epoch, "learning_rate": rate, **since.row()})
                    since = Totals()
                if saving and self._first:
                    checkpoints.save(done, self._objective, trainer.optimiser, {"totals": asdict(whole)})
                    self._save_upstream()
        if self._first:
            self._tell(whole)
        self._fabric.barrier()
        return PretrainingRun(self._folder, self._folder / UPSTREAM, self._result(whole))

    def _description(self) -> dict[str, Any]:
        corpus = self._corpus
        return {
            "schema": SCHEMA,
            "architecture": self._architecture,
            "settings": self._options.binding(self._fabric.world_size),
            "corpus": {
                "digest": corpus.digest,
                "utterances": len(corpus),
                "left_out_as_short": self._left_out,
                "frames": corpus.num_frames,
                "hours": round(corpus.hours, 4),
                "intensity": corpus.made_by["intensity"],
            },
            "parameters": {
                "encoder": sum(p.numel() for p in self._objective.encoder.parameters()),
                "with_heads": sum(p.numel() for p in self._objective.parameters()),
            },
            "versions": {name: version(name) for name in ("subtone", "torch", "lightning-fabric", "numpy")},
            "processes": self._fabric.world_size,
            "device": str(self._fabric.device),
        }

    def _claim(self) -> None:
        """Make the folder that of this run, or check that it is."""
        path = self._folder / RUN
        if path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                differs = _differences(found, json.loads(json.dumps(self._about)))
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise PretrainingError(
                    f"{path}: is damaged ({error}); name another folder for the run"
                ) from error
            if differs:
                raise PretrainingError(
                    f"{self._folder}: holds a run with another {', another '.join(differs)}; name another "
                    "folder for the run, or delete this one"
                )
            return
        self._fabric.barrier()  # all have looked
        if self._first:
            write_whole(path, json.dumps(self._about, indent=2).encode())

    def _save_upstream(self) -> None:
        """Write the encoder as an upstream; its heads stay in the checkpoint."""
        family = ARCHITECTURES[self._architecture].upstream
        family.from_encoder(_encoder(self._objective)).save(self._folder / UPSTREAM)

    def _tell(self, whole: Totals) -> None:
        rows = read_curves(self._folder / CURVES)
        self._save_upstream()
        if rows:  # none if the curves of a finished run were deleted
            draw_curves(rows, self._folder / PICTURE, f"{self._architecture} {self._options.masking}")
        about = {**self._about, "result": self._result(whole)}
        write_whole(self._folder / RUN, json.dumps(about, indent=2).encode())

    def _result(self, whole: Totals) -> dict[str, Any]:
        means = {name: round(value, 6) for name, value in whole.row().items()}
        return {
            "steps": whole.steps,
            "seconds": round(whole.seconds, 2),
            "frames": int(whole.frames),
            **means,
        }


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in what a run differs from the one that was begun, both values each.

    A setting that the one begun does not tell, being older than the setting, had its default.
    """
    known = {field.name: field.default for field in fields(PretrainOptions)}
    told = []
    if found["schema"] != wanted["schema"]:
        return [f"schema ({found['schema']}, now {wanted['schema']})"]
    if found["architecture"] != wanted["architecture"]:
        told.append(f"architecture ({found['architecture']}, now {wanted['architecture']})")
    for name in {**found["settings"], **wanted["settings"]}:
        before, now = found["settings"].get(name, known.get(name)), wanted["settings"].get(name)
        if before != now:
            told.append(f"{name} ({before}, now {now})")
    if found["corpus"]["digest"] != wanted["corpus"]["digest"]:
        told.append(
            f"corpus ({found['corpus']['utterances']} utterances, now {wanted['corpus']['utterances']}"
            + (
                ", of other content)"
                if found["corpus"]["utterances"] == wanted["corpus"]["utterances"]
                else ")"
            )
        )
    return told
