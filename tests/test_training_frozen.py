"""Frozen-feature training: all folds at once are each fold alone, and nobody learns from whom it is tested on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import balanced_accuracy_score

from subtone.classifier import PooledClassifier, Reduction
from subtone.errors import RecipeError
from subtone.protocols import Fold
from subtone.training import FrozenOptions, FrozenRun, frozen, train_final, train_frozen
from subtone.training.reduction import fit_reduction, principal_directions
from tests.reference import trained_slowly

CLASSES = 3
NOBODY = np.empty(0, np.int64)
QUICK = FrozenOptions(
    components=6,
    hidden=8,
    dropout=0.0,
    learning_rate=1e-2,
    batch_size=16,
    steps=20,
    check_every=2,
    patience=3,
)


def data(clips: int = 60, layers: int = 2, dim: int = 10, seed: int = 0, distance: float = 1.0) -> Any:
    """Features ``(clips, layers, dim)`` whose classes lie ``distance`` standard deviations apart, and classes."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(clips) % CLASSES).astype(np.int64)
    centres = distance * rng.normal(size=(CLASSES, layers, dim))
    x = centres[y] + rng.normal(size=(clips, layers, dim)) * rng.uniform(0.5, 5, dim) + 3
    return x.astype(np.float32), y


def folds(clips: int = 60, number: int = 3, dev: bool = True) -> list[Fold]:
    """Folds of unequal size: every ``number``-th clip is tested, a quarter of the rest is development."""
    rng = np.random.default_rng(1)
    of = rng.permutation(np.repeat(np.arange(number), clips)[: clips * number : number][:clips])
    made = []
    for fold in range(number):
        test, rest = np.flatnonzero(of == fold), np.flatnonzero(of != fold)
        held = rest[fold :: 4 + fold] if dev else NOBODY
        made.append(Fold(f"f{fold}", np.setdiff1d(rest, held), held, test))
    return made


def parameters(run: FrozenRun, fold: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return run.classifiers[fold][seed].state_dict()


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-4) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layers", ["mix", "concat"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("refit", [False, True])
def test_all_folds_and_seeds_at_once_are_each_of_them_alone(layers: Any, head: Any, refit: bool) -> None:
    x, y = data()
    options = replace(QUICK, layers=layers, head=head, refit=refit)
    together = train_frozen(x, y, folds(), (0, 7), CLASSES, options)
    for f, fold in enumerate(folds()):
        for s, seed in enumerate((0, 7)):
            alone = train_frozen(x, y, [fold], (seed,), CLASSES, options)
            assert together.steps[f, s] == alone.steps[0, 0]
            assert together.dev_ua[f, s] == pytest.approx(alone.dev_ua[0, 0])
            close(parameters(together, f, s), parameters(alone, 0))
            np.testing.assert_allclose(
                together.logits[s, fold.test], alone.logits[0, fold.test], rtol=1e-3, atol=1e-3
            )


