"""Train all folds and seeds of a run as one batched computation on stacked parameters.

A member is one (fold, seed). The members' parameters carry a leading axis and ``torch.func.vmap`` runs the ordinary
classifier over it, so a new head needs no batched version of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from subtone.classifier import PooledClassifier, Reduction
from subtone.errors import RecipeError
from subtone.protocols import Fold
from subtone.training.options import FrozenOptions
from subtone.training.reduction import fit_reduction

State = dict[str, Tensor]
Rows = npt.NDArray[np.int64]

#: Reduced features of so many bytes are held at once; more folds are trained group after group.
GROUP_BYTES = 2_000_000_000


@dataclass(frozen=True)
class FrozenRun:
    """What a run of folds × seeds gave.

    Parameters
    ----------
    logits
        ``(seeds, clips, classes)`` float32: each clip scored by the members that had it in their test fold; NaN for
        a clip of no test fold.
    dev_logits
        ``(seeds, clips, classes)``: each clip scored by members that had it among their development rows and did
        not train on it (the last such fold); NaN elsewhere. For the calibration of one model of all folds.
    dev_by_fold
        One a fold, ``(seeds, development rows, classes)``: its development rows, in their order, scored by its own
        members before they were refitted. For the calibration of what a fold tests: whoever scored a clip in
        ``dev_logits`` may have trained on the fold's test speakers.
    steps
        ``(folds, seeds)`` training steps that development chose.
    dev_ua
        ``(folds, seeds)`` best development UA in [0, 1]; NaN without development rows.
    reductions
        One a fold.
    classifiers
        ``classifiers[fold][seed]``, in evaluation mode.
    """

    logits: npt.NDArray[np.float32]
    dev_logits: npt.NDArray[np.float32]
    dev_by_fold: tuple[npt.NDArray[np.float32], ...]
    steps: npt.NDArray[np.int64]
    dev_ua: npt.NDArray[np.float64]
    reductions: tuple[Reduction, ...]
    classifiers: tuple[tuple[PooledClassifier, ...], ...]


def train_frozen(
    features: npt.NDArray[np.float32],
    targets: Rows,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    classes: int,
    options: FrozenOptions,
) -> FrozenRun:
    """Train one classifier a fold and seed on pooled features, all at once.

    Development rows choose the number of steps; with ``options.refit`` a second training on training and
    development rows together runs for that many steps. Test rows are only ever scored.

    Parameters
    ----------
    features : ndarray
        ``(clips, layers, dim)`` float32, pooled.
    targets : ndarray
        ``(clips,)`` class indices.
    folds : sequence of Fold
        Positions of the training, development and test clips.
    seeds : sequence of int
        A seed sets the initial weights and the order of the rows of its members. Dropout is drawn for all
        members at once, by the first seed: a member trained in other company differs as another draw would.
    classes : int
        Number of classes.
    options : FrozenOptions
        See there.

    Returns
    -------
    FrozenRun
        The same numbers for the same arguments on the same machine.

    Raises
    ------
    RecipeError
        If training diverges.
    """
    x, y = torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(targets)
    shape = (len(seeds), len(y), classes)
    logits, dev_logits = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    steps = np.full((len(folds), len(seeds)), options.steps, np.int64)
    dev_ua = np.full((len(folds), len(seeds)), np.nan)
    dev_by_fold: list[npt.NDArray[np.float32]] = []
    reductions: list[Reduction] = []
    classifiers: list[tuple[PooledClassifier, ...]] = []
    # One number of components for all folds, since their parameters are stacked.
    components = options.components and min(options.components, *(len(f.train) for f in folds))
    for group in _groups(len(folds), x, options):
        chosen = [folds[f] for f in group]
        run = _Members(x, y, chosen, seeds, classes, options, components)
        fitted = run.fit([f.train for f in chosen], [f.dev for f in chosen])
        for fold, scores in zip(chosen, run.score(fitted.state, [f.dev for f in chosen]), strict=True):
            dev_logits[:, fold.dev] = scores
            dev_by_fold.append(scores)
        steps[group], dev_ua[group] = fitted.steps, fitted.dev_ua
        if options.refit and any(len(f.dev) for f in chosen):
            fitted = run.fit([_both(f) for f in chosen], None, fitted.steps)
        for fold, scores in zip(chosen, run.score(fitted.state, [f.test for f in chosen]), strict=True):
            logits[:, fold.test] = scores
        for fold in chosen:
            if not np.isfinite(logits[:, fold.test]).all():
                raise RecipeError(
                    f"training of fold {fold.name!r} diverged, its scores are not finite; "
                    f"lower training.learning_rate (it is {options.learning_rate:g})"
                )
        reductions += run.reductions
        classifiers += run.unstack(fitted.state)
    return FrozenRun(
        logits, dev_logits, tuple(dev_by_fold), steps, dev_ua, tuple(reductions), tuple(classifiers)
    )


def train_final(
    features: npt.NDArray[np.float32],
    targets: Rows,
    seeds: Sequence[int],
    classes: int,
    options: FrozenOptions,
    *,
    steps: int,
) -> tuple[Reduction, tuple[PooledClassifier, ...]]:
    """Train one classifier a seed on all clips, for a number of steps that folds have chosen.

    Parameters
    ----------
    features, targets, seeds, classes, options
        As for :func:`train_frozen`.
    steps : int
        Between 1 and ``options.steps``, whose learning rate schedule is followed.

    Returns
    -------
    Reduction, tuple of PooledClassifier
        Fitted on all clips; in evaluation mode.
    """
    x, y = torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(targets)
    nobody = np.empty(0, np.int64)
    everybody = Fold("all", np.arange(len(y)), nobody, nobody)
    components = options.components and min(options.components, len(y))
    run = _Members(x, y, [everybody], seeds, classes, options, components)
    fitted = run.fit([everybody.train], None, np.full((1, len(seeds)), steps))
    return run.reductions[0], run.unstack(fitted.state)[0]


@dataclass(frozen=True)
class _Fitted:
    state: State  # each (members, ...)
    steps: npt.NDArray[np.int64]  # (folds, seeds)
    dev_ua: npt.NDArray[np.float64]  # (folds, seeds)


class _Members:
    """The stacked classifiers of some folds and all seeds, over features reduced once a fold."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        folds: Sequence[Fold],
        seeds: Sequence[int],
        classes: int,
        options: FrozenOptions,
        components: int | None,
    ) -> None:
        self.y, self.folds, self.seeds, self.classes, self.options = y, folds, seeds, classes, options
        self.reductions = [fit_reduction(x[f.train], options.layers, components) for f in folds]
        self.z = torch.stack([reduction(x) for reduction in self.reductions])  # (folds, clips, layers, dim)
        self.fold_of = torch.arange(len(folds)).repeat_interleave(len(seeds))  # (members,)
        self.template = self._classifier(0).to("meta")

    def _classifier(self, seed: int) -> PooledClassifier:
        o, first = self.options, self.reductions[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return PooledClassifier(
                first.num_layers,
                first.dim,
                self.classes,
                head=o.head,
                hidden=o.hidden,
                dropout=o.dropout,
                input_dropout=o.input_dropout,
            )

    def fit(
        self, train: Sequence[Rows], dev: Sequence[Rows] | None, steps: npt.NDArray[np.int64] | None = None
    ) -> _Fitted:
        """Train all members; keep each as it was at its best development check, or after its given steps."""
        o, members = self.options, len(self.fold_of)
        given = None if steps is None else torch.from_numpy(steps.reshape(-1))
        last = o.steps if given is None else int(given.max())
        state = self._start()
        best = {k: v.detach().clone() for k, v in state.items()}
        best_ua, best_loss = torch.full((members,), -torch.inf), torch.full((members,), torch.inf)
        best_step = torch.full((members,), last)
        stopped = torch.zeros(members, dtype=torch.bool)
        optimiser = torch.optim.AdamW(
            state.values(), o.learning_rate, weight_decay=o.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, o.steps)
        weights = self._class_weights(train)  # (members, classes)
        batches = self._batches(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seeds[0])
            for step in range(1, last + 1):
                batch = next(batches)  # (members, batch)
                scores = self._run(state, batch, train=True)
                loss = _loss(scores, self.y[batch], weights, o.label_smoothing)
                optimiser.zero_grad()
                torch.autograd.backward(loss.sum())
                optimiser.step()
                schedule.step()
                if given is not None:
                    keep = given == step
                elif dev is None or (step % o.check_every and step != last):
                    continue
                else:
                    ua, ce = self._dev(state, dev, weights)
                    # A fold without development rows has UA -1 throughout and so keeps its last step.
                    keep = (ua > best_ua) | ((ua == best_ua) & (ce < best_loss)) | (ua < 0)
                    # Each member by itself: the others have heard its test speakers and may not tell it when.
                    keep &= ~stopped
                    best_ua, best_loss = torch.where(keep, ua, best_ua), torch.where(keep, ce, best_loss)
                    best_step = torch.where(keep, step, best_step)
                for name, value in state.items():
                    best[name][keep] = value.detach()[keep]
                if given is None:
                    stopped |= step - best_step >= o.patience * o.check_every
                    if bool(stopped.all()):
                        break
        shape = (len(self.folds), len(self.seeds))
        ua_found = torch.where(best_ua < 0, torch.nan, best_ua).double()
        chosen = best_step if given is None else given
        return _Fitted(best, chosen.reshape(shape).numpy(), ua_found.reshape(shape).numpy())

    def _start(self) -> State:
        """Stack the untrained parameters: those of a seed are the same in each fold."""
        params, _ = stack_module_state([self._classifier(s) for _ in self.folds for s in self.seeds])
        return {k: v.detach().requires_grad_() for k, v in params.items()}

    def _run(self, state: State, rows: Tensor, *, train: bool) -> Tensor:
        """Score ``rows (members, batch)`` of the members' own reduced features: ``(members, batch, classes)``."""
        self.template.train(train)
        z = self.z[self.fold_of[:, None], rows]  # (members, batch, layers, dim)

        def one(member: State, inputs: Tensor) -> Tensor:
            out: Tensor = functional_call(self.template, member, (inputs,))
            return out

        scores: Tensor = vmap(one, randomness="different")(state, z)
        return scores

    def _batches(self, train: Sequence[Rows]) -> Iterator[Tensor]:
        """Yield ``(members, batch)`` row positions for ever: each member goes through its rows in random order."""
        size = self.options.batch_size  # whatever the folds hold: none may change the batches of another
        rows = [train[fold] for fold in self.fold_of.tolist()]
        orders = [np.random.default_rng(seed) for _ in self.folds for seed in self.seeds]
        queues = [np.empty(0, np.int64) for _ in rows]
        while True:
            batch = np.empty((len(rows), size), np.int64)
            for m, rng in enumerate(orders):
                while len(queues[m]) < size:
                    queues[m] = np.concatenate([queues[m], rng.permutation(rows[m])])
                batch[m], queues[m] = queues[m][:size], queues[m][size:]
            yield torch.from_numpy(batch)

    def _class_weights(self, train: Sequence[Rows]) -> Tensor:
        if self.options.class_weights == "none":
            return torch.ones(len(self.fold_of), self.classes)
        counts = torch.stack([torch.bincount(self.y[r], minlength=self.classes) for r in train])
        weights = counts.sum(1, keepdim=True) / (self.classes * counts.clamp_min(1))
        return weights[self.fold_of].float()

    @torch.no_grad()
    def _dev(self, state: State, dev: Sequence[Rows], weights: Tensor) -> tuple[Tensor, Tensor]:
        """Development UA and loss of each member, ``(members,)`` each; -1 where a fold has no development rows."""
        padded, valid = _pad(dev)
        rows, valid = padded[self.fold_of], valid[self.fold_of]  # (members, dev)
        scores = self._run(state, rows, train=False)  # (members, dev, classes)
        target = torch.nn.functional.one_hot(self.y[rows], self.classes) * valid[..., None]
        hit = (scores.argmax(-1) == self.y[rows])[..., None] * target
        support = target.sum(1)  # (members, classes)
        recall = hit.sum(1) / support.clamp_min(1)
        ua = recall.sum(1) / (support > 0).sum(1).clamp_min(1)
        ua = torch.where(valid.any(1), ua, -1.0)
        return ua, _loss(scores, self.y[rows], weights, 0.0, valid)

    @torch.no_grad()
    def score(self, state: State, rows: Sequence[Rows]) -> list[npt.NDArray[np.float32]]:
        """Score each fold's rows by its members: ``(seeds, rows, classes)`` a fold."""
        padded, _ = _pad(rows)
        scores = np.empty((len(self.fold_of), 0, self.classes), np.float32)
        if padded.shape[1]:
            scores = self._run(state, padded[self.fold_of], train=False).numpy()
        k = len(self.seeds)
        return [scores[fold * k : (fold + 1) * k, : len(own)] for fold, own in enumerate(rows)]

    def unstack(self, state: State) -> list[tuple[PooledClassifier, ...]]:
        """One classifier a member, as ``[fold][seed]``."""
        members = []
        for m in range(len(self.fold_of)):
            classifier = self._classifier(0)
            classifier.load_state_dict({k: v[m] for k, v in state.items()})
            members.append(classifier.eval())
        k = len(self.seeds)
        return [tuple(members[i : i + k]) for i in range(0, len(members), k)]


def _loss(
    scores: Tensor, target: Tensor, weights: Tensor, smoothing: float, valid: Tensor | None = None
) -> Tensor:
    """Weighted cross-entropy of each member, ``(members,)``, with label smoothing as in PyTorch's own."""
    logp = scores.log_softmax(-1)  # (members, batch, classes)
    weight = weights.gather(1, target)  # (members, batch)
    if valid is not None:
        weight = weight * valid
    nll = -logp.gather(-1, target[..., None])[..., 0] * weight
    smooth = -(logp * weights[:, None, :]).mean(-1)
    if valid is not None:
        smooth = smooth * valid
    total = (1 - smoothing) * nll + smoothing * smooth
    return total.sum(1) / weight.sum(1).clamp_min(1e-12)


def _both(fold: Fold) -> Rows:
    return np.concatenate([fold.train, fold.dev])


def _pad(rows: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """Stack row lists of unequal length: positions and a mask, both ``(folds, longest)``."""
    longest = max((len(r) for r in rows), default=0)
    padded = torch.zeros(len(rows), longest, dtype=torch.int64)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, r in enumerate(rows):
        padded[i, : len(r)] = torch.from_numpy(r)
        valid[i, : len(r)] = True
    return padded, valid


def _groups(folds: int, x: Tensor, options: FrozenOptions) -> Iterator[list[int]]:
    clips, layers, dim = x.shape
    inputs = (
        layers * dim
        if options.components is None
        else (layers if options.layers == "mix" else 1) * min(options.components, layers * dim)
    )
    size = max(1, int(GROUP_BYTES // (4 * clips * inputs)))
    for start in range(0, folds, size):
        yield list(range(start, min(folds, start + size)))
