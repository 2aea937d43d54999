"""The picture of a recording: its waveform, where speech is, and its emotions over time."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ, AudioSource, Channel, read_blocks
from subtone.errors import UsageError
from subtone.inference.curves import Curves, curves
from subtone.inference.envelope import envelope
from subtone.inference.prediction import FileResult, Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "anger": "#d55e00",
    "happiness": "#e8a317",
    "sadness": "#0072b2",
    "neutral": "#77838f",
    "fear": "#aa4499",
    "disgust": "#117733",
    "surprise": "#56b4e9",
    "calm": "#44aa99",
    "boredom": "#9c7a52",
    "contempt": "#332288",
    "excitement": "#c9b000",
    "frustration": "#882255",
    "other": "#b3b8bd",
}
"""One colour an emotion in every picture; after Okabe & Ito and Tol, apart for colour-blind eyes."""
_SPARE = ("#661100", "#6699cc", "#999933", "#cc6677", "#888888", "#ddcc77")

SUFFIXES = (".png", ".svg", ".pdf")
INK, SOFT, PALE, FAINT, PAUSE = "#1f2933", "#52606d", "#9aa5b1", "#e4e7eb", "#c3cad2"
WAVE_LIGHT, WAVE = "#8fb3cc", "#2a6f97"
COLUMNS = 1500
_FINE = 16
LEFT, WIDTH = 0.055, 0.735
PANELS = {"wave": (0.655, 0.195), "speech": (0.545, 0.075), "emotions": (0.095, 0.415)}  # bottom, height


def timeline_plot(
    prediction: Prediction | FileResult,
    source: AudioSource,
    path: str | Path,
    *,
    file: str | None = None,
    channel: Channel = "mix",
    title: str | None = None,
) -> Path:
    """Draw one recording: waveform, speech and likeliest emotion, and the probability of each emotion over time.

    What was not guessed is hatched. To the right stands the answer for the whole: the mean of all rows, weighted by
    their speech. Works from one second to many hours: the recording is read in blocks, and more answers than can be
    told apart are averaged, which the picture says.

    Parameters
    ----------
    prediction
        What to draw; predicted per segment or per window. Per file, its one answer is drawn as levels.
    source
        The recording itself, as it was predicted.
    path
        Image to write: ``.png`` (1800 × 1050), ``.svg`` or ``.pdf``. It appears whole or not at all.
    file
        Whose result; needed when the prediction holds several.
    channel
        As it was predicted.
    title
        First line; the file's name by default.

    Returns
    -------
    The image's path.

    Raises
    ------
    UsageError
        No such result, a suffix that is not known, or a path that cannot be written.
    AudioError
        When the recording cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: a picture must end in {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'!r}"
        )
    result = prediction.result(file) if isinstance(prediction, Prediction) else prediction
    figure = _figure(result, source, channel, title)
    content = io.BytesIO()
    kind = path.suffix.lower()[1:]
    # Without dates and versions the same result gives the same bytes.
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}.get(
        kind, {"CreationDate": None}
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing"
        )  # A name in letters that the font lacks.
        figure.savefig(content, format=kind, metadata=metadata)
    _write(path, content.getvalue())
    return path


def colours_of(labels: tuple[str, ...]) -> dict[str, str]:
    """Return a colour for each label: emotions have their own, other names share what is left.

    >>> colours_of(("anger", "tired"))
    {'anger': '#d55e00', 'tired': '#661100'}
    """
    spare = [label for label in labels if label not in COLOURS]
    return {
        label: COLOURS[label] if label in COLOURS else _SPARE[spare.index(label) % len(_SPARE)]
        for label in labels
    }


def clock(seconds: float, last_s: float) -> str:
    """Write a time as people read it in a recording that ends at ``last_s``.

    >>> clock(5.0, 20.0), clock(65.0, 300.0), clock(3725.0, 36_000.0), clock(0.25, 1.5)
    ('5 s', '1:05', '1:02:05', '0.25 s')
    """
    if last_s < 60:
        return f"{seconds:.10g} s"
    whole = round(seconds)
    if last_s < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _figure(result: FileResult, source: AudioSource, channel: Channel, title: str | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    first_s = result.offset / SAMPLE_RATE_HZ
    last_s = first_s + result.duration_s
    panels = {
        name: figure.add_axes((LEFT, bottom, WIDTH, height)) for name, (bottom, height) in PANELS.items()
    }
    ticks = _ticks(first_s, last_s)
    for name, axes in panels.items():
        axes.set_xlim(first_s, last_s)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=9.5, labelcolor=SOFT, pad=6)
        axes.set_xticks(
            ticks, [clock(tick, last_s) for tick in ticks] if name == "emotions" else [""] * len(ticks)
        )
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
    drawn = curves(result)
    colours = colours_of(result.labels)
    _wave(panels["wave"], result, source, channel)
    _speech(panels["speech"], result, drawn, colours)
    _emotions(panels["emotions"], result, drawn, colours, first_s, last_s)
    _legend(figure, result, colours)
    _header(figure, result, drawn, title, last_s)
    return figure