@pytest.mark.parametrize("layers", ["mix", "concat"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("class_weights", ["balanced", "none"])
def test_a_member_is_what_plain_torch_trains(layers: Any, head: Any, class_weights: Any) -> None:
    x, y = data()
    y[:15] = 0  # classes of unequal size
    options = replace(QUICK, layers=layers, head=head, class_weights=class_weights, label_smoothing=0.1)
    everybody = folds(dev=False)
    run = train_frozen(x, y, everybody, (3, 5), CLASSES, options)
    for f, fold in enumerate(everybody):
        reduction = fit_reduction(torch.from_numpy(x[fold.train]), layers, 6)
        z = reduction(torch.from_numpy(x))
        counts = np.bincount(y[fold.train], minlength=CLASSES)
        weights = len(fold.train) / (CLASSES * counts) if class_weights == "balanced" else np.ones(CLASSES)
        torch.manual_seed(5)
        model = PooledClassifier(
            reduction.num_layers, reduction.dim, CLASSES, head=head, hidden=8, dropout=0.0
        )
        slow = trained_slowly(
            z,
            torch.from_numpy(y),
            fold.train,
            model,
            steps=20,
            of=20,
            seed=5,
            batch_size=16,
            learning_rate=1e-2,
            weight_decay=options.weight_decay,
            smoothing=0.1,
            weights=torch.tensor(weights, dtype=torch.float32),
        )
        close(parameters(run, f, 1), slow.state_dict())
        np.testing.assert_allclose(
            run.logits[1, fold.test], slow(z[fold.test]).detach().numpy(), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_torchs_own_with_weights_and_smoothing(smoothing: float) -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 9, CLASSES, generator=rng)
    target = torch.randint(CLASSES, (4, 9), generator=rng)
    weights = torch.rand(4, CLASSES, generator=rng) + 0.1
    valid = torch.rand(4, 9, generator=rng) > 0.3
    ours = frozen._loss(scores, target, weights, smoothing)
    masked = frozen._loss(scores, target, weights, smoothing, valid)
    for m in range(4):
        torchs = torch.nn.CrossEntropyLoss(weights[m], label_smoothing=smoothing)
        assert ours[m].item() == pytest.approx(torchs(scores[m], target[m]).item(), rel=1e-5)
        kept = torchs(scores[m][valid[m]], target[m][valid[m]]).item()
        assert masked[m].item() == pytest.approx(kept, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_arguments_give_the_same_numbers(dropout: float) -> None:
    x, y = data()
    options = replace(QUICK, dropout=dropout, input_dropout=dropout / 2)
    torch.manual_seed(1)
    one = train_frozen(x, y, folds(), (0, 1), CLASSES, options)
    before = torch.random.get_rng_state()
    torch.manual_seed(2)
    np.random.default_rng(3)
    two = train_frozen(x, y, folds(), (0, 1), CLASSES, options)
    assert np.array_equal(one.logits, two.logits)
    assert np.array_equal(one.dev_logits, two.dev_logits, equal_nan=True)
    assert np.array_equal(one.steps, two.steps)
    torch.manual_seed(1)
    assert torch.equal(before, torch.random.get_rng_state()), (
        "training must leave the caller's generator alone"
    )
    other = train_frozen(x, y, folds(), (4, 5), CLASSES, options)
    assert not np.array_equal(one.logits, other.logits)


@pytest.mark.parametrize(
    "options",
    [
        QUICK,
        FrozenOptions(steps=40, components=8, patience=1),
        replace(QUICK, steps=80, patience=2, refit=False),
    ],
    ids=["quick", "dropout", "impatient"],
)
def test_what_is_tested_never_touches_the_model(options: FrozenOptions) -> None:
    # Test clips of one fold are training clips of the others, whose course must not tell when to stop either.
    x, y = data(distance=0.5)
    made = folds()
    before = train_frozen(x, y, made, (0,), CLASSES, options)
    for f, fold in enumerate(made):
        wild, wrong = x.copy(), y.copy()
        wild[fold.test] *= 30
        wrong[fold.test] = np.random.default_rng(0).permutation(wrong[fold.test])
        after = train_frozen(wild, wrong, made, (0,), CLASSES, options)
        assert after.steps[f].tolist() == before.steps[f].tolist()
        assert after.dev_ua[f].tolist() == before.dev_ua[f].tolist()
        for name, value in before.reductions[f].state_dict().items():
            assert torch.equal(value, after.reductions[f].state_dict()[name])
        close(parameters(before, f), parameters(after, f), 1e-6)


def test_scaling_and_projection_are_fitted_on_training_rows_alone() -> None:
    x, y = data()
    made = folds()
    wild = x.copy()
    wild[made[1].dev] *= -50
    wild[made[1].test] += 1000
    before, after = (train_frozen(v, y, made, (0,), CLASSES, QUICK).reductions[1] for v in (x, wild))
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name])
    rows = x[made[1].train]
    np.testing.assert_allclose(before.mean, rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(before.scale, rows.std(0), rtol=1e-4)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)], ids=["tall", "wide"])
def test_the_projection_spans_what_principal_component_analysis_finds(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=shape) * rng.uniform(0.5, 4, shape[1])).astype(np.float32)
    rows -= rows.mean(0)
    basis = principal_directions(torch.from_numpy(rows), 5)
    scores = (torch.from_numpy(rows) @ basis).numpy()
    wanted = PCA(5).fit_transform(rows.astype(np.float64))
    wanted /= np.sqrt((wanted**2).mean())  # their mean variance is one, their ratios stay
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted), rtol=1e-3, atol=1e-3)
    assert (scores**2).mean() == pytest.approx(1.0, rel=1e-3)


def test_development_chooses_the_steps_with_the_best_ua_before_patience_runs_out() -> None:
    # How a training goes differs by processor: of these, one has a course in which patience matters.
    assert any(patience_mattered(seed) for seed in (2, 4, 8)), "patience must have cut a training short"


