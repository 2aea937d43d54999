"""Training and judging the intensity model: levels from corpora, clips in memory, rank agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from subtone import corpora
from subtone.errors import CorpusError, UsageError
from subtone.pretraining.intensity import IntensityOptions
from subtone.pretraining.intensity.agreement import agreement, difference, pairs_by_speaker
from subtone.pretraining.intensity.examples import Examples, read_examples
from subtone.pretraining.intensity.levels import levels_of
from subtone.pretraining.intensity.training import IntensityTraining, train_intensity

SMALL = IntensityOptions(hidden=8, dilations=(1,), dropout=0.0)
QUICK = IntensityTraining(steps=40, speakers=3, clips=4, crop_frames=40, learning_rate=0.02, precision="fp32")


def made_up(levels: np.ndarray, speakers: list[str], seed: int = 0) -> Examples:
    """Clips whose upper bands are the louder, the higher the level, at any gain; silence at both ends."""
    generator = torch.Generator().manual_seed(seed)
    banks, speech = [], []
    for level in levels:
        spoken = torch.randn(30, 80, generator=generator)
        spoken[:, 40:] += 3.0 * float(np.nan_to_num(level, nan=0.5))
        gain = 8.0 * torch.rand(1, generator=generator)
        quiet = torch.full((10, 80), -15.0)
        banks.append((torch.cat([quiet, spoken, quiet]) + gain).half())
        speech.append(torch.arange(50).sub(10).clamp(0, 30).diff(prepend=torch.tensor([-1])).bool())
    names = np.array(speakers)
    blank = np.full(len(levels), "")
    origin = np.array([name.split("/")[0] for name in speakers])
    return Examples(tuple(banks), tuple(speech), np.asarray(levels, float), names, origin, blank, blank)


def two_corpora() -> Examples:
    levels = np.tile([0.0, 0.5, 1.0, 0.0, 0.5, 1.0], 4)
    return made_up(levels, [f"{'ab'[i // 12]}/{i // 6}" for i in range(24)])


def test_training_learns_what_tells_levels_apart_whatever_the_gain() -> None:
    model = train_intensity(two_corpora(), QUICK, SMALL)
    heard = made_up(np.tile([0.0, 0.5, 1.0], 8), ["c/1"] * 24, seed=1)
    scores = [model.clip_from_banks(b, s.numpy()) for b, s in zip(heard.banks, heard.speech)]
    assert agreement(scores, heard, resamples=2).pairs.value > 0.95
    assert model.trained_on == ("a", "b")
    assert not any(p.requires_grad for p in model.network.parameters())


def test_where_nobody_speaks_scores_are_lower() -> None:
    model = train_intensity(two_corpora(), QUICK, SMALL)
    loud = made_up(np.ones(6), ["c/1"] * 6, seed=2)
    for banks, speech in zip(loud.banks, loud.speech):
        curve = model.from_banks(banks)
        assert curve[speech.numpy()].mean() > curve[:6].mean()


def test_one_seed_gives_one_model_and_leaves_other_generators_alone() -> None:
    options = IntensityTraining(steps=3, speakers=2, clips=2, crop_frames=40)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    prints = [train_intensity(two_corpora(), options, SMALL, seed=s).fingerprint() for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert prints[0] == prints[1] != prints[2]


def test_clips_without_a_level_teach_nothing() -> None:
    options = IntensityTraining(steps=3, speakers=2, clips=2, crop_frames=40)
    known = two_corpora()
    levels = np.concatenate([known.levels, np.full(6, np.nan)])
    more = made_up(levels, [*known.speakers.tolist(), *["c/9"] * 6])
    first = train_intensity(more, options, SMALL)
    assert (
        first.fingerprint() == train_intensity(more.select(~np.isnan(levels)), options, SMALL).fingerprint()
    )
    with pytest.raises(UsageError, match="no clip has a level"):
        train_intensity(more.select(np.isnan(levels)), options, SMALL)


def test_training_that_diverges_names_the_knob() -> None:
    with pytest.raises(UsageError, match="learning_rate"):
        train_intensity(two_corpora(), IntensityTraining(steps=30, learning_rate=1e30, crop_frames=40), SMALL)
    with pytest.raises(UsageError, match="steps"):
        IntensityTraining(steps=0)
    with pytest.raises(UsageError, match="learning_rate"):
        IntensityTraining(learning_rate=0.0)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_agreement_equals_scipy_on_one_speaker(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 12))
    levels = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count)))
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)), float)
    examples = made_up(np.zeros(0), []) if len(set(levels)) < 2 else made_up(levels, ["a/1"] * count)
    if not len(examples):
        return
    found = agreement(scores, examples, resamples=2)
    constant = len(set(scores)) < 2
    assert found.within.value == pytest.approx(0.0 if constant else spearmanr(scores, levels).statistic)
    assert found.pooled.value == pytest.approx(found.within.value)
    apart = [(i, j) for i in range(count) for j in range(i) if levels[i] != levels[j]]
    signs = [np.sign(scores[i] - scores[j]) * np.sign(levels[i] - levels[j]) for i, j in apart]
    assert found.pairs.value == pytest.approx((1 + np.mean(signs)) / 2)
    if len(set(levels)) == count and not constant and len(set(scores)) == count:
        assert found.pairs.value == pytest.approx((1 + kendalltau(scores, levels).statistic) / 2)


def test_figures_are_means_over_speakers_and_say_how_sure_they_are() -> None:
    levels = np.tile([0.0, 1.0], 10)
    examples = made_up(levels, [f"a/{i // 2}" for i in range(20)])
    scores = np.where(np.arange(20) < 16, levels, 1 - levels)  # the last two speakers the wrong way round
    found = agreement(scores, examples)
    assert found.pairs.value == pytest.approx(0.8)
    assert found.within.value == pytest.approx(0.6)
    assert found.pairs.interval[0] < 0.8 < found.pairs.interval[1]
    assert found.pairs.speakers == 10
    same = pairs_by_speaker(scores, examples)
    assert difference(same, same).interval == (0.0, 0.0)
    assert difference(same, pairs_by_speaker(levels, examples)).value == pytest.approx(-0.2)


def test_matched_pairs_are_of_one_emotion_and_sentence() -> None:
    levels = np.array([0.0, 1.0, 0.0, 1.0])
    examples = made_up(levels, ["a/1"] * 4)
    emotions = np.array(["fear", "fear", "anger", "anger"])
    examples = Examples(**{**examples.__dict__, "emotions": emotions})
    found = agreement([0.1, 0.2, 0.8, 0.9], examples, resamples=2)
    assert found.matched is not None
    assert (found.pairs.value, found.matched.value) == (0.75, 1.0)
    alone = Examples(**{**examples.__dict__, "sentences": np.array(["1", "2", "3", "4"])})
    assert agreement([0.1, 0.2, 0.8, 0.9], alone, resamples=2).matched is None


def test_scores_that_do_not_fit_are_refused() -> None:
    examples = made_up(np.array([0.0, 1.0]), ["a/1"] * 2)
    for scores in ([0.1], [0.1, np.nan]):
        with pytest.raises(UsageError, match="one a clip"):
            agreement(scores, examples)
    with pytest.raises(UsageError, match="two levels"):
        agreement([0.1, 0.2], made_up(np.ones(2), ["a/1"] * 2))


def test_neutral_clips_are_calm_where_a_corpus_gives_levels_to_the_others_alone() -> None:
    table = pd.DataFrame(
        {
            "corpus": ["cafe", "cafe", "nemo", "emotale"],
            "emotion": ["neutral", "anger", "neutral", "neutral"],
            "intensity": [None, "strong", None, None],
            "arousal": [None, None, None, 2.0],
        }
    )
    assert levels_of(table).tolist() == pytest.approx([0.0, 1.0, np.nan, 0.25], nan_ok=True)


def test_levels_of_the_three_corpora_are_as_their_designs_say(shared: Path) -> None:
    data = shared / "data"
    ravdess = levels_of(corpora.read("ravdess", data / "ravdess"))
    assert [int((ravdess == level).sum()) for level in (0.0, 0.5, 1.0)] == [96, 672, 672]
    baved = levels_of(corpora.read("baved", data / "baved"))
    assert [int((baved == level).sum()) for level in (0.0, 0.5, 1.0)] == [585, 672, 678]
    emotale = levels_of(corpora.read("emotale", data / "emotale"))
    assert np.isfinite(emotale).all()
    assert (emotale.min(), emotale.max()) == (0.0, 1.0)
    assert np.isnan(levels_of(corpora.read("emodb", data / "emodb-4class"))).all()


def test_examples_hold_the_banks_of_their_files_and_leave_out_what_cannot_be_used(
    shared: Path, tmp_path: Path
) -> None:
    table = corpora.read("baved", shared / "data" / "baved")
    some = pd.concat([table[table["speaker"] == "53"].head(2), table[table["speaker"] == "46"].head(2)])
    broken = some.tail(1).rename(index=lambda _: str(tmp_path / "none.wav"), level="file")
    read = read_examples(pd.concat([some, broken]))
    assert read.speakers.tolist() == ["baved/46", "baved/46"]
    assert [file for file, _ in read.failed] == [str(tmp_path / "none.wav")]
    for banks, speech in zip(read.banks, read.speech):
        assert banks.shape == (len(speech), 80)
        assert banks.dtype == torch.float16
        assert bool(speech.any())
    with pytest.raises(CorpusError, match="1 failed"):
        read_examples(broken)