def _wave(axes: Axes, result: FileResult, source: AudioSource, channel: Channel) -> None:
    outline = envelope(
        read_blocks(source, channel, block_s=30.0), result.offset, result.speech.num_samples, COLUMNS
    )
    middles = (result.offset + (outline.edges[:-1] + outline.edges[1:]) / 2) / SAMPLE_RATE_HZ  # (columns,)
    inside = result.speech.before(outline.edges[1:]) - result.speech.before(outline.edges[:-1])
    # Half of a column, or half a second: in ten hours a column is as long as several sentences with their pauses.
    speech = inside >= np.minimum(np.diff(outline.edges) / 2, SAMPLE_RATE_HZ / 2)
    peak = max(float(outline.high.max()), -float(outline.low.min()))
    scale = 1.0 / max(peak, 1e-4)
    low, high = outline.low * scale, outline.high * scale
    rms = np.minimum(outline.rms * scale, np.maximum(high, -low))
    style: dict[str, Any] = {"linewidth": 0.6}
    axes.fill_between(middles, low, high, color=FAINT, **style)
    axes.fill_between(middles, -rms, rms, color=PAUSE, **style)
    axes.fill_between(middles, low, high, where=speech, color=WAVE_LIGHT, **style)
    axes.fill_between(middles, -rms, rms, where=speech, color=WAVE, **style)
    axes.set_ylim(-1.08, 1.08)
    axes.set_yticks([])
    level = f"peak {_decibels(peak)}" if peak > 1e-5 else "digital silence"
    _name(axes, "waveform", level)


def _speech(axes: Axes, result: FileResult, drawn: Curves, colours: dict[str, str]) -> None:
    """Draw two bars: where speech is, and below it the likeliest emotion."""
    seconds = result.speech.seconds + result.offset / SAMPLE_RATE_HZ  # (segments, 2)
    first_s, last_s = axes.get_xlim()
    axes.set_ylim(0, 1.55)
    axes.set_yticks([])
    axes.broken_barh([(first_s, last_s - first_s)], (1.22, 0.3), color=FAINT, linewidth=0)
    # A run thinner than a pixel would vanish.
    thinnest = (last_s - first_s) / 2000
    spans = [(start, max(end - start, thinnest)) for start, end in seconds.tolist()]
    axes.broken_barh(spans, (1.22, 0.3), color=WAVE, linewidth=0)
    for start, end in drawn.gaps(first_s, last_s):
        _hatch(axes, start, end)
    for start, end, label in drawn.winners():
        name = result.labels[label]
        axes.broken_barh([(start, max(end - start, thinnest))], (0.0, 1.0), color=colours[name], linewidth=0)
        if (end - start) / (last_s - first_s) * WIDTH > 0.0078 * len(name) + 0.012:
            ink = "white" if _is_dark(colours[name]) else INK
            axes.text(
                (start + end) / 2,
                0.47,
                name,
                ha="center",
                va="center",
                color=ink,
                fontsize=9.5,
                parse_math=False,
            )
    _name(axes, "speech and likeliest emotion", f"{100 * result.speech.share:.0f} % speech")


def _emotions(
    axes: Axes, result: FileResult, drawn: Curves, colours: dict[str, str], first_s: float, last_s: float
) -> None:
    axes.set_ylim(0, 1.0)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100"])
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    for start, end in drawn.gaps(first_s, last_s):
        _hatch(axes, start, end)
    _name(axes, "probability of each emotion (%)", "")
    known = drawn.answered
    if not known.any():
        box = {"boxstyle": "round,pad=0.6", "facecolor": "white", "edgecolor": "none"}
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 14, "color": SOFT, "bbox": box}
        axes.text(0.5, 0.5, f"not guessed: {_notes(result)}", transform=axes.transAxes, **style)
        return
    points = [_line(drawn, drawn.values[:, label]) for label in range(len(result.labels))]
    highest = np.max([y for _, y in points], axis=0)
    for label in np.argsort(drawn.values[known].mean(axis=0)).tolist():  # the likeliest on top
        x, y = points[label]
        colour = colours[result.labels[label]]
        leads = bool((y == highest).any())
        style = {"linewidth": 1.0, "alpha": 0.7, "zorder": 2}
        if leads:
            style = {"linewidth": 2.4 if len(drawn.starts) <= 200 else 1.4, "zorder": 3}
        ahead = y == highest
        ahead[1:] |= ahead[:-1]  # One point further, or slivers would stay white where curves cross.
        axes.fill_between(x, 0, y, where=ahead, color=colour, alpha=0.13, linewidth=0)
        axes.plot(x, y, color=colour, solid_capstyle="butt", clip_on=False, **style)


