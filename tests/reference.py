"""Slow, obvious versions of what the package does fast: the oracles of the tests."""

from __future__ import annotations

import math

import numpy as np
import torch


def kaldi_filter_bank(wave: np.ndarray, num_mel: int = 80) -> np.ndarray:
    """Kaldi's log-mel filter banks by the book, bin by bin, triangle by triangle, ``(frames, num_mel)``."""

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    samples = np.asarray(wave, np.float64) * 32_768.0
    window = [(0.5 - 0.5 * math.cos(2 * math.pi * i / 399)) ** 0.85 for i in range(400)]
    rows = []
    for start in range(0, len(samples) - 400 + 1, 160):
        frame = samples[start : start + 400] - samples[start : start + 400].mean()
        emphasised = frame.copy()
        for i in range(399, 0, -1):
            emphasised[i] -= 0.97 * emphasised[i - 1]
        emphasised[0] -= 0.97 * emphasised[0]
        padded = np.concatenate([emphasised * window, np.zeros(112)])
        power = np.abs(np.fft.fft(padded)[:256]) ** 2
        low, high = mel(20.0), mel(8_000.0)
        step = (high - low) / (num_mel + 1)
        row = []
        for band in range(num_mel):
            left, centre, right = (low + (band + i) * step for i in range(3))
            energy = 0.0
            for k in range(256):
                m = mel(k * 16_000 / 512)
                if left < m <= centre:
                    energy += power[k] * (m - left) / (centre - left)
                elif centre < m < right:
                    energy += power[k] * (right - m) / (right - centre)
            row.append(math.log(max(energy, 1.1920928955078125e-07)))
        rows.append(row)
    return np.array(rows)


def kaldi_deltas(features: np.ndarray, order: int) -> np.ndarray:
    """Kaldi's ``add-deltas``: windows of 2 frames a side, scales of each order from the one before."""
    scales = [[1.0]]
    for _ in range(order):
        previous, reach = scales[-1], (len(scales[-1]) - 1) // 2 + 2
        current = [0.0] * (2 * reach + 1)
        for j in range(-2, 3):
            for k, value in enumerate(previous):
                current[j + 2 + k] += j * value / 10.0
        scales.append(current)
    rows = []
    for t in range(len(features)):
        row = []
        for scale in scales:
            reach = (len(scale) - 1) // 2
            total = np.zeros(features.shape[1])
            for offset in range(-reach, reach + 1):
                total += scale[offset + reach] * features[min(max(t + offset, 0), len(features) - 1)]
            row.append(total)
        rows.append(np.concatenate(row))
    return np.array(rows)


def pooled_slowly(
    frames: np.ndarray,
    mask: np.ndarray,
    speech: np.ndarray,
    pooling: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Pool one clip of (frames, dim): mean and standard deviation, each (dim,); frame by frame, run by run.

    ``pooling`` is "gap", "frame", "segment" or "attention" (the one without parameters).
    """
    runs: list[list[np.ndarray]] = []
    inside = False
    for frame, valid, spoken in zip(frames, mask, speech, strict=True):
        if not valid:
            continue  # as if it were not there
        if pooling == "gap":
            spoken = True
        if spoken and not inside:
            runs.append([])
        if spoken:
            runs[-1].append(frame)
        inside = bool(spoken)
    if not runs:
        runs = [[frame for frame, valid in zip(frames, mask, strict=True) if valid]]
    if pooling in ("gap", "frame"):
        runs = [[frame for run in runs for frame in run]]
    if pooling == "attention":
        means = [sum(run) / len(run) for run in runs]
        moved = []
        for run, query in zip(runs, means, strict=True):
            scores = [np.exp(query @ key / np.sqrt(len(query))) for key in means]
            heard = sum(score * value for score, value in zip(scores, means, strict=True)) / sum(scores)
            moved.append([frame - query + heard for frame in run])
        runs = moved
    mean = sum(sum(run) / len(run) for run in runs) / len(runs)
    variance = sum(sum((frame - mean) ** 2 for frame in run) / len(run) for run in runs) / len(runs)
    return mean, np.sqrt(variance)


def speech_frames(
    segments: list[tuple[int, int]], cells: list[tuple[int, int]], num_samples: int
) -> list[bool]:
    """Tell which frames are speech by looking at every sample of every frame; half of them is enough."""
    inside = [any(start <= sample < end for start, end in segments) for sample in range(num_samples)]
    return [end > start and 2 * sum(inside[start:end]) >= end - start for start, end in cells]


def trained_slowly(
    x: torch.Tensor,
    y: torch.Tensor,
    rows: np.ndarray,
    model: torch.nn.Module,
    *,
    steps: int,
    of: int,
    seed: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    smoothing: float,
    weights: torch.Tensor,
) -> torch.nn.Module:
    """Train one model on one fold as a textbook does: torch's own loss, optimiser and schedule, row by row."""
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    loss_of = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)
    rng = np.random.default_rng(seed)
    queue: list[int] = []
    model.train()
    for step in range(steps):
        while len(queue) < batch_size:
            queue += rng.permutation(rows).tolist()
        batch, queue = queue[:batch_size], queue[batch_size:]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * step / of)) / 2
        optimiser.zero_grad()
        loss_of(model(x[batch]), y[batch]).backward()
        optimiser.step()
    return model.eval()
