"""Checkpoints from the Hugging Face hub: `hub:owner/name`, and `hub:owner/name@revision`."""

import re
from pathlib import Path

from limner.errors import LimnerError
from limner.formats.contents import SUFFIXES

PREFIX = "hub:"
NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def resolved(path: Path) -> Path:
    """The path itself, or for `hub:owner/name` the folder that its files were brought to, once and for all.

    Brought are weights and their JSON; a pickle only where there are no safetensors. Raises LimnerError where
    the hub cannot be reached or has no such thing, ValueError for a name that is none, and
    ModuleNotFoundError without huggingface_hub (extra `hub`).
    """
    said = str(path)
    if not said.startswith(PREFIX):
        return path
    name, _, revision = said.removeprefix(PREFIX).partition("@")
    if not NAME.fullmatch(name):
        raise ValueError(f"path is '{said}': a name on the hub is hub:owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        for suffix in SUFFIXES:
            wanted = [f"*{suffix}", "*.json"]
            kept = Path(snapshot_download(name, revision=revision or None, allow_patterns=wanted))
            if any(kept.rglob(f"*{suffix}")):
                return kept
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        raise LimnerError(
            f"the hub has no '{name}' that it would give ({status}): see https://huggingface.co/{name}"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise LimnerError(
            f"the hub cannot be reached for '{name}', and nothing of it is here: check the network, or give "
            "the path of a folder that holds it"
        ) from error
    raise LimnerError(f"'{name}' on the hub holds no file in {', '.join(SUFFIXES)}")