def _line(
    drawn: Curves, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the points of one curve, with NaN where the pen is lifted."""
    x: list[float] = []
    y: list[float] = []
    for run in drawn.runs():
        starts, ends, heights = drawn.starts[run], drawn.ends[run], values[run]
        if drawn.level:
            for start, end, height in zip(starts, ends, heights, strict=True):
                x += [start, end]
                y += [height, height]
        else:
            corners = np.concatenate([starts[:1], (starts + ends) / 2, ends[-1:]])
            # Between the corners too, so that areas change hands where curves cross.
            fine = np.arange((len(corners) - 1) * _FINE + 1) / _FINE
            x += np.interp(fine, np.arange(len(corners)), corners).tolist()
            y += np.interp(fine, np.arange(len(corners)), [heights[0], *heights, heights[-1]]).tolist()
        x.append(x[-1])
        y.append(np.nan)
    return np.array(x), np.array(y)


def _hatch(axes: Axes, start: float, end: float, top: float = 1.0) -> None:
    bottom, above = axes.get_ylim()
    axes.axvspan(
        start,
        end,
        0,
        (top - bottom) / (above - bottom),
        fc="#f7f9fa",
        ec="#dfe4e8",
        hatch="////",
        lw=0,
        zorder=0.6,
    )


def _notes(result: FileResult) -> str:
    return ", ".join(sorted({note for note in result.notes if note}))


def _legend(figure: Figure, result: FileResult, colours: dict[str, str]) -> None:
    """Name the colours beside the curves, the likeliest first, with bars of the overall answer."""
    bottom, height = PANELS["emotions"]
    axes = figure.add_axes((LEFT + WIDTH + 0.025, bottom, 1 - LEFT - WIDTH - 0.045, height))
    axes.set_axis_off()
    overall = result.overall() or {}
    names = sorted(result.labels, key=lambda name: -overall.get(name, 0.0))
    rows = max(len(names), 5)
    axes.set_xlim(0, 1)
    axes.set_ylim(rows, 0)
    _name(axes, "overall" if overall else "emotions", "")
    size = min(10.5, 62 / rows + 3)
    for row, name in enumerate(names):
        weight = "bold" if row == 0 and overall else "normal"
        ink = INK if row == 0 or not overall else SOFT
        style: dict[str, Any] = {"fontsize": size, "weight": weight, "color": ink, "va": "center"}
        axes.text(0.0, row + 0.34, _short(name, 18), parse_math=False, **style)
        if overall:
            axes.text(1.0, row + 0.34, f"{100 * overall[name]:.0f} %", ha="right", **style)
        thick = 0.17
        axes.barh(row + 0.74, 1.0, height=thick, color=FAINT if overall else colours[name], linewidth=0)
        if overall:
            axes.barh(row + 0.74, max(overall[name], 0.012), height=thick, color=colours[name], linewidth=0)


def _header(figure: Figure, result: FileResult, drawn: Curves, title: str | None, last_s: float) -> None:
    name = title or (result.file if result.file.startswith("<") else Path(result.file).name)
    figure.text(
        LEFT, 0.945, _short(name, 92), fontsize=16, weight="bold", color=INK, va="center", parse_math=False
    )
    overall = result.overall()
    if overall is None:
        answer = f"no answer: {_notes(result)}"
    else:
        best = max(overall, key=lambda label: overall[label])
        answer = f"{best} {100 * overall[best]:.0f} % overall"
    what = {"file": "one answer for the file", "segment": "per speech segment", "window": "per window"}[
        result.per
    ]
    if result.per == "window" and len(result) > 1:
        window_s = (result.ends[0] - result.starts[0]) / SAMPLE_RATE_HZ
        hop_s = (result.starts[1] - result.starts[0]) / SAMPLE_RATE_HZ
        what = f"windows of {window_s:g} s every {hop_s:g} s"
    if drawn.averaged_s:
        what += f", drawn as means over {drawn.averaged_s:.2g} s"
    length = clock(result.duration_s, max(last_s, 60.0)) if last_s >= 60 else f"{result.duration_s:.2f} s"
    figure.text(LEFT, 0.905, f"{answer}   ·   {length}   ·   {what}", fontsize=11, color=SOFT, va="center")


def _name(axes: Axes, left: str, right: str) -> None:
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9.5}
    axes.annotate(left, (0, 1), (0, 5), color=SOFT, weight="bold", **above)
    axes.annotate(right, (1, 1), (0, 5), color=PALE, ha="right", **above)


def _ticks(first_s: float, last_s: float) -> list[float]:
    """Return 4 to 10 round times."""
    steps = [
        0.0001,
        0.0002,
        0.0005,
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1,
        2,
        5,
        10,
        15,
        30,
        60,
    ]
    steps += [120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400]
    step = next((step for step in steps if (last_s - first_s) / step <= 10), steps[-1])
    return [number * step for number in range(int(np.ceil(first_s / step)), int(last_s / step + 1e-9) + 1)]


def _decibels(peak: float) -> str:
    """Write a level below full scale.

    >>> _decibels(0.5), _decibels(0.99)
    ('−6 dBFS', '0 dBFS')
    """
    level = round(20 * float(np.log10(peak)))
    return f"{'−' if level < 0 else ''}{abs(level)} dBFS"


def _is_dark(colour: str) -> bool:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 150


def _short(text: str, longest: int) -> str:
    """Cut the middle out of a long name, and make it printable."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    head = longest // 2
    return text if len(text) <= longest else f"{text[:head]}…{text[-(longest - head - 1) :]}"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path}: the picture cannot be written ({error.strerror or error})") from error
