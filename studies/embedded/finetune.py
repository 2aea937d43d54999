"""Train an encoder on the emotions of all corpora, and on what larger encoders make of the same audio.

The student hears a changed recording (see `augment`); its targets are of the recording as it is: the emotion, the
layers of the encoder that it was cut from (``--anchor-weight``), and those of a larger one (``--teacher-weight``).

    python finetune.py --cache CACHE --whisper WHISPER_TINY --hold-out design --out OUT [--teacher TEACHER]

Writes the encoder as a folder that `subtone.upstreams.load` reads, and ``training.json`` beside it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from augment import Augmentation
from cache import Cache
from holdouts import NAMES, held_out
from student import cut, frames, write
from torch import Tensor, nn
from torch.nn import functional

from subtone import upstreams

LABELS = ("anger", "boredom", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


class Clips:
    """Draws batches: corpora by the square root of their sizes, classes of a corpus alike, crops where speech is."""

    def __init__(self, cache: Cache, allowed: npt.NDArray[np.bool_], mels: int, seed: int) -> None:
        self.cache, self.mels, self.rng = cache, mels, np.random.default_rng(seed)
        table = cache.table
        self.target = np.array([LABELS.index(e) if isinstance(e, str) else -1 for e in table["emotion"]])
        corpus = table["corpus"].to_numpy(str)
        self.first, self.length = table["first_mel"].to_numpy(), table["mels"].to_numpy()
        begin = [s[0] // 160 if len(s) else 0 for s in table["starts"]]
        end = [-(-e[-1] // 160) if len(e) else n for e, n in zip(table["ends"], self.length, strict=True)]
        self.begin = np.maximum(np.array(begin) - 20, 0)
        self.end = np.minimum(np.array(end) + 20, self.length)
        self.known = np.zeros((len(table), len(LABELS)), bool)
        self.share = np.zeros(len(table))
        for name in np.unique(corpus):
            rows = np.flatnonzero((corpus == name) & allowed)
            if not len(rows):
                continue
            classes, counts = np.unique(self.target[rows], return_counts=True)
            self.known[np.ix_(rows, classes[classes >= 0])] = True
            self.share[rows] = np.sqrt(len(rows)) / (
                len(classes) * counts[np.searchsorted(classes, self.target[rows])]
            )
        self.rows = np.flatnonzero(self.share)
        self.share = self.share[self.rows] / self.share[self.rows].sum()

    def batch(self, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Tensor]:
        """Rows, the first mel frame of each crop (even), and spectrograms ``(size, 80, mels)``."""
        rows = self.rng.choice(self.rows, size, p=self.share)
        mel = np.empty((size, self.mels, 80), np.float32)
        starts = np.zeros(size, np.int64)
        for i, row in enumerate(rows):
            low, high = self.begin[row], self.end[row]
            if high - low > self.mels:
                starts[i] = self.rng.integers(low, high - self.mels + 1) // 2 * 2
            else:
                starts[i] = max(0, min(low, self.length[row] - self.mels)) // 2 * 2
            where = self.first[row] + starts[i]
            part = self.cache.mels[where : where + min(self.mels, self.length[row] - starts[i])]
            mel[i] = np.resize(part, (self.mels, 80))  # a shorter clip is said again
        return rows, starts, torch.from_numpy(mel.transpose(0, 2, 1).copy())


class Heads(nn.Module):
    """Emotions from means and deviations of all layers; the teacher's layers from the last layer's frames."""

    def __init__(self, layers: int, dim: int, teacher: tuple[int, int] | None, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * layers * dim, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(2 * layers * dim, len(LABELS))
        nn.init.zeros_(self.emotion.weight)
        self.teacher = nn.ModuleList(
            [nn.Linear(dim, teacher[1]) for _ in range(teacher[0])] if teacher else []
        )

    def forward(self, layers: list[Tensor]) -> Tensor:
        stacked = torch.cat(layers, 2).float()  # (batch, frames, layers * dim)
        pooled = torch.cat([stacked.mean(1), (stacked.var(1, correction=0) + 1e-5).sqrt()], 1)
        logits: Tensor = self.emotion(self.dropout(self.norm(pooled)))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--whisper", type=Path, required=True, help="folder of the encoder to start from")
    parser.add_argument("--hold-out", choices=NAMES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="what teacher.py wrote")
    parser.add_argument("--emotion-weight", type=float, default=1.0)
    parser.add_argument("--teacher-weight", type=float, default=1.0)
    parser.add_argument("--anchor-weight", type=float, default=0.0)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mels", type=int, default=240)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument(
        "--fall", type=float, default=0.7, help="learning rate of a layer over that of the next"
    )
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    cache = Cache(given.cache)
    allowed = ~held_out(cache.table, given.hold_out)
    if given.anchor_weight == 0:
        allowed &= cache.table["emotion"].notna().to_numpy()
    clips = Clips(cache, allowed, given.mels, given.seed)
    encoder = cut(given.whisper, given.layers, given.width, lambda: clips.batch(24)[2]).train()
    anchor = upstreams.load(str(given.whisper)).module.requires_grad_(False)
    anchor.layers = anchor.layers[: given.layers]
    spread = [layer.std((0, 1)) for layer in frames(anchor, clips.batch(24)[2])]
    targets = None
    if given.teacher is not None:
        about = json.loads((given.teacher / "teacher.json").read_text())
        targets = np.memmap(given.teacher / "frames.f16", np.float16, "r").reshape(-1, *about["shape"])
        scale = torch.tensor(about["scale"])  # (layers, dim)
        centre = torch.tensor(about["mean"])
        first_frame = np.array(about["first"])
        num_frames = np.array(about["frames"])
    heads = Heads(given.layers + 1, 384, None if targets is None else tuple(targets.shape[1:]), given.dropout)
    groups = []
    parts = [[encoder.conv1, encoder.conv2], *([layer] for layer in encoder.layers)]
    for depth, part in enumerate(parts):
        rate = given.rate * given.fall ** (len(parts) - 1 - depth)
        groups.append({"params": [p for m in part for p in m.parameters()], "lr": rate})
    groups.append({"params": list(encoder.layer_norm.parameters()), "lr": given.rate})
    groups.append({"params": list(heads.parameters()), "lr": 1e-3})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    top = [g["lr"] for g in groups]
    augment = Augmentation()
    generator = torch.Generator().manual_seed(given.seed)
    begun, cpu = time.perf_counter(), time.process_time()
    seen: list[tuple[float, ...]] = []
    for step in range(given.steps):
        done = step / given.steps
        scale_now = min(1.0, (step + 1) / (0.08 * given.steps)) * 0.5 * (1 + np.cos(np.pi * done))
        for group, rate in zip(optimiser.param_groups, top, strict=True):
            group["lr"] = rate * scale_now
        rows, starts, clean = clips.batch(given.batch)
        mel = augment(clean, generator)
        with torch.autocast("cpu", torch.bfloat16):
            layers = frames(encoder, mel)
        loss = torch.zeros(())
        hits = np.nan
        labelled = torch.from_numpy(clips.target[rows] >= 0)
        emotion = teacher = anchored = 0.0
        if given.anchor_weight:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                wanted_layers = frames(anchor, clean)
            part = torch.zeros(())
            # The last layer is normed, and so are its targets; layer 0 follows from the next.
            for mine, theirs, scale_of in list(zip(layers, wanted_layers, spread, strict=True))[1:]:
                part = part + ((mine.float() - theirs.float()) / scale_of).abs().mean()
            part = part / given.layers
            loss = loss + given.anchor_weight * part
            anchored = float(part.detach())
        if given.emotion_weight and labelled.any():
            logits = heads(layers)[labelled]
            known = torch.from_numpy(clips.known[rows])[labelled]
            truth = torch.from_numpy(clips.target[rows])[labelled]
            logits = logits.masked_fill(~known, -torch.inf)
            logp = logits.log_softmax(1)
            nll = -logp.gather(1, truth[:, None])[:, 0]
            even = -(logp.masked_fill(~known, 0.0)).sum(1) / known.sum(1)
            part = (0.9 * nll + 0.1 * even).mean()
            loss = loss + given.emotion_weight * part
            emotion, hits = float(part.detach()), float((logits.argmax(1) == truth).float().mean())
        if targets is not None and given.teacher_weight:
            at = starts // 2
            whole = num_frames[rows] - at >= layers[-1].shape[1]
            if whole.any():
                wanted = np.stack(
                    [targets[first_frame[r] + s : first_frame[r] + s + layers[-1].shape[1]] for r, s in
                     zip(rows[whole], at[whole], strict=True)]
                )  # (clips, frames, layers, dim)  # fmt: skip
                wanted_t = (torch.from_numpy(wanted).float() - centre) / scale
                last = layers[-1][torch.from_numpy(whole)]
                part = torch.zeros(())
                for k, head in enumerate(heads.teacher):
                    with torch.autocast("cpu", torch.bfloat16):
                        guess = head(last).float()
                    aim = wanted_t[:, :, k]
                    part = part + (guess - aim).abs().mean()
                    part = (
                        part - functional.logsigmoid(functional.cosine_similarity(guess, aim, dim=-1)).mean()
                    )
                part = part / len(heads.teacher)
                loss = loss + given.teacher_weight * part
                teacher = float(part.detach())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        seen.append((emotion, hits, teacher, anchored))
        if step % 20 == 19:
            mean = np.nanmean(np.array(seen[-20:]), 0)
            print(
                f"{given.hold_out} {step + 1}/{given.steps}: emotion {mean[0]:.3f}, right {100 * mean[1]:.1f} %, "
                f"teacher {mean[2]:.3f}, anchor {mean[3]:.3f}; "
                f"{(time.perf_counter() - begun) / (step + 1):.2f} s a step",
                flush=True,
            )
    write(encoder, given.out)
    options = {k: (v.name if isinstance(v, Path) else v) for k, v in vars(given).items()}
    record = {
        "options": options,
        "clips": len(clips.rows),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu,
        "curve": [
            np.nanmean(np.array(seen[i : i + 20]), 0).round(4).tolist() for i in range(0, len(seen), 20)
        ],
    }
    (given.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(sys.argv[0], "wrote", given.out)


if __name__ == "__main__":
    main()
