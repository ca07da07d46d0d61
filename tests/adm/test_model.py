"""What ADM asks at its doors; its arithmetic is in tests/parity."""

from dataclasses import replace

import pytest
import torch

from limner import checkpoint
from limner.adm import Adm, AdmConfig
from limner.adm.model import enlarging, imagenet, unet

TINY = replace(
    imagenet(64),
    classes=3,
    unet=replace(imagenet(64).unet, channels=32, depth=1, multipliers=(1,), attention=()),
)


def test_doors():
    model, x, t = Adm(TINY), torch.zeros(1, 3, 8, 8), torch.zeros(1)
    with pytest.raises(ValueError, match="label: missing, but this network needs it"):
        model(x, t)
    with pytest.raises(ValueError, match="low: given, but this network takes none"):
        model(x, t, label=torch.tensor([0]), low=x)
    with pytest.raises(ValueError, match=r"label: \[3\], but the classes are 0 to 2"):
        model(x, t, label=torch.tensor([3]))
    with pytest.raises(ValueError, match=r"unet.in_channels: 3, but this network has 6"):
        replace(TINY, low=16)
    with pytest.raises(ValueError, match="side: 96; ADM was published for 64, 128, 256, 512 pixels"):
        unet(96)


def test_its_folder_reads_back(tmp_path):
    """Heads and the time's own width stand in config.json, and a file that was written before has neither."""
    model = Adm(TINY)
    checkpoint.save(tmp_path, model.state_dict(), TINY)
    again, _ = checkpoint.load(tmp_path, AdmConfig)
    assert again == TINY
    for config in (imagenet(512), enlarging(256)):
        checkpoint.save(tmp_path, {}, config)
        assert checkpoint.load(tmp_path, AdmConfig)[0] == config
    described = (tmp_path / "config.json").read_text()
    old = described.replace('"heads": 4,', "").replace('"time_width": null', '"norm": "group"')
    old = old.replace('"norm": "group",\n', "", 1)
    (tmp_path / "config.json").write_text(old)
    assert "heads" not in old
    loaded = checkpoint.load(tmp_path, AdmConfig)[0]
    assert loaded == replace(enlarging(256), unet=replace(enlarging(256).unet, heads=None))
