"""Model cards: filled from the run, and on the hub with the weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from conftest import write_photos

from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.generator import Generator
from colorize.pretrained import load_generator, save_weights
from colorize.run import evaluate_run, run_training
from colorize.system.files import write_json
from colorize.weights.card import bare_card, run_card

pytestmark = pytest.mark.usefixtures("thin")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    write_photos(folder / "my photos", 8)
    config = RunConfig(
        DataConfig(str(folder / "my photos"), size=32, val_fraction=0.25),
        TrainConfig(
            batch_size=3,
            pretrain_epochs=2,
            gan_epochs=1,
            encoder_weights="none",
            precision="fp32",
        ),
    )
    run_training(config, folder / "run")
    return folder / "run"


def test_the_card_says_what_the_run_did(run):
    card = (run / "generator" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-to-image"
    for fact in (
        "my photos: 6 trained on, 2 held out, 0 grey ones",
        "32x32",
        "L1, AdamW, one cycle up to 0.001; epochs: 2",
        "bce + 100 L1 against a PatchGAN with batch norm, Adam, 0.0002; epochs: 1",
        "resnet18, at the start with random weights",
        "To be filled in by whoever publishes",
        "MIT",
        "no evidence",
    ):
        assert fact in body, fact
    assert str(run.parent) not in card
    assert "ImageNet" not in body
    metrics = json.loads((run / "metrics.json").read_text())
    for name, title in (
        ("psnr", "PSNR, dB"),
        ("ciede2000", "CIEDE2000"),
        ("l1", "L1 of scaled ab"),
    ):
        assert f"| {title} | {metrics['generator'][name]:.4f} |" in body
    before = (run / "pretrained" / "README.md").read_text()
    assert "| GAN | none |" in before
    assert f"| PSNR, dB | {metrics['pretrained']['psnr']:.4f} |" in before


def test_the_card_names_what_another_gan_did():
    train = TrainConfig(
        objective="hinge",
        lambda_features=2.0,
        discriminator="multiscale",
        discriminator_layers=2,
        discriminator_pooling=4,
        discriminator_norm="spectral",
        discriminator_first=0.5,
        freeze_encoder=True,
    )
    card = run_card(RunConfig(train=train), "generator", (9, 1, 0), {})
    assert (
        "| GAN | hinge + 100 L1 + 2 feature loss against a multiscale discriminator of 2 layers "
        "on means of 4x4 pixels with spectral norm, Adam, 0.0002; epochs: 5, the first 0.5 of the "
        "discriminator alone; encoder frozen |"
    ) in card


def test_licences_of_photos_that_are_known():
    config = RunConfig(DataConfig("coco"))
    card = run_card(config, "generator", (9, 1, 0), {})
    assert "Flickr" in card
    assert "No photo was held out" in card
    assert "torchvision's ImageNet weights" in card
    assert "| odd name: 9" in run_card(
        RunConfig(DataConfig("a/odd|name")), "generator", (9, 1, 0), {}
    )
    config = replace(config, data=DataConfig("builtin"))
    assert "CC0" in (card := run_card(config, "generator", (9, 1, 0), {}))
    assert "another run" not in card
    later = replace(config, train=TrainConfig(start_weights="a/secret/place"))
    card = run_card(later, "generator", (9, 1, 0), {})
    assert "holds for these too" in card.split("## Licence")[1]
    assert "secret" not in card


def test_a_network_of_no_run_has_a_bare_card(small_generator, tmp_path):
    save_weights(small_generator, tmp_path / "weights")
    assert (tmp_path / "weights" / "README.md").read_text() == bare_card(32)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that stands in for the hub, and its client."""
    folder = tmp_path / "hub"

    class Api:
        def __init__(self, token=None):
            assert token is None

        def create_repo(self, repo_id, private, exist_ok):
            (folder / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            (folder / repo_id / ".private").write_text(str(private))
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, *, repo_id, folder_path, **_):
            shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)
            return f"https://huggingface.co/{repo_id}/commit/1"

    def download(repo_id, filename, **_):
        """Only what is asked for comes to this machine."""
        here = tmp_path / "snapshot" / filename
        here.parent.mkdir(exist_ok=True)
        return shutil.copy(folder / repo_id / filename, here)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("colorize.generator.hf_hub_download", download)
    return folder


def test_pushed_and_loaded_by_its_name(run, hub):
    generator = Generator.from_pretrained(run / "generator")
    url = generator.push_to_hub("somebody/landscapes", private=True)
    assert url.startswith("https://huggingface.co/somebody/landscapes/commit")
    pushed = hub / "somebody" / "landscapes"
    names = {path.name for path in pushed.iterdir()}
    assert names == {".private", "config.json", "model.safetensors", "README.md"}
    assert (pushed / ".private").read_text() == "True"
    card = (run / "generator" / "README.md").read_text()
    assert (pushed / "README.md").read_text() == card
    loaded = load_generator("somebody/landscapes")
    L = torch.rand(1, 1, 40, 48)
    with torch.no_grad():
        assert torch.equal(loaded(L), generator(L))
    assert loaded.working_size == 32
    loaded.push_to_hub("somebody/copy")
    assert (hub / "somebody" / "copy" / "README.md").read_text() == card
    (pushed / "README.md").unlink()
    assert load_generator("somebody/landscapes").card == ""


def test_what_somebody_wrote_into_a_card_stays(tmp_path, photos, small_generator):
    config = RunConfig(DataConfig("mine", size=32))
    write_json(tmp_path / "config.json", config.to_dict())
    card = tmp_path / "generator" / "README.md"
    save_weights(small_generator, card.parent)
    evaluate_run(tmp_path, photos)
    written = card.read_text()
    assert "To be filled in" in written
    torch.nn.init.normal_(small_generator.head.weight, std=0.5)
    save_weights(small_generator, card.parent)
    evaluate_run(tmp_path, photos)  # other measures: ours is renewed
    renewed = card.read_text()
    assert renewed != written
    card.write_text(renewed.replace("**To be filled in", "CC0. **"))
    save_weights(small_generator, card.parent)
    evaluate_run(tmp_path, photos)
    assert "CC0. **" in card.read_text()


def test_a_card_that_is_damaged_does_not_stop_anything(run, tmp_path):
    folder = Path(shutil.copytree(run / "generator", tmp_path / "weights"))
    (folder / "README.md").write_bytes(b"---\n: [\xff\n---\nmine")
    generator = load_generator(folder)
    save_weights(generator, tmp_path / "again")
    assert "mine" in (tmp_path / "again" / "README.md").read_text()