def patience_mattered(seed: int) -> bool:
    """Check that development chooses what it should, and return whether patience made a difference."""
    x, y = data(clips=150, distance=0.4, seed=seed)
    fold = folds(150)[0]
    options = replace(QUICK, steps=24, refit=False)
    reduction = fit_reduction(torch.from_numpy(x[fold.train]), options.layers, 6)
    z = reduction(torch.from_numpy(x[fold.dev]))
    weights = len(fold.train) / (CLASSES * np.bincount(y[fold.train], minlength=CLASSES))
    loss_of = torch.nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32))
    course = {}
    for step in range(2, 25, 2):
        # The same training, looked at after so many steps.
        members = frozen._Members(torch.from_numpy(x), torch.from_numpy(y), [fold], (1,), CLASSES, options, 6)
        model = members.unstack(members.fit([fold.train], None, np.array([[step]])).state)[0][0]
        scores = model(z).detach()
        ua = balanced_accuracy_score(y[fold.dev], scores.numpy().argmax(1))
        course[step] = (round(ua, 6), -loss_of(scores, torch.from_numpy(y[fold.dev])).item())
    if len({ua for ua, _ in course.values()}) <= 3:
        return False  # nothing to choose between
    chosen = {}
    for patience in (1, 3, 100):
        run = train_frozen(x, y, [fold], (1,), CLASSES, replace(options, patience=patience))
        best = 2
        for step in course:
            best = max(best, step, key=lambda k: course[k])
            if step - best >= 2 * patience:
                break
        chosen[patience] = best
        assert run.steps[0, 0] == best
        assert run.dev_ua[0, 0] == pytest.approx(course[best][0], abs=1e-5)
        told = run.dev_logits[0, fold.dev].argmax(1)
        assert balanced_accuracy_score(y[fold.dev], told) == pytest.approx(course[best][0], abs=1e-5)
    return len(set(chosen.values())) > 1


def test_refitting_hears_development_rows_and_not_refitting_does_not() -> None:
    x, y = data(distance=0.4)
    (fold,) = folds()[:1]
    # Steps and reduction stay the same while the development rows' labels do: shuffle their features instead.
    for refit in (False, True):
        options = replace(QUICK, refit=refit, steps=2, check_every=2)
        before = train_frozen(x, y, [fold], (0,), CLASSES, options)
        wild = x.copy()
        wild[fold.dev] = wild[fold.dev[::-1]]
        after = train_frozen(wild, y, [fold], (0,), CLASSES, options)
        changed = not np.allclose(before.logits[0, fold.test], after.logits[0, fold.test], atol=1e-6)
        assert changed == refit


