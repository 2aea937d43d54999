"""openSMILE, an extra, seen from its edge: a wave goes in, a row of functionals comes out."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError, nearest

FunctionalSet = Literal["egemaps", "compare"]

#: What openSMILE calls the sets.
_NAMES: dict[FunctionalSet, str] = {"egemaps": "eGeMAPSv02", "compare": "ComParE_2016"}
#: Pitch is looked for in windows of 60 ms; of less audio openSMILE gives no numbers.
SHORTEST = 960
#: The largest sample of 16 bits. openSMILE is given such, and what is above would come out at the other end.
_FULL_SCALE = 32767 / 32768


class Smile:
    """openSMILE, set up for one set of functionals; any number of threads may use it at once.

    Parameters
    ----------
    which
        ``"egemaps"``: the 88 of eGeMAPSv02; ``"compare"``: the 6373 of ComParE_2016.

    Attributes
    ----------
    names
        Of the functionals.
    version
        Of openSMILE.

    Raises
    ------
    UsageError
        If the set is not known, or openSMILE is not installed or does not start.

    Source
    ------
    Eyben et al. 2016, "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS)", IEEE Transactions on Affective
    Computing 7(2); Schuller et al. 2016, "The INTERSPEECH 2016 Computational Paralinguistics Challenge". The numbers
    are those of openSMILE (audEERING; free for research, not for products).
    """

    def __init__(self, which: FunctionalSet) -> None:
        if which not in _NAMES:
            raise UsageError(
                f"functionals {which!r} are not known; {nearest(str(which), get_args(FunctionalSet))}"
            )
        opensmile = _opensmile()
        self._smile = opensmile.Smile(
            opensmile.FeatureSet[_NAMES[which]],
            opensmile.FeatureLevel.Functionals,
            loglevel=0,
            num_workers=1,
        )
        self.names: tuple[str, ...] = tuple(self._smile.feature_names)
        self.version: str = opensmile.__version__
        self._set = _NAMES[which]

    @property
    def maker(self) -> str:
        """Library, version and set, e.g. ``"opensmile 2.6.0 eGeMAPSv02"``."""
        return f"opensmile {self.version} {self._set}"

    def __call__(self, wave: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the functionals of a wave.

        Parameters
        ----------
        wave
            ``(samples,)`` at 16 kHz. It goes into openSMILE at 16 bits: what exceeds full scale, as resampling can make
            it, is cut there. Less than 60 ms is filled up with zeros, without which there would be no numbers.

        Returns
        -------
        ndarray
            ``(functionals,)``; may hold NaN or infinity.
        """
        wave = np.clip(wave, -1.0, _FULL_SCALE).astype(np.float32, copy=False)
        wave = np.pad(wave, (0, max(0, SHORTEST - len(wave))))  # (samples,)
        found: npt.NDArray[np.float32] = self._smile(wave, SAMPLE_RATE_HZ)  # (1, functionals, 1)
        return np.asarray(found, np.float32).reshape(len(self.names))


def _opensmile() -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise UsageError(
            'functionals of openSMILE: needs the extra: pip install "subtone[opensmile]"'
        ) from error
    return opensmile
