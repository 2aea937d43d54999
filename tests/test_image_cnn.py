"""CNNs for images as encoders of pictures of speech: what is opened, what is refused, what comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from subtone.errors import UpstreamError
from subtone.training.segments.image_cnn import (
    FAMILIES,
    LEAST_SIZE,
    SHIPPED,
    ImageCNN,
    load_image_cnn,
    save_image_cnn,
)

TINY: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "groups_width": 8},
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "convnextv2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "mobilenet_v1": {"depth_multiplier": 0.1},
    "mobilenet_v2": {"depth_multiplier": 0.1},
    "bit": {"embedding_size": 8, "hidden_sizes": [32, 32, 32, 32], "depths": [1, 1, 1, 1], "num_groups": 4},
}  # fmt: skip


def saved(folder: Path, family: str = "resnet", **options: Any) -> Path:
    """Save a random network as its makers do, batch norms not at their first values."""
    config = transformers.AutoConfig.for_model(family, **{**TINY[family], **options})
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.1, 1.0)  # small, so that random weights let something through
    model.save_pretrained(folder)
    return folder


def pictures(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_turns_pictures_of_any_size_into_vectors(tmp_path: Path, family: str) -> None:
    cnn = load_image_cnn(saved(tmp_path, family))
    for height, width in ((1, 1), (20, 90), (128, 33), (64, 200)):
        with torch.no_grad():
            vectors = cnn(pictures(2, 1, height, width))
        assert vectors.shape == (2, cnn.dim)
        assert vectors.isfinite().all()


@pytest.mark.parametrize("family", ["resnet", "regnet", "convnext", SHIPPED])
def test_vectors_do_not_depend_on_the_batch(tmp_path: Path, family: str) -> None:
    cnn = load_image_cnn(family if family == SHIPPED else saved(tmp_path, family))
    some = pictures(3, 1, 40, 64)
    with torch.no_grad():
        alone = torch.cat([cnn(one[None]) for one in some])
        torch.testing.assert_close(cnn(some), alone)
    assert not torch.allclose(alone[0], alone[1])


def test_vectors_are_those_of_the_network_itself(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    some = pictures(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(load_image_cnn(folder)(some), theirs(some).pooler_output[..., 0, 0])


def test_a_classifier_is_opened_without_its_head(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("resnet", **TINY["resnet"], num_labels=5)
    whole = transformers.AutoModelForImageClassification.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    some = pictures(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.resnet(some).pooler_output.flatten(1)
        torch.testing.assert_close(load_image_cnn(tmp_path)(some), expected)


def test_channels_are_repeated_or_averaged_to_those_that_are_wanted(tmp_path: Path) -> None:
    three = load_image_cnn(saved(tmp_path / "three"))
    one = load_image_cnn(saved(tmp_path / "one", num_channels=1))
    some = pictures(2, 3, 32, 40)
    mean = some.mean(1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(three(mean), three(mean.expand(-1, 3, -1, -1)))
        torch.testing.assert_close(one(some), one(mean))
        assert not torch.allclose(three(some), three(mean))
        two = some[:, :2]
        torch.testing.assert_close(three(two), three(two.mean(1, keepdim=True)))


def test_small_pictures_are_stretched_to_the_least_size(tmp_path: Path) -> None:
    cnn = load_image_cnn(saved(tmp_path, "convnext"))
    with torch.no_grad():
        stretched = torch.full((1, 1, LEAST_SIZE, 50), 0.7)
        torch.testing.assert_close(cnn(torch.full((1, 1, 3, 50), 0.7)), cnn(stretched))


@pytest.mark.parametrize("shape", [(128, 200), (1, 128, 200), (2, 1, 0, 5)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\)"):
        load_image_cnn(saved(tmp_path))(torch.zeros(shape))


def test_a_frozen_backbone_learns_nothing_in_training_mode(tmp_path: Path) -> None:
    cnn = load_image_cnn(saved(tmp_path))
    before = cnn.fingerprint()
    cnn.freeze()
    head = torch.nn.Sequential(cnn, torch.nn.Linear(cnn.dim, 2)).train()
    assert not head[0](pictures(4, 1, 32, 32)).requires_grad
    assert cnn.frozen
    assert cnn.fingerprint() == before
    cnn.unfreeze()
    assert head[0](pictures(4, 1, 32, 32)).requires_grad
    assert cnn.fingerprint() != before  # batch norms have moved
    head.eval()
    assert not cnn.backbone.training


def test_opening_one_moves_no_random_draws(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_image_cnn(folder)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_what_is_saved_is_read_back_the_same(tmp_path: Path, family: str) -> None:
    cnn = load_image_cnn(saved(tmp_path / "theirs", family))
    cnn.taught_on = ("emotale",)
    save_image_cnn(cnn, tmp_path / "ours")
    again = load_image_cnn(tmp_path / "ours")
    assert again.taught_on == ("emotale",)
    assert again.fingerprint() == cnn.fingerprint()
    assert again.dim == cnn.dim
    some = pictures(2, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(again(some), cnn(some))


def test_half_precision_keeps_the_statistics_of_batch_norms(tmp_path: Path) -> None:
    cnn = load_image_cnn(saved(tmp_path / "theirs"))
    save_image_cnn(cnn, tmp_path / "half", dtype=torch.float16)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    parameters = {name for name, _ in cnn.backbone.named_parameters()}
    assert {stored[name].dtype for name in parameters} == {torch.float16}
    for name, buffer in cnn.backbone.named_buffers():
        assert torch.equal(stored[name], buffer)
    again = load_image_cnn(tmp_path / "half")
    assert next(again.parameters()).dtype == torch.float32
    assert json.loads((tmp_path / "half" / "config.json").read_text("utf-8"))["dtype"] == "float16"


def test_a_broken_off_save_is_no_cnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cnn = load_image_cnn(saved(tmp_path / "theirs"))
    save_image_cnn(cnn, tmp_path / "ours")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("subtone.training.segments.image_cnn.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save_image_cnn(cnn, tmp_path / "ours")
    with pytest.raises(UpstreamError, match=r"has no config\.json"):
        load_image_cnn(tmp_path / "ours")
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["model.safetensors"]


def test_another_weight_or_architecture_is_another_fingerprint(tmp_path: Path) -> None:
    cnn = load_image_cnn(saved(tmp_path / "a"))
    assert load_image_cnn(saved(tmp_path / "b")).fingerprint() == cnn.fingerprint()
    assert load_image_cnn(saved(tmp_path / "c", hidden_act="gelu")).fingerprint() != cnn.fingerprint()
    before = cnn.fingerprint()
    with torch.no_grad():
        next(cnn.backbone.parameters()).add_(1)
    assert cnn.fingerprint() != before


def refused(name_or_folder: str | Path) -> str:
    with pytest.raises(UpstreamError) as caught:
        load_image_cnn(name_or_folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_as_a_pickle_alone_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    load_image_cnn(folder)
    (folder / "model.safetensors").unlink()
    assert "pickle alone, no model.safetensors" in refused(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no model.safetensors in" in refused(folder)


def test_a_folder_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}), "utf-8")
    assert "never runs code" in refused(tmp_path)


def test_vision_transformers_are_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    message = refused(tmp_path)
    assert message.startswith(f"image CNN {str(tmp_path)!r}: its model_type 'vit' is not one of the CNNs")
    assert "resnet" in message


def test_networks_of_speech_are_refused(tmp_path: Path) -> None:
    transformers.WhisperConfig().save_pretrained(tmp_path)
    assert "name it as the upstream" in refused(tmp_path)


def test_a_missing_name_offline_tells_the_ways_out() -> None:
    message = refused("nobody/no-such-resnet")
    assert message.startswith("image CNN 'nobody/no-such-resnet': no local folder of that name")
    assert "pass FOLDER" in message
    assert SHIPPED in message


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    message = refused(tmp_path / "resnet")
    assert "no such folder" in message
    assert SHIPPED in message
    assert "no such folder" in refused("./resnet")


def test_a_file_is_refused(tmp_path: Path) -> None:
    assert "is a file" in refused(saved(tmp_path) / "model.safetensors")


def test_incomplete_weights_are_refused(tmp_path: Path) -> None:
    weights = load_file(saved(tmp_path) / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("convolution.weight")))
    save_file(weights, tmp_path / "model.safetensors")
    assert "lacks 1 of" in refused(tmp_path)


def test_a_configuration_that_describes_nothing_is_refused(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_type": "round"}), "utf-8")
    assert "does not describe a resnet network" in refused(tmp_path)


def test_the_shipped_one_tells_pictures_apart_and_what_it_has_heard() -> None:
    cnn = load_image_cnn(SHIPPED)
    assert isinstance(cnn, ImageCNN)
    assert cnn.name == SHIPPED
    assert cnn.taught_on == ("baved", "emotale", "emotiontts-ko")
    with torch.no_grad():
        vectors = cnn(pictures(2, 1, 128, 200))
    assert vectors.isfinite().all()
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3


def test_the_shipped_one_is_small_and_has_a_card() -> None:
    folder = Path(str(files("subtone"))) / "training" / "segments" / "shipped" / SHIPPED
    assert {file.name for file in folder.iterdir()} == {"card.md", "config.json", "model.safetensors"}
    assert (folder / "card.md").read_text(encoding="utf-8").startswith(f"# {SHIPPED}\n")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2e6


def test_narrow_pictures_are_right_in_bfloat16_on_whatever_processor_this_is() -> None:
    # In a process of its own, where no test has chosen the kernels.
    script = """
import torch
from subtone.training.segments.image_cnn import load_image_cnn
torch.manual_seed(0)
cnn = load_image_cnn("subtone-pictures")
for height, width in ((128, 25), (384, 25), (20, 25), (128, 50)):
    pictures = torch.randn(16, 1, height, width)
    with torch.no_grad():
        exact = cnn(pictures)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = cnn(pictures).float()
    assert float((near - exact).norm() / exact.norm()) < 0.05, (height, width)
"""
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
