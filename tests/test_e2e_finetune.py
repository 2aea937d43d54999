"""Fine-tuning: a plain loop's weights, the same after any kill, alone or shared out, and blind to the test clips."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from subtone import upstreams
from subtone.errors import RecipeError, TrainingError, UsageError
from subtone.pretraining.curves import read_curves
from subtone.training.end_to_end import fit as fitting
from subtone.training.end_to_end.augmentation import AugmentationOptions
from subtone.training.end_to_end.finetune import FoldClips, finetune, whole_batch
from subtone.training.end_to_end.frames import encode_frames
from subtone.training.end_to_end.launching import launched
from subtone.training.end_to_end.network import Downstream, Tuned, shape_of
from subtone.training.end_to_end.options import FinetuneOptions, FitOptions
from subtone.training.end_to_end.plan import Plan
from subtone.training.end_to_end.spec_masking import SpecMasking
from subtone.training.end_to_end.tuning import Tuning, plain_state
from subtone.training.end_to_end.weighing import class_weights
from tests import small_clips, tiny_upstreams

#: What a process that shares the training does: the same call, its place told by the launcher.
SHARED = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from subtone import upstreams
from subtone.training.end_to_end.finetune import finetune
from subtone.training.end_to_end.launching import launched
from subtone.training.end_to_end.spec_masking import SpecMasking
from tests import small_clips
order = json.loads(sys.argv[1])
fabric = launched("fp32", devices=order["devices"], strategy=order["strategy"])
if fabric.is_global_zero:
    small_clips.decoded(Path(order["data"]))
fabric.barrier()
fold = small_clips.fold(Path(order["data"]))
masking = SpecMasking(**order["options"].get("masking", {}))
told = (lambda state: print(state.step, flush=True)) if order.get("tell") else None
tuned = finetune(fabric, lambda: upstreams.load(order["upstream"]), fold, Path(order["out"]),
                 small_clips.options(**{**order["options"], "masking": masking}), seed=3, on_progress=told)
if fabric.is_global_zero:
    tuned.load("averaged").save(Path(order["out"]) / "averaged")
fabric.barrier()
"""
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    small_clips.decoded(folder)
    return folder


@pytest.fixture(scope="module")
def fold(data: Path) -> FoldClips:
    return small_clips.fold(data)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_upstreams.write(tmp_path_factory.mktemp("whisper"), "whisper-80")


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_upstreams.write(tmp_path_factory.mktemp("wav2vec2"), "wav2vec2-group")


def trained(
    upstream: Path, fold: FoldClips, out: Path, options: FinetuneOptions, seed: int = 3
) -> dict[str, torch.Tensor]:
    """Fine-tune in this process; return the averaged weights."""
    fabric = launched(options.fit.precision)
    tuned = finetune(fabric, partial(upstreams.load, upstream), fold, out, options, seed=seed)
    return plain_state(tuned.load("averaged"))


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], within: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=within, rtol=1e-4, msg=name)


