"""What is said of the gaps between groups of clips: who is ahead only where a test, corrected for all, bears it out."""

from __future__ import annotations

from subtone.evaluation.slices import Cut, Gap, Slices


def gap_sentences(slices: Slices) -> list[str]:
    """One sentence for each attribute, of its gap or why none is given.

    Parameters
    ----------
    slices
        Of one system; the p values of its attributes are corrected for their number.
    """
    corrected = slices.corrected_p()
    return [_sentence(cut, slices, corrected.get(cut.by), len(corrected)) for cut in slices.cuts]


def p_text(p: float | None) -> str:
    """A p value in words.

    >>> p_text(0.0004), p_text(0.0313), p_text(0.25), p_text(None)
    ('0.001 or less', '0.031', '0.25', 'unknown')
    """
    if p is None:
        return "unknown"
    return "0.001 or less" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def plain(number: float) -> str:
    """A figure with one decimal, a true minus sign and no negative zero.

    >>> plain(-0.31), plain(-0.01)
    ('−0.3', '0.0')
    """
    text = f"{number:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def _sentence(cut: Cut, slices: Slices, corrected: float | None, tests: int) -> str:
    unknown = f"; {cut.unknown} clips unknown" if cut.unknown else ""
    if cut.gap is None:
        why = (
            "its groups hold different emotions, and UA is the mean over those that a group holds"
            if cut.no_gap == "classes differ"
            else "fewer than two groups have three speakers or more"
        )
        return f"By {cut.by}, no gap is given, for {why}{unknown}."
    gap = cut.gap
    apart = f"{gap.best} and {gap.worst} are {plain(100 * gap.ua)} points UA apart"
    if corrected is None:
        why = "speakers are unknown" if slices.unit == "clip" else "speakers belong to several groups"
        return (
            f"By {cut.by}, {apart} ({_ends(gap)}); no test was made, for {why}, so nothing says that one is served "
            f"better{unknown}."
        )
    chance = f"p = {p_text(gap.p)} with groups given out among speakers at random"
    if tests > 1:
        chance += f", {p_text(corrected)} after Holm's correction over {tests} attributes"
    if gap.ci[0] > 0 and corrected < 1 - slices.confidence:
        ahead = f"{gap.best} is ahead of {gap.worst} by {plain(100 * gap.ua)} points UA"
        return f"By {cut.by}, {ahead} ({_ends(gap)}; {chance}){unknown}."
    return f"There is no evidence of a difference by {cut.by}: {apart} ({_ends(gap)}; {chance}){unknown}."


def _ends(gap: Gap) -> str:
    return f"{plain(100 * gap.ci[0])} to {plain(100 * gap.ci[1])}"
