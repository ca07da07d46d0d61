"""Other implementations that do not install whole."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from torch import nn


@pytest.fixture(scope="module")
def open_clip() -> Iterator[ModuleType]:
    """open_clip's two files of towers; the package as a whole wants torchvision, and these a class of it."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("open_clip_torch is not installed (requirements-parity.txt)")
    saved = dict(sys.modules)
    for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = nn.BatchNorm2d  # type: ignore[attr-defined]
    towers = ModuleType("open_clip_towers")
    towers.__path__ = list(package.submodule_search_locations)
    sys.modules["open_clip_towers"] = towers
    try:
        for file in ("transformer", "modified_resnet"):
            importlib.import_module(f"open_clip_towers.{file}")
        yield towers
    finally:
        for name in set(sys.modules) - set(saved):
            if name.startswith(("torchvision", "open_clip_towers")):
                del sys.modules[name]