def start(order: dict[str, Any], *, command: list[str] | None = None) -> subprocess.Popen[str]:
    script = Path(order["out"]).with_suffix(".py")
    script.write_text(SHARED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*(command or [sys.executable]), str(script), json.dumps(order)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def run(order: dict[str, Any], *, command: list[str] | None = None) -> dict[str, torch.Tensor]:
    """Fine-tune in processes of their own; return the averaged weights."""
    process = start(order, command=command)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    return load_file(Path(order["out"]) / "averaged" / "model.safetensors")


def test_the_weights_are_those_of_a_plain_loop(fold: FoldClips, whisper: Path, tmp_path: Path) -> None:
    options = small_clips.options(fit={"epochs": 2, "average": 1, "accumulate": 2, "clip_norm": 0.1})
    found = trained(whisper, fold, tmp_path / "run", options)
    upstream = upstreams.load(whisper)
    torch.manual_seed(3)
    downstream = Downstream([shape_of(upstream, "last")], 3)
    network = Tuned(upstream, downstream, "last").train()
    weights = class_weights(fold.targets[fold.train], 3, "balanced")
    parameters = [p for p in upstream.module.parameters() if p.requires_grad]  # type: ignore[union-attr]
    optimiser = torch.optim.AdamW(
        [{"params": parameters, "lr": 1.0}, {"params": downstream.parameters(), "lr": 1.0}], weight_decay=0.01
    )
    plan = Plan(fold.train, fold.clips.lengths, 25_600, 2, 2, seed=3)
    states, scores, step, steps = [], [], 0, plan.steps
    warmup = round(0.1 * steps)
    for epoch in range(2):
        batches = plan.batches(epoch)
        for first in range(0, len(batches), 2):
            pieces = [piece for batch in batches[first : first + 2] for piece in batch]
            total = sum(
                weights[fold.targets[piece.clip]]
                * torch.nn.functional.cross_entropy(
                    network(whole_batch(fold, np.array([piece.clip]))),
                    torch.tensor([fold.targets[piece.clip]]),
                )
                for piece in pieces
            )
            optimiser.zero_grad()
            (total / sum(weights[fold.targets[piece.clip]] for piece in pieces)).backward()  # type: ignore[union-attr]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
            factor = (step + 1) / warmup if step < warmup else (steps - step) / (steps - warmup)
            optimiser.param_groups[0]["lr"], optimiser.param_groups[1]["lr"] = 1e-3 * factor, 1e-3 * factor
            optimiser.step()
            step += 1
        network.eval()
        with torch.no_grad():
            answers = [int(network(whole_batch(fold, np.array([row]))).argmax()) for row in fold.dev]
        hits = np.array(answers) == fold.targets[fold.dev]
        scores.append(
            np.mean([hits[fold.targets[fold.dev] == c].mean() for c in set(fold.targets[fold.dev])])
        )
        states.append(plain_state(upstream))
        network.train()
    rows = read_curves(tmp_path / "run" / "curves.csv")
    np.testing.assert_allclose([row["dev_ua"] for row in rows], scores, atol=1e-6)
    best = min(range(2), key=lambda e: (-rows[e]["dev_ua"], rows[e]["dev_loss"], e))
    assert_close(states[best], found, 1e-4)


def test_the_averaged_weights_are_the_mean_of_the_best_epochs(
    fold: FoldClips, whisper: Path, tmp_path: Path
) -> None:
    options = small_clips.options(fit={"epochs": 4, "average": 2})
    found = trained(whisper, fold, tmp_path / "run", options)
    rows = read_curves(tmp_path / "run" / "curves.csv")
    ranked = sorted(rows, key=lambda row: (-row["dev_ua"], row["dev_loss"], row["epoch"]))
    files = [tmp_path / "run" / "epochs" / f"epoch-{int(row['epoch']):04d}.safetensors" for row in ranked[:2]]
    states = [load_file(file) for file in files]
    for name, value in found.items():
        mean = (states[0][f"upstream/{name}"] + states[1][f"upstream/{name}"]) / 2
        torch.testing.assert_close(value, mean)


@pytest.mark.parametrize("family", ["whisper-80", "wav2vec2-group", "w2v-bert-relative"])
def test_how_clips_are_put_into_batches_changes_nothing_but_rounding(
    family: str, fold: FoldClips, tmp_path: Path
) -> None:
    folder = tiny_upstreams.write(tmp_path / "upstream", family, hidden_dropout=0.0)
    network = upstreams.load(folder)
    for part in network.module.modules():  # type: ignore[union-attr]
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    downstream = Downstream([shape_of(network, "last")], 3)
    tuned = Tuned(network, downstream, "last").eval()
    rows = fold.train[:5]
    whole = whole_batch(fold, rows)
    loss = torch.nn.functional.cross_entropy(tuned(whole), whole.targets, reduction="sum")
    loss.backward()
    together = {n: p.grad.clone() for n, p in tuned.named_parameters() if p.grad is not None}
    tuned.zero_grad()
    for row in rows:
        one = whole_batch(fold, np.array([row]))
        torch.nn.functional.cross_entropy(tuned(one), one.targets, reduction="sum").backward()
    for name, parameter in tuned.named_parameters():
        if name in together:
            assert parameter.grad is not None
            scale = together[name].abs().max().item()
            torch.testing.assert_close(
                parameter.grad, together[name], atol=2e-4 * scale + 1e-6, rtol=1e-3, msg=name
            )


def test_nothing_of_the_test_clips_reaches_the_weights(
    fold: FoldClips, whisper: Path, tmp_path: Path
) -> None:
    first = trained(whisper, fold, tmp_path / "one", small_clips.options())
    tested = np.setdiff1d(np.arange(len(fold.clips)), np.concatenate([fold.train, fold.dev]))
    moved = fold.targets.copy()
    moved[tested] = (moved[tested] + 1) % 3
    missing = list(fold.clips.paths)
    for row in tested:
        missing[row] = tmp_path / "nowhere"
    blind = replace(fold, targets=moved, clips=replace(fold.clips, paths=tuple(missing)))
    second = trained(whisper, blind, tmp_path / "other", small_clips.options())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_in_the_middle_of_epochs_and_run_again_the_weights_are_the_same_to_the_bit(
    data: Path, wav2vec2: Path, tmp_path: Path
) -> None:
    order: dict[str, Any] = {
        "data": str(data),
        "upstream": str(wav2vec2),
        "devices": 1,
        "strategy": "ddp",
        "tell": True,
        "options": {
            "fit": {"epochs": 12, "average": 3, "dropout": 0.2, "batch_s": 1.2},
            "checkpoint_every": 2,
        },
    }
    whole = run({**order, "out": str(tmp_path / "whole")})
    chance = random.Random(1)
    killed = 0
    for _ in range(3):
        process = start({**order, "out": str(tmp_path / "killed")})
        assert process.stdout is not None
        process.stdout.readline()  # the first step is done
        time.sleep(chance.uniform(0.0, 0.4))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
    again = run({**order, "out": str(tmp_path / "killed")})
    assert killed > 0
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    timed = ("audio_s_per_s", "wait_share")
    curves = [
        [
            {k: v for k, v in row.items() if k not in timed}
            for row in read_curves(tmp_path / name / "curves.csv")
        ]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("family", "strategy", "torchrun"),
    [
        ("whisper-80", "ddp", True),
        ("whisper-80", "fsdp", False),
        ("wav2vec2-group", "ddp", False),  # whose vector for hidden frames has to be reached in every process
    ],
)
def test_two_processes_learn_what_one_learns_from_the_same_updates(
    data: Path, tmp_path: Path, family: str, strategy: str, torchrun: bool
) -> None:
    folder = tiny_upstreams.write(tmp_path / "upstream", family)
    # Three batches an epoch: in the second update one of the processes has none.
    fit = {"epochs": 2, "average": 2, "batch_s": 2.1, "dropout": 0.1}
    masking = {"time_share": 0.3, "time_span": 2}
    fold = small_clips.fold(data)
    plan = Plan(fold.train, fold.clips.lengths, round(2.1 * 16_000), 2, 2, seed=3)
    assert all(len(plan.batches(epoch)) % 2 for epoch in range(2))
    order = {"data": str(data), "upstream": str(folder)}
    command = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
    two = run(
        {
            **order,
            "out": str(tmp_path / "two"),
            "devices": 1 if torchrun else 2,
            "strategy": strategy,
            "options": {"fit": fit, "checkpoint_every": 2, "masking": masking},
        },
        command=command if torchrun else None,
    )
    settings = small_clips.options(fit={**fit, "accumulate": 2}, masking=SpecMasking(**masking))
    one = trained(folder, fold, tmp_path / "one", settings)
    prefix = upstreams.load(folder).weights_prefix  # type: ignore[attr-defined]
    assert_close(one, {name.removeprefix(prefix): value for name, value in two.items()}, 5e-5)


@pytest.mark.parametrize("train", ["top-layers", "lora", "nothing"])
def test_only_what_is_tuned_changes(fold: FoldClips, whisper: Path, tmp_path: Path, train: Any) -> None:
    tuning = Tuning(train=train, top_layers=1, lora_rank=2)
    found = trained(whisper, fold, tmp_path / "run", small_clips.options(tuning=tuning))
    before = plain_state(upstreams.load(whisper))
    assert found.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], found[name])}
    if train == "nothing":
        assert not changed
    elif train == "top-layers":
        assert changed
        assert all(name.startswith(("layers.1.", "layer_norm.")) for name in changed)
    else:
        assert changed
        assert all(name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "out_proj") for name in changed)


