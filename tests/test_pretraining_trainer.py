"""Trainings: a plain loop's weights, the same after any kill, the same in one process or two, and never lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from subtone import upstreams
from subtone.errors import PretrainingError, SubtoneError, UsageError
from subtone.extraction.scratch import alone_if_free
from subtone.pretraining.curves import Curves, read_curves
from subtone.pretraining.frames import FrameCorpus, Sampler
from subtone.pretraining.loading import load
from subtone.pretraining.objectives import build_objective
from subtone.pretraining.options import PretrainOptions, learning_rate
from subtone.pretraining.run import pretrain
from tests import small_frames, synthetic

#: A process that has imported all it needs and forks a run for each line it is given, so that many runs can be killed.
NURSERY = """
import json, os, sys
import torch
torch.set_num_threads(1)
from subtone.pretraining.frames import FrameCorpus
from subtone.pretraining.options import PretrainOptions
from subtone.pretraining.run import pretrain
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        options = PretrainOptions.defaults(order["architecture"], "tiny", **order["settings"])
        pretrain(order["architecture"], FrameCorpus.open(order["frames"]), order["out"], options=options)
        os._exit(0)
    print(json.dumps({"status": os.waitpid(child, 0)[1]}), flush=True)
"""
SHARED_OUT = """
import json, sys
import torch
torch.set_num_threads(1)
from subtone.pretraining.frames import FrameCorpus
from subtone.pretraining.options import PretrainOptions
from subtone.pretraining.run import pretrain
order = json.loads(sys.argv[1])
options = PretrainOptions.defaults("mockingjay", "tiny", **order["settings"])
pretrain("mockingjay", FrameCorpus.open(order["frames"]), order["out"], options=options)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> FrameCorpus:
    return small_frames.corpus(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().strip() == "ready"
    yield process
    process.stdin.close()
    process.wait()


def run_in(nursery: subprocess.Popen[str], order: dict[str, object], kill_after_s: float | None) -> int:
    """Run to the end, or kill it on the way; return how the process ended."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(json.dumps(order) + "\n")
    nursery.stdin.flush()
    child = int(nursery.stdout.readline())
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return int(json.loads(nursery.stdout.readline())["status"])


def moments(run: Path) -> dict[str, torch.Tensor]:
    """Return the mean squared gradient of each weight of the encoder."""
    tensors = load_file(sorted((run / "checkpoint").iterdir())[-1])
    start, end = "optimiser/encoder.", "/exp_avg_sq"
    return {name[len(start) : -len(end)]: v for name, v in tensors.items() if name.endswith(end)}


def assert_same(name: str, one: torch.Tensor, other: torch.Tensor, squares: dict[str, torch.Tensor]) -> None:
    """Compare all weights but those that nothing depends on, such as a bias before a normalisation.

    Their gradient is nothing but rounding, which Adam makes as large as any other.
    """
    close = torch.isclose(one.double(), other.double(), atol=1e-5)
    if name in squares:
        close |= squares[name].sqrt() < 1e-7
    assert bool(close.all()), name


def options(architecture: str = "mockingjay", **changes: object) -> PretrainOptions:
    given = {
        "steps": 12,
        "batch_size": 4,
        "crop_frames": 60,
        "checkpoint_every": 5,
        "log_every": 2,
        **changes,
    }
    return PretrainOptions.defaults(architecture, "tiny", **given)


@pytest.mark.parametrize(("architecture", "masking"), [("mockingjay", "ems-nms"), ("npc", "none")])
def test_what_is_learned_is_an_upstream(
    corpus: FrameCorpus, tmp_path: Path, architecture: str, masking: str
) -> None:
    told = []
    run = pretrain(
        architecture,
        corpus,
        tmp_path / "run",
        options=options(architecture, steps=60, masking=masking, learning_rate=5e-3),
        on_progress=told.append,
    )
    loaded = upstreams.load(str(run.upstream))
    trained = load_file(run.upstream / "model.safetensors")
    fresh = build_objective(architecture, "tiny").encoder.state_dict()
    assert trained.keys() == fresh.keys()
    assert any(not torch.equal(trained[name], fresh[name]) for name in fresh)
    (frames,) = loaded.extract([synthetic.utterance(1.0)])
    assert np.isfinite(frames).all()
    rows = read_curves(tmp_path / "run" / "curves.csv")
    assert [row["step"] for row in rows] == [*range(2, 61, 2)] or rows[-1]["step"] == 60
    assert np.mean([row["loss"] for row in rows[-5:]]) < np.mean([row["loss"] for row in rows[:5]])
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["corpus"]["digest"] == corpus.digest
    assert about["result"]["steps"] == 60
    assert about["result"]["frames_per_s"] > 0
    assert (about["result"]["coverage"] > 0) == (masking != "none")
    assert told[-1].step == 60


@pytest.mark.parametrize("architecture", ["mockingjay", "npc"])
def test_the_weights_are_those_of_a_plain_loop(
    corpus: FrameCorpus, tmp_path: Path, architecture: str
) -> None:
    told = options(architecture, steps=4, accumulate=3, masking="ems", clip_norm=0.05)
    run = pretrain(architecture, corpus, tmp_path / "run", options=told)
    objective = build_objective(
        architecture, "tiny", masking="ems", intensity_input=True, intensity_target=True, seed=told.seed
    )
    kind = torch.optim.AdamW if architecture == "mockingjay" else torch.optim.Adam
    optimiser = kind(objective.parameters(), lr=1.0)
    sampler = Sampler(corpus.lengths, told.batch_size, told.crop_frames, told.seed)
    generator = torch.Generator()
    deltas = objective.encoder.options.deltas
    state = torch.random.get_rng_state()
    for step in range(told.steps):
        losses = []
        for turn in range(3):
            number = 3 * step + turn
            drawn = np.random.SeedSequence([told.seed, number]).generate_state(2, np.uint64)
            torch.manual_seed(int(drawn[0] >> 1))
            generator.manual_seed(int(drawn[1] >> 1))
            batch = load(corpus, sampler, number, deltas=deltas, intensity=True).batch
            losses.append(objective(batch, generator))
        loss = sum(one.total * one.weight for one in losses) / sum(one.weight for one in losses)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), told.clip_norm)
        optimiser.param_groups[0]["lr"] = learning_rate(told, step)
        optimiser.step()
    torch.random.set_rng_state(state)
    trained = load_file(run.upstream / "model.safetensors")
    for name, value in objective.encoder.state_dict().items():
        assert_same(name, trained[name], value, moments(tmp_path / "run"))


@pytest.mark.parametrize("architecture", ["mockingjay", "npc"])
def test_killed_at_random_moments_and_run_again_the_weights_are_the_same_to_the_bit(
    corpus: FrameCorpus, nursery: subprocess.Popen[str], tmp_path: Path, architecture: str
) -> None:
    settings = {
        "steps": 40,
        "batch_size": 4,
        "accumulate": 2,
        "crop_frames": 50,
        "checkpoint_every": 7,
        "log_every": 5,
        "masking": "ems-sample",
    }
    order: dict[str, object] = {
        "architecture": architecture,
        "settings": settings,
        "frames": str(corpus.folder),
    }
    began = time.perf_counter()
    assert run_in(nursery, {**order, "out": str(tmp_path / "whole")}, None) == 0
    needed = time.perf_counter() - began
    chance = random.Random(2)
    killed = 0
    for _ in range(4):
        status = run_in(
            nursery, {**order, "out": str(tmp_path / "killed")}, chance.uniform(0.05, 0.6) * needed
        )
        killed += status != 0
    assert run_in(nursery, {**order, "out": str(tmp_path / "killed")}, None) == 0
    assert killed > 0
    for name in ("upstream/model.safetensors", "upstream/config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    (whole, again) = (sorted((tmp_path / name / "checkpoint").iterdir())[-1] for name in ("whole", "killed"))
    expected, found = load_file(whole), load_file(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    timed = ("frames_per_s", "wait_share")
    curves = [
        [
            {k: v for k, v in row.items() if k not in timed}
            for row in read_curves(tmp_path / name / "curves.csv")
        ]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


def test_two_processes_learn_what_one_learns_with_twice_the_batches(
    corpus: FrameCorpus, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHARED_OUT)
    shared = {"steps": 6, "batch_size": 3, "crop_frames": 50, "masking": "ems", "checkpoint_every": 3}
    order = {
        "frames": str(corpus.folder),
        "out": str(tmp_path / "two"),
        "settings": {**shared, "devices": 2},
    }
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(order)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    two = load_file(tmp_path / "two" / "upstream" / "model.safetensors")
    one = pretrain(
        "mockingjay",
        corpus,
        tmp_path / "one",
        options=PretrainOptions.defaults("mockingjay", "tiny", **shared, accumulate=2),
    )
    for name, value in load_file(one.upstream / "model.safetensors").items():
        assert_same(name, two[name], value, moments(tmp_path / "one"))
    told = [read_curves(tmp_path / name / "curves.csv")[-1] for name in ("one", "two")]
    assert told[0]["loss"] == pytest.approx(told[1]["loss"], rel=1e-5)
    assert told[0]["coverage"] == pytest.approx(told[1]["coverage"])
    # Either may take up what the other has begun.
    again = pretrain(
        "mockingjay",
        corpus,
        tmp_path / "two",
        options=PretrainOptions.defaults("mockingjay", "tiny", **shared, accumulate=2),
    )
    assert again.result["steps"] == 6


def test_half_precision_touches_products_and_not_targets(corpus: FrameCorpus, tmp_path: Path) -> None:
    runs = {
        precision: pretrain(
            "npc", corpus, tmp_path / precision, options=options("npc", precision=precision, steps=3)
        )
        for precision in ("fp32", "bf16")
    }
    assert runs["bf16"].result["loss"] == pytest.approx(runs["fp32"].result["loss"], rel=2e-3)
    exact, rounded = (load_file(run.upstream / "model.safetensors") for run in runs.values())
    assert all(value.dtype == exact[name].dtype for name, value in rounded.items())
    assert any(not torch.equal(value, exact[name]) for name, value in rounded.items())


def test_a_finished_run_is_not_run_again(corpus: FrameCorpus, tmp_path: Path) -> None:
    first = pretrain("npc", corpus, tmp_path / "run", options=options("npc"))
    (checkpoint,) = sorted((tmp_path / "run" / "checkpoint").iterdir())[-1:]
    changed = checkpoint.stat().st_mtime_ns
    again = pretrain("npc", corpus, tmp_path / "run", options=options("npc"))
    assert checkpoint.stat().st_mtime_ns == changed
    assert again.result == first.result


def test_a_finished_run_without_its_curves_is_still_finished(corpus: FrameCorpus, tmp_path: Path) -> None:
    given = options("npc", steps=2)
    first = pretrain("npc", corpus, tmp_path / "run", options=given)
    (tmp_path / "run" / "curves.csv").unlink()
    assert pretrain("npc", corpus, tmp_path / "run", options=given).result == first.result


def test_short_utterances_are_left_out_and_told(corpus: FrameCorpus, tmp_path: Path) -> None:
    given = options("npc", steps=1, min_frames=100)
    run = pretrain("npc", corpus, tmp_path / "run", options=given)
    kept = corpus.select(corpus.lengths >= 100)
    assert 0 < len(kept) < len(corpus)
    about = json.loads((run.folder / "run.json").read_text())["corpus"]
    assert (about["digest"], about["utterances"]) == (kept.digest, len(kept))
    assert about["left_out_as_short"] == len(corpus) - len(kept)
    longest = corpus.lengths.max()
    with pytest.raises(UsageError, match=f"no utterance has {longest + 1} frames, the longest {longest}"):
        pretrain("npc", corpus, tmp_path / "none", options=options("npc", min_frames=int(longest) + 1))


def test_a_run_from_before_a_setting_goes_on_with_its_default(corpus: FrameCorpus, tmp_path: Path) -> None:
    given = options("npc", steps=1)
    first = pretrain("npc", corpus, tmp_path / "run", options=given)
    about = json.loads((first.folder / "run.json").read_text())
    del about["settings"]["min_frames"]
    (first.folder / "run.json").write_text(json.dumps(about))
    assert pretrain("npc", corpus, first.folder, options=given).result == first.result


def test_what_a_killed_run_had_half_written_is_gone_when_it_is_taken_up(
    corpus: FrameCorpus, tmp_path: Path
) -> None:
    given = options("npc", steps=1)
    run = pretrain("npc", corpus, tmp_path / "run", options=given)
    half = [run.upstream / ".model.safetensors.123", run.folder / ".run.json.45"]
    for path in half:
        path.write_text("half")
    (run.upstream / ".hidden.mine").write_text("mine")
    pretrain("npc", corpus, tmp_path / "run", options=given)
    assert not any(path.exists() for path in half)
    assert (run.upstream / ".hidden.mine").exists()


def test_two_at_once_in_one_folder_do_not_mix(corpus: FrameCorpus, tmp_path: Path) -> None:
    run, given = tmp_path / "run", options("npc", steps=2)
    run.mkdir()
    with alone_if_free(run / ".lock") as free:
        assert free
        with pytest.raises(PretrainingError, match="another process is training there"):
            pretrain("npc", corpus, run, options=given)
    assert pretrain("npc", corpus, run, options=given).result["steps"] == 2


def test_only_what_is_new_or_a_run_becomes_a_run(corpus: FrameCorpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PretrainingError, match="is a file"):
        pretrain("npc", corpus, tmp_path / "file", options=options("npc"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    with pytest.raises(PretrainingError, match=r"holds other files and no run\.json"):
        pretrain("npc", corpus, tmp_path / "folder", options=options("npc"))
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".run.json.123").write_text("{")  # killed while it wrote the first file
    assert pretrain("npc", corpus, tmp_path / "killed", options=options("npc", steps=1)).result["steps"] == 1


def test_a_run_with_other_settings_is_refused_by_name(corpus: FrameCorpus, tmp_path: Path) -> None:
    pretrain("npc", corpus, tmp_path / "run", options=options("npc", steps=2))
    with pytest.raises(PretrainingError, match=r"seed \(0, now 1\), another steps|steps \(2, now 3\)"):
        pretrain("npc", corpus, tmp_path / "run", options=options("npc", steps=3, seed=1))
    with pytest.raises(PretrainingError, match=r"architecture \(npc, now mockingjay\)"):
        pretrain("mockingjay", corpus, tmp_path / "run", options=options(steps=2))
    with pytest.raises(PretrainingError, match=r"corpus \(14 utterances, now 13\)"):
        pretrain("npc", corpus.without(corpus.files[:1]), tmp_path / "run", options=options("npc", steps=2))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(PretrainingError, match="holds other files"):
        pretrain("npc", corpus, tmp_path / "thesis", options=options("npc", steps=2))


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights(
    corpus: FrameCorpus, tmp_path: Path
) -> None:
    with pytest.raises(
        PretrainingError, match=r"try a lower learning rate \(now 1e\+30\); the last checkpoint"
    ):
        pretrain(
            "mockingjay",
            corpus,
            tmp_path / "run",
            options=options(learning_rate=1e30, warmup_share=0.0, checkpoint_every=1, steps=40),
        )
    with pytest.raises(PretrainingError, match=r"no finite number; .*; there is no checkpoint yet"):
        pretrain(
            "mockingjay",
            corpus,
            tmp_path / "none",
            options=options(learning_rate=1e30, warmup_share=0.0, checkpoint_every=40, steps=40),
        )
    newest = load_file(sorted((tmp_path / "run" / "checkpoint").iterdir())[-1])
    assert all(bool(torch.isfinite(value).all()) for value in newest.values())


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_leads_to_the_same_end(
    corpus: FrameCorpus, tmp_path: Path
) -> None:
    told = options("npc", steps=12, checkpoint_every=4)
    whole = pretrain("npc", corpus, tmp_path / "run", options=told)
    weights = (whole.upstream / "model.safetensors").read_bytes()
    newest = sorted((tmp_path / "run" / "checkpoint").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(PretrainingError, match=r"is damaged .* goes on from the checkpoint before it"):
        pretrain("npc", corpus, tmp_path / "run", options=told)
    newest.unlink()
    pretrain("npc", corpus, tmp_path / "run", options=told)
    assert (whole.upstream / "model.safetensors").read_bytes() == weights


def test_memory_that_runs_out_is_told_with_the_setting_to_change(tmp_path: Path) -> None:
    # In a process of its own, that is given 40 MB more than it has when the training begins.
    script = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from subtone.errors import PretrainingError
from subtone.pretraining.frames import prepare
from subtone.pretraining.options import PretrainOptions
from subtone.pretraining.run import pretrain
from tests import synthetic
folder = Path(sys.argv[1])
corpus = prepare([synthetic.write(folder / "a.wav", synthetic.utterance(599.0))], folder / "frames")
options = PretrainOptions.defaults("mockingjay", "tiny", batch_size=30, crop_frames=2000)
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (40 << 20),) * 2)
try:
    pretrain("mockingjay", corpus, folder / "run", options=options)
except PretrainingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert "not enough memory for 30 utterances of up to 2000 frames" in done.stdout, done.stderr
    assert "give a smaller batch size" in done.stdout


def test_the_state_of_chance_of_the_caller_is_left_alone(corpus: FrameCorpus, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain("mockingjay", corpus, tmp_path / "run", options=options(steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_row_that_was_cut_off_and_rows_of_a_lost_part_are_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    curves = Curves(path, 0)
    for step in (5, 10, 15):
        curves.add({"step": step, "loss": 1 / step})
    with path.open("a") as file:
        file.write("20,0.0")
    Curves(path, 10).add({"step": 15, "loss": 0.5})
    assert [row["step"] for row in read_curves(path)] == [5, 10, 15]
    assert read_curves(path)[-1]["loss"] == 0.5


def test_settings_of_the_papers_are_there_by_name() -> None:
    mockingjay = PretrainOptions.defaults("mockingjay", "paper")
    npc = PretrainOptions.defaults("npc", "paper")
    assert (mockingjay.optimiser, mockingjay.learning_rate, mockingjay.warmup_share) == ("adamw", 2e-4, 0.07)
    assert (mockingjay.batch_size, mockingjay.accumulate, mockingjay.steps) == (4, 4, 1_000_000)
    assert (npc.optimiser, npc.learning_rate, npc.batch_size, npc.crop_frames) == ("adam", 1e-3, 32, 1500)
    assert (npc.min_frames, mockingjay.min_frames) == (201, 201)
    assert PretrainOptions.defaults("npc").min_frames == 20
    assert (npc.masking, mockingjay.masking, npc.clip_norm, npc.steps) == ("none", "random", 5.0, 335_000)
    for masking, wanted in (("random", False), ("ems", True), ("ems-nms", True), ("ems-sample", True)):
        told = PretrainOptions.defaults("mockingjay", masking=masking)
        assert (told.intensity_input, told.intensity_target) == (wanted, wanted)
    assert not PretrainOptions.defaults("npc", masking="ems", intensity_target=False).intensity_target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"warmup_share": 1.0}, "warmup_share must be from 0 to below 1"),
        ({"precision": "fp8"}, "precision 'fp8' is not known"),
        ({"masking": "esm"}, "did you mean 'ems'"),
        ({"stepps": 3}, "did you mean 'steps'"),
        ({"crop_frames": 1}, "crop_frames must be a whole number from 2, got 1"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SubtoneError, match=message):
        PretrainOptions.defaults("mockingjay", **changes)


def test_a_corpus_that_lacks_what_is_needed_is_told_before_the_first_step(tmp_path: Path) -> None:
    from subtone.pretraining.frames import prepare

    file = synthetic.write(tmp_path / "a.wav", synthetic.utterance(0.6))
    short = synthetic.write(tmp_path / "b.wav", synthetic.utterance(0.1))
    plain = prepare([file, short], tmp_path / "frames")
    with pytest.raises(UsageError, match="has no intensities"):
        pretrain("mockingjay", plain, tmp_path / "run", options=options(masking="ems"))
    with pytest.raises(UsageError, match="no utterance to learn from"):
        pretrain("mockingjay", prepare([short], tmp_path / "frames"), tmp_path / "run", options=options())
    with pytest.raises(UsageError, match="of 20 frames at most, is long enough for a span of 7"):
        pretrain("mockingjay", plain, tmp_path / "run", options=options(crop_frames=20))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="40 mel bands and the encoder takes 80"):
        pretrain(
            "npc", prepare([file], tmp_path / "fewer", num_mel=40), tmp_path / "run", options=options("npc")
        )
