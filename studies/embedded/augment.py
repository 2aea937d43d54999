"""Changes to log-mel spectrograms that a label survives: another room, line, microphone, speaker size, noise.

All of them work on Whisper's spectrogram ``(x = (log10 power + 4) / 4)`` of a whole batch, so that they cost next to
nothing beside the network. Each clip draws for itself whether and how much it is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_FLOOR = 8.0  # orders of magnitude below a clip's maximum, as Whisper's front end has it
_TELEPHONE = (10, 62)  # mel bands (of 80) nearest to 300 and 3400 Hz


@dataclass(frozen=True)
class Augmentation:
    """How often a clip is changed, each kind by itself; shares in [0, 1].

    Attributes
    ----------
    gain, tilt
        Level within ±15 dB; a smooth curve over bands of a few dB, as microphones and rooms have.
    noise
        Noise of a random spectrum or the other clips of the batch, at 0 to 25 dB below the clip.
    echo
        Power that dies away over 50 to 400 ms.
    band
        Bands above 3 to 7 kHz removed, half of the time with those below 300 Hz.
    warp
        Frequencies stretched within ±8 %, as by vocal tracts of another length.
    mask
        SpecAugment: two stretches of up to 0.2 s and two of up to 10 bands set to the clip's mean.
    """

    gain: float = 0.8
    tilt: float = 0.4
    noise: float = 0.4
    echo: float = 0.2
    band: float = 0.3
    warp: float = 0.5
    mask: float = 0.7

    @torch.no_grad()
    def __call__(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Change ``(batch, bands, frames)``."""
        batch, bands, frames = mel.shape

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(batch, *shape, generator=generator)

        def often(share: float) -> Tensor:
            return uniform(0, 1, 1, 1) < share

        if self.warp:
            factor = torch.where(often(self.warp), uniform(0.92, 1.08, 1, 1), 1.0)  # (batch, 1, 1)
            where = (torch.arange(bands) * factor[:, 0]).clamp(max=bands - 1)  # (batch, bands)
            low = where.floor().long()
            share = (where - low)[..., None]
            index = low[..., None].expand(-1, -1, frames)
            mel = mel.gather(1, index) * (1 - share) + mel.gather(1, (index + 1).clamp(max=bands - 1)) * share
        power = 4 * mel - 4  # log10
        curve = torch.cumsum(0.12 * torch.randn(batch, 10, generator=generator), 1)
        curve = functional.interpolate((curve - curve.mean(1, keepdim=True))[:, None], bands, mode="linear")
        power = power + torch.where(often(self.tilt), curve.transpose(1, 2), 0.0)
        power = power + torch.where(often(self.gain), uniform(-1.5, 1.5, 1, 1), 0.0)
        linear = 10**power
        if self.echo:
            decay_frames = uniform(5, 40, 1, 1)  # 10 ms each, to -60 dB
            steps = torch.arange(24.0)
            kernel = 10 ** (-6 * steps / decay_frames) * (steps > 0)  # (batch, 1, 24)
            kernel = uniform(0.05, 0.5, 1, 1) * kernel
            kernel[:, :, 0] = 1.0
            padded = functional.pad(linear.reshape(1, batch * bands, frames), (23, 0))
            each = kernel.flip(-1).expand(batch, bands, 24).reshape(batch * bands, 1, 24)
            echoed = functional.conv1d(padded, each, groups=batch * bands).view(batch, bands, frames)
            linear = torch.where(often(self.echo), echoed, linear)
        level = linear.mean((1, 2), keepdim=True)
        spectrum = torch.cumsum(0.25 * torch.randn(batch, bands, generator=generator), 1)[..., None]
        hiss = 10 ** (spectrum - spectrum.amax(1, keepdim=True))
        hiss = hiss * -torch.rand(batch, bands, frames, generator=generator).clamp(min=1e-6).log()
        babble = sum((linear.roll(k, 0) / level.roll(k, 0) for k in (1, 2, 3)), torch.zeros(()))
        other = torch.where(often(0.6), hiss / hiss.mean((1, 2), keepdim=True), babble / 3)
        quieter = 10 ** (-uniform(0.0, 2.5, 1, 1))
        linear = linear + torch.where(often(self.noise), quieter * level * other, 0.0)
        band = torch.arange(bands)[None, :, None]
        top = uniform(_TELEPHONE[1] - 4, bands - 1, 1, 1)
        cut = (band > top) | ((band < _TELEPHONE[0] - 2) & often(0.5))
        linear = torch.where(cut & often(self.band), linear * 1e-5, linear)
        power = linear.clamp(min=1e-10).log10()
        power = power.maximum(power.amax((1, 2), keepdim=True) - _FLOOR)
        mel = (power + 4) / 4
        if self.mask:
            mean = mel.mean((1, 2), keepdim=True)
            hidden = torch.zeros(batch, bands, frames, dtype=torch.bool)
            for _ in range(2):
                start, length = uniform(0, frames, 1, 1), uniform(0, 20, 1, 1)
                when = torch.arange(frames)[None, None, :]
                hidden |= (when >= start) & (when < start + length)
                start, length = uniform(0, bands, 1, 1), uniform(0, 10, 1, 1)
                hidden |= (band >= start) & (band < start + length)
            mel = torch.where(hidden & often(self.mask), mean, mel)
        return mel