def test_masks_noise_and_bfloat16_train_and_are_reproducible(
    fold: FoldClips, wav2vec2: Path, tmp_path: Path
) -> None:
    pytest.importorskip("audiomentations", reason="needs the extra augment")
    options = small_clips.options(
        fit={"precision": "bf16", "label_smoothing": 0.1, "dropout": 0.3},
        masking=SpecMasking(time_share=0.3, time_span=2),
        augmentation=AugmentationOptions(noise=0.5, speed=0.5, reverb=0.5, gain=0.5),
        layers="mix",
        crop_s=0.4,
    )
    first = trained(wav2vec2, fold, tmp_path / "one", options)
    again = trained(wav2vec2, fold, tmp_path / "other", options)
    otherwise = trained(wav2vec2, fold, tmp_path / "third", options, seed=4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], otherwise[name]) for name in first)
    assert not torch.equal(
        first["masked_spec_embed"], plain_state(upstreams.load(wav2vec2))["masked_spec_embed"]
    )


def test_training_stops_early_when_development_stands_still(
    fold: FoldClips, whisper: Path, tmp_path: Path
) -> None:
    options = small_clips.options(
        fit={"epochs": 30, "patience": 2, "learning_rate": 1e-9}, upstream_learning_rate=1e-9
    )
    loaded = partial(upstreams.load, whisper)
    tuned = finetune(launched("fp32"), loaded, fold, tmp_path / "run", options, seed=0)
    assert tuned.fitted.epochs < 30
    best = tuned.fitted.best.kept[0].epoch
    assert tuned.fitted.epochs == best + 1 + 2