def test_each_fold_keeps_what_its_own_members_said_of_its_development_rows() -> None:
    x, y = data()
    several = [*folds()[:2], folds(dev=False)[2]]
    run = train_frozen(x, y, several, (0, 1), CLASSES, QUICK)
    assert [scores.shape for scores in run.dev_by_fold] == [(2, len(f.dev), CLASSES) for f in several]
    for fold, scores in zip(several, run.dev_by_fold, strict=True):
        alone = train_frozen(x, y, [fold], (0, 1), CLASSES, QUICK)
        np.testing.assert_allclose(scores, alone.dev_by_fold[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(alone.dev_logits[:, fold.dev], alone.dev_by_fold[0])


def test_folds_without_development_train_all_steps_and_share_a_run_with_those_that_have_some() -> None:
    x, y = data()
    bare = train_frozen(x, y, folds(dev=False), (0,), CLASSES, QUICK)
    assert (bare.steps == 20).all()
    assert np.isnan(bare.dev_ua).all()
    assert np.isnan(bare.dev_logits).all()
    assert np.isfinite(bare.logits).all()
    mixed = [folds()[0], folds(dev=False)[1]]
    run = train_frozen(x, y, mixed, (0,), CLASSES, QUICK)
    assert np.isfinite(run.dev_ua[0, 0])
    assert np.isnan(run.dev_ua[1, 0])
    assert run.steps[1, 0] == 20
    close(parameters(run, 1), parameters(bare, 1))


def test_clips_of_no_fold_have_no_score_and_every_tested_clip_has_one() -> None:
    x, y = data()
    (fold, *_) = folds()
    short = Fold("x", fold.train, fold.dev, fold.test[:4])
    run = train_frozen(x, y, [short], (0, 1), CLASSES, QUICK)
    finite = np.isfinite(run.logits).all(axis=(0, 2))
    assert np.flatnonzero(finite).tolist() == short.test[:4].tolist()
    held = np.isfinite(run.dev_logits).all(axis=(0, 2))
    assert np.flatnonzero(held).tolist() == fold.dev.tolist()


def test_little_memory_gives_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    small = folds(number=5)
    small[4] = Fold("tiny", small[4].train[:7], small[4].dev, small[4].test)
    whole = train_frozen(x, y, small, (0, 1), CLASSES, replace(QUICK, components=9))
    monkeypatch.setattr(frozen, "GROUP_BYTES", 2 * 4 * len(y) * 9)
    assert [len(g) for g in frozen._groups(5, torch.from_numpy(x), replace(QUICK, components=9))] == [2, 2, 1]
    grouped = train_frozen(x, y, small, (0, 1), CLASSES, replace(QUICK, components=9))
    assert np.isfinite(grouped.logits).all()
    assert len(grouped.reductions) == len(grouped.classifiers) == 5
    np.testing.assert_allclose(grouped.logits, whole.logits, rtol=1e-3, atol=1e-3)
    assert np.array_equal(grouped.steps, whole.steps)


@pytest.mark.parametrize("layers", ["mix", "concat"])
@pytest.mark.parametrize("components", [None, 4, 10_000])
def test_few_rows_many_components_and_constant_features_are_fine(layers: Any, components: int | None) -> None:
    x, y = data(clips=18, dim=30)
    x[..., :5] = 2.5  # never varies
    x[..., 5] = 0.0
    run = train_frozen(x, y, folds(18), (0,), CLASSES, replace(QUICK, layers=layers, components=components))
    assert np.isfinite(run.logits).all()
    plain = fit_reduction(torch.from_numpy(x[:9]), "mix", None)
    moved = torch.from_numpy(x[:2]).clone()
    assert torch.allclose(plain(moved)[..., :6], torch.zeros(()), atol=1e-5)


@pytest.mark.parametrize("layers", ["mix", "concat"])
def test_features_that_say_nothing_at_all_still_train(layers: Any) -> None:
    _, y = data(clips=18)
    x = np.full((18, 2, 30), 7.0, np.float32)
    run = train_frozen(x, y, folds(18), (0,), CLASSES, replace(QUICK, layers=layers))
    assert np.isfinite(run.logits).all()


@pytest.mark.parametrize("layers", ["mix", "concat"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_what_can_be_told_apart_is_learned(layers: Any, head: Any) -> None:
    x, y = data(clips=150, distance=8.0)
    options = FrozenOptions(layers=layers, head=head, components=10, steps=60, learning_rate=2e-2)
    run = train_frozen(x, y, folds(150), (0,), CLASSES, options)
    assert balanced_accuracy_score(y, run.logits[0].argmax(1)) > 0.95


def test_rare_classes_count_as_much_as_common_ones_when_balanced() -> None:
    x, y = data(clips=150, distance=0.35)
    y[y == 2] = np.where(np.arange((y == 2).sum()) % 10 == 0, 2, 0)
    recalls = {}
    for weights in ("balanced", "none"):
        options = FrozenOptions(class_weights=weights, components=10, steps=60, refit=False)  # type: ignore[arg-type]
        run = train_frozen(x, y, folds(150, dev=False), (0,), CLASSES, options)
        answers = run.logits[0].argmax(1)
        recalls[weights] = (answers[y == 2] == 2).mean()
    assert recalls["balanced"] > recalls["none"]


def test_the_classifiers_that_come_out_give_the_scores_that_come_out() -> None:
    x, y = data()
    made = folds()
    run = train_frozen(x, y, made, (0, 1), CLASSES, replace(QUICK, dropout=0.3))
    for f, fold in enumerate(made):
        z = run.reductions[f](torch.from_numpy(x[fold.test]))
        for s in range(2):
            assert not run.classifiers[f][s].training
            scores = run.classifiers[f][s](z).detach().numpy()
            np.testing.assert_allclose(scores, run.logits[s, fold.test], rtol=1e-4, atol=1e-5)


def test_the_final_model_is_a_fold_that_trains_on_everybody() -> None:
    x, y = data()
    reduction, classifiers = train_final(x, y, (0, 7), CLASSES, QUICK, steps=20)
    everybody = Fold("all", np.arange(60), NOBODY, np.arange(60))
    run = train_frozen(x, y, [everybody], (0, 7), CLASSES, QUICK)
    assert isinstance(reduction, Reduction)
    for s, classifier in enumerate(classifiers):
        close(classifier.state_dict(), parameters(run, 0, s))
    early, _ = train_final(x, y, (0,), CLASSES, QUICK, steps=3)
    assert torch.equal(early.mean, reduction.mean)


def test_training_that_diverges_says_so() -> None:
    x, y = data()
    with pytest.raises(
        RecipeError, match=r"fold 'f0' diverged.*lower training\.learning_rate \(it is 1e\+30\)"
    ):
        train_frozen(x, y, folds(dev=False), (0,), CLASSES, replace(QUICK, learning_rate=1e30))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *((name, 0) for name in ("hidden", "batch_size", "steps", "check_every", "patience", "components")),
        *((name, value) for name in ("dropout", "input_dropout", "label_smoothing") for value in (-0.1, 1.0)),
        *(("learning_rate", value) for value in (0.0, -1.0, float("nan"), float("inf"))),
        ("weight_decay", -1.0),
        ("weight_decay", float("nan")),
        ("dropout", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(RecipeError, match=setting):
        FrozenOptions(**{setting: value})  # type: ignore[arg-type]
