"""Sums over the updates of an epoch, and the means that are told of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Sums:
    """Over some updates: losses and the weights of their clips, hits, seconds heard, taken and waited."""

    steps: int = 0
    loss: float = 0.0
    weight: float = 0.0
    hits: float = 0.0
    clips: float = 0.0
    seconds_heard: float = 0.0
    seconds: float = 0.0
    waited_s: float = 0.0
    gradient_norm: float = 0.0

    def add(self, other: Sums) -> None:
        """Add the sums of other updates."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self) -> dict[str, float]:
        """Return the means, by the names of ``curves.csv``."""
        return {
            "loss": self.loss / max(1e-12, self.weight),
            "wa": self.hits / max(1.0, self.clips),
            "gradient_norm": self.gradient_norm / max(1, self.steps),
            "audio_s_per_s": self.seconds_heard / max(1e-9, self.seconds),
            "wait_share": self.waited_s / max(1e-9, self.seconds),
        }