def test_logs_are_there_for_tensorboard_and_as_csv(fold: FoldClips, whisper: Path, tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    told = []
    loaded = partial(upstreams.load, whisper)
    options = small_clips.options()
    finetune(launched("fp32"), loaded, fold, tmp_path / "run", options, seed=0, on_progress=told.append)
    rows = read_curves(tmp_path / "run" / "curves.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert told[-1].remaining_s == 0
    assert "epoch 3 of 3" in told[-1].sentence()
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    content, tags, at = file.read_bytes(), set(), 0
    while at < len(content):  # length, its checksum, event, its checksum
        size = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + size])
        tags |= {value.tag for value in event.summary.value}
        at += 16 + size
    assert {"step/loss", "epoch/dev_ua", "epoch/loss"} <= tags


def test_another_run_in_the_folder_is_told(fold: FoldClips, whisper: Path, tmp_path: Path) -> None:
    trained(whisper, fold, tmp_path / "run", small_clips.options(fit={"epochs": 1}))
    with pytest.raises(TrainingError, match=r"another settings\.fit\.epochs \(1, now 2\)"):
        trained(whisper, fold, tmp_path / "run", small_clips.options(fit={"epochs": 2}))


def test_no_memory_names_the_knob(
    fold: FoldClips, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fitting.functional, "cross_entropy", full)
    with pytest.raises(TrainingError, match=r"halve batch_s.*accumulate.*gradient_checkpointing"):
        trained(whisper, fold, tmp_path / "run", small_clips.options())


def test_a_loss_that_is_no_number_stops_the_training(fold: FoldClips, whisper: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no finite number; try lower learning rates"):
        trained(whisper, fold, tmp_path / "run", small_clips.options(upstream_learning_rate=1e30))


def test_without_development_clips_the_last_epochs_count(
    fold: FoldClips, whisper: Path, tmp_path: Path
) -> None:
    alone = replace(fold, dev=np.zeros(0, np.int64))
    loaded, options = partial(upstreams.load, whisper), small_clips.options(fit={"epochs": 3, "average": 2})
    tuned = finetune(launched("fp32"), loaded, alone, tmp_path / "run", options, seed=0)
    assert sorted(one.epoch for one in tuned.fitted.best.kept) == [1, 2]
    assert math.isnan(tuned.dev_ua["averaged"])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fit": FitOptions(batch_s=5.0), "crop_s": 9.0}, "crop_s = 9 must be from 0.1 to batch_s = 5"),
        ({"layers": "first"}, "layers 'first' is not known"),
        ({"upstream_learning_rate": 0.0}, "upstream_learning_rate = 0.0 must be above 0"),
    ],
)
def test_options_out_of_range_are_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        FinetuneOptions(**wrong)


@pytest.mark.parametrize(("device", "told"), [("cuda", "has no CUDA devices"), ("foo", "none to train on")])
def test_a_device_that_is_not_there_is_told(device: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        launched("fp32", device=device)


def test_the_cpu_is_taken_where_there_are_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_fabric.accelerators.cuda.CUDAAccelerator.is_available", lambda: True)
    assert launched("fp32").device.type == "cpu"


def test_a_damaged_checkpoint_leaves_the_one_before(fold: FoldClips, whisper: Path, tmp_path: Path) -> None:
    options = small_clips.options(fit={"epochs": 4, "average": 2})
    whole = trained(whisper, fold, tmp_path / "run", options)
    newest = sorted((tmp_path / "run" / "checkpoint").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"is damaged .*the checkpoint before it"):
        trained(whisper, fold, tmp_path / "run", options)
    newest.unlink()
    again = trained(whisper, fold, tmp_path / "run", options)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_full_disk_is_told(
    fold: FoldClips, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(TrainingError, match="frames cannot be written: No space left on device; make room"):
        encode_frames(upstreams.load(whisper), fold.clips, tmp_path / "frames", "last")
