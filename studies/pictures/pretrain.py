"""Pre-train the small CNN that ships, ``subtone-pictures``, on log-mel pictures of two seconds of sound.

    python studies/pictures/pretrain.py --emotale DIR --emotiontts-ko DIR --baved DIR --nonverbal DIR \\
        --out src/subtone/training/segments/shipped/subtone-pictures

Three tasks at once, a linear head each: emotions, intensity, kinds of non-speech sounds. Trained twice: without every
fifth speaker, for the figures (``results.json`` beside this script), then on everybody, for what is written to OUT
without its heads.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from clips import TASKS, UPSTREAM, Task, read_tasks
from torch import Tensor, nn
from torch.nn import functional

from subtone import upstreams
from subtone.audio import SAMPLE_RATE_HZ
from subtone.evaluation import describe_environment
from subtone.evaluation.metrics import confusion, unweighted_accuracy
from subtone.training.segments.image_cnn import SHIPPED, ImageCNN, save_image_cnn

RESNET = {
    "num_channels": 1,
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128, 192],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
WINDOW_S = 2.0
STEPS, WARM_UP = 600, 30
BATCH = {"emotion": 28, "intensity": 18, "sound": 18}
RATE, DECAY, SMOOTHING = 2e-3, 0.05, 0.1
GAIN_DB = 10.0
MASKED_BANDS, MASKED_FRAMES = 16, 30
EVERY = 5  # of the speakers, one is held out
Picture = npt.NDArray[np.float32]


class Pictures:
    """Windows of clips, standardised band by band."""

    def __init__(self, tasks: Mapping[str, Task], training: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        heard = [tasks[name].frames[clip] for name in tasks for clip in np.flatnonzero(training[name])]
        frames = np.concatenate(heard).astype(np.float32)
        self.mean, deviation = frames.mean(0, dtype=np.float64), frames.std(0, dtype=np.float64)
        # Of 128 bands the lowest are narrower than the spectrum's lines, and some hold none: they are 0 in pictures.
        self.scale = np.where(deviation > 1e-3, deviation, np.inf)
        self.width = upstreams.load(UPSTREAM).grid.num_frames(round(WINDOW_S * SAMPLE_RATE_HZ))

    def drawn(self, frames: npt.NDArray[np.float16], rng: np.random.Generator) -> Picture:
        """Cut a window at random, change its gain, hide bands and frames; ``(1, bands, frames)``."""
        spare = len(frames) - self.width
        begin = int(rng.integers(min(0, spare), max(0, spare) + 1))
        gain = rng.uniform(-GAIN_DB, GAIN_DB) * np.log(10) / 10  # frames are logarithms of energies
        picture = self._cut(frames, begin, gain)
        for axis, most in ((1, MASKED_BANDS), (2, MASKED_FRAMES)):
            for _ in range(2):
                size = int(rng.integers(0, most + 1))
                place = int(rng.integers(0, picture.shape[axis] - size + 1))
                picture[(slice(None),) * axis + (slice(place, place + size),)] = 0
        return picture

    def all(self, frames: npt.NDArray[np.float16]) -> Picture:
        """Return windows that overlap by half and reach the clip's end; ``(windows, 1, bands, frames)``."""
        last = len(frames) - self.width
        if last <= 0:
            return self._cut(frames, last // 2)[None]
        count = 1 + -(-last // (self.width // 2))
        return np.stack([self._cut(frames, round(begin)) for begin in np.linspace(0, last, count)])

    def _cut(self, frames: npt.NDArray[np.float16], begin: int, gain: float = 0.0) -> Picture:
        """Return frames from one on, which may lie before the first; what is not there is the mean."""
        picture = np.zeros((1, frames.shape[1], self.width), np.float32)
        there = frames[max(0, begin) : begin + self.width].astype(np.float32)  # (frames, bands)
        start = max(0, -begin)
        picture[0, :, start : start + len(there)] = ((there + gain - self.mean) / self.scale).T
        return picture


class Heads(nn.Module):
    """The CNN with a linear layer a task."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        config = transformers.ResNetConfig(**RESNET)
        described = config.to_diff_dict()
        taught_on = tuple(sorted({*TASKS["emotion"], *TASKS["intensity"]}))
        self.cnn = ImageCNN(transformers.AutoModel.from_config(config), described, SHIPPED, taught_on)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.cnn.dim, len(t.labels)) for name, t in tasks.items()}
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return logits of every task, ``(batch, classes)`` each."""
        vectors = self.cnn(pictures).float()  # (batch, dim)
        return {name: head(vectors) for name, head in self.heads.items()}


def train(
    tasks: Mapping[str, Task], training: Mapping[str, npt.NDArray[np.bool_]], seed: int, steps: int
) -> tuple[Heads, Pictures]:
    """Train on the clips that ``training`` marks; a batch holds clips of all tasks."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pictures, network = Pictures(tasks, training), Heads(tasks)
    network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=WARM_UP / steps)
    orders = {name: _endless(np.flatnonzero(training[name]), rng) for name in tasks}
    lost = dict.fromkeys(tasks, 0.0)
    for step in range(steps):
        batch = {name: [next(orders[name]) for _ in range(size)] for name, size in BATCH.items()}
        drawn = [
            pictures.drawn(tasks[name].frames[clip], rng) for name, clips in batch.items() for clip in clips
        ]
        given = torch.from_numpy(np.stack(drawn)).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(given)
        loss, start = torch.zeros(()), 0
        for name, clips in batch.items():
            mine = logits[name][start : start + len(clips)].float()
            one = functional.cross_entropy(
                mine, torch.from_numpy(tasks[name].truth[clips]), label_smoothing=SMOOTHING
            )
            start, loss, lost[name] = start + len(clips), loss + one, lost[name] + float(one.detach())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        rate.step()
        if (step + 1) % 100 == 0:
            print(step + 1, {name: round(value / 100, 3) for name, value in lost.items()}, flush=True)
            lost = dict.fromkeys(tasks, 0.0)
    return network.eval(), pictures


def _endless(clips: npt.NDArray[np.int64], rng: np.random.Generator) -> Any:
    """Give clips in one random order after another."""
    while True:
        yield from rng.permutation(clips)


@torch.inference_mode()
def measure(
    network: Heads, pictures: Pictures, tasks: Mapping[str, Task], tested: Mapping[str, npt.NDArray[np.bool_]]
) -> dict[str, Any]:
    """UA of each task and corpus: a clip is answered by the mean logarithm of its windows' probabilities."""
    record: dict[str, Any] = {}
    for name, task in tasks.items():
        clips = np.flatnonzero(tested[name])
        said = np.zeros(len(task.truth), np.int64)
        for clip in clips:
            logits = network(torch.from_numpy(pictures.all(task.frames[clip])))[name]
            said[clip] = int(functional.log_softmax(logits, -1).mean(0).argmax())
        for corpus in TASKS[name]:
            mine = clips[task.corpora[clips] == corpus]
            matrix = confusion(task.truth[mine], said[mine], len(task.labels))
            recalls = {
                label: round(100 * matrix[k, k] / matrix[k].sum(), 1)
                for k, label in enumerate(task.labels)
                if matrix[k].sum()
            }
            record[f"{name}, {corpus}"] = {
                "ua": round(100 * float(unweighted_accuracy(matrix.diagonal(), matrix.sum(1))), 1),
                "chance": round(100 / len(recalls), 1),
                "clips": len(mine),
                "speakers": len(set(task.speakers[mine])),
                "recalls": recalls,
            }
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for names in TASKS.values():
        for name in names:
            parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CNN")
    parser.add_argument("--cache", type=Path, metavar="NPZ", help="where frames are kept between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--held-out-only", action="store_true", help="print figures, write nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)  # sums in another order would be other weights
    folders = {name: getattr(given, name.replace("-", "_")) for names in TASKS.values() for name in names}
    tasks = read_tasks(folders, given.cache)
    tested = {name: task.held_out(given.seed, EVERY) for name, task in tasks.items()}
    begun = time.perf_counter()
    network, pictures = train(tasks, {name: ~one for name, one in tested.items()}, given.seed, given.steps)
    trained_s = time.perf_counter() - begun
    record: dict[str, Any] = {"held_out": measure(network, pictures, tasks, tested)}
    print(f"{trained_s:.0f} s", json.dumps(record, indent=1), flush=True)
    if given.held_out_only:
        return
    everybody = {name: np.ones(len(task.truth), bool) for name, task in tasks.items()}
    network, _ = train(tasks, everybody, given.seed, given.steps)
    save_image_cnn(network.cnn, given.out, dtype=torch.float16)
    record["training_s"] = round(trained_s)
    record["clips"] = {name: len(task.truth) for name, task in tasks.items()}
    command = (
        "python studies/pictures/pretrain.py --emotale DIR --emotiontts-ko DIR --baved DIR --nonverbal DIR"
    )
    command += f" --seed {given.seed} --steps {given.steps} --out OUT"
    record["environment"] = describe_environment(seeds=(given.seed,), command=command, device="cpu")
    (Path(__file__).parent / "results.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
