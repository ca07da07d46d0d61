"""Names on the hub: what they must look like, and what is said where it cannot be reached."""

from pathlib import Path

import pytest

from limner.errors import LimnerError
from limner.formats.hub import resolved

pytest.importorskip("huggingface_hub")


def test_a_path_is_left_alone():
    assert resolved(Path("some/folder")) == Path("some/folder")


@pytest.mark.parametrize("name", ["hub:", "hub:owner", "hub:a/b/c", "hub:../x", "hub:a b/c"])
def test_a_name_has_an_owner_and_a_name(name):
    with pytest.raises(ValueError, match=f"path is '{name}': a name on the hub is hub:owner/name"):
        resolved(Path(name))


def test_offline_it_says_so(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        LimnerError, match="the hub cannot be reached for 'some/thing', and nothing of it is here"
    ):
        resolved(Path("hub:some/thing@main"))


def test_what_was_brought_before_is_found_offline(monkeypatch, tmp_path):
    """The cache as the hub's own library keeps it: a pickle and settings, no safetensors."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--some--thing" / "snapshots" / "0123"
    kept.mkdir(parents=True)
    (tmp_path / "models--some--thing" / "refs").mkdir()
    (tmp_path / "models--some--thing" / "refs" / "main").write_text("0123")
    for name in ("pytorch_model.bin", "config.json"):
        (kept / name).write_text("{}")
    assert resolved(Path("hub:some/thing")) == kept
