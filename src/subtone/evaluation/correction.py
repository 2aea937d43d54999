"""p values of several tests that were looked at together."""

from __future__ import annotations

from collections.abc import Sequence

from subtone.errors import UsageError


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p values for their number, so that one of them all falls below a level by chance no more often than that.

    Parameters
    ----------
    ps
        p values, each in [0, 1].

    Returns
    -------
    list of float
        In the same order; never below those given.

    Raises
    ------
    UsageError
        If one is no p value.

    Notes
    -----
    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6.

    Examples
    --------
    >>> holm([0.04, 0.01, 0.02])
    [0.04, 0.03, 0.04]
    """
    if any(not 0 <= p <= 1 for p in ps):  # NaN, too
        raise UsageError("p values lie in [0, 1]; got " + ", ".join(f"{p:g}" for p in ps))
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = highest
    return corrected
