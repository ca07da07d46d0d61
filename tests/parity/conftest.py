"""Other implementations that do not install whole."""

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from torch import nn


def places_of(package: str, project: str) -> list[str]:
    """Where the files of a package lie; without it the test is left out, for users need not have it."""
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        pytest.skip(f"{project} is not installed (requirements-parity.txt)")
    return list(found.submodule_search_locations)


def forget(before: set[str], beginnings: str | tuple[str, ...]) -> None:
    """Modules that were not there before go again, where their names begin so."""
    for name in set(sys.modules) - before:
        if name.startswith(beginnings):
            del sys.modules[name]


@pytest.fixture(scope="module")
def open_clip() -> Iterator[ModuleType]:
    """open_clip's files of towers and models; torchvision, which they ask for, is not here and not used."""
    places = places_of("open_clip", "open_clip_torch")
    pytest.importorskip("transformers")
    before = set(sys.modules)
    absent = ("", ".ops", ".ops.misc", ".transforms", ".transforms.functional")
    for name in (f"torchvision{end}" for end in absent):
        sys.modules.setdefault(name, MagicMock())
    # A class that it asks whether layers are of; a module's attributes are unknown to mypy.
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = nn.BatchNorm2d  # type: ignore[attr-defined]
    files = ModuleType("open_clip_files")
    files.__path__ = places
    sys.modules["open_clip_files"] = files
    try:
        for file in ("transformer", "modified_resnet", "model"):
            importlib.import_module(f"open_clip_files.{file}")
        yield files
    finally:
        forget(before, ("torchvision", "open_clip_files"))


@pytest.fixture(scope="module")
def dall_e() -> Iterator[ModuleType]:
    """The package's towers; its `__init__` would ask for a library to download with."""
    places = places_of("dall_e", "dall-e")
    pytest.importorskip("attr", reason="attrs is not installed (requirements-parity.txt)")
    before = set(sys.modules)
    stand_in = ModuleType("dall_e")
    stand_in.__path__ = places
    sys.modules["dall_e"] = stand_in
    try:
        for name in ("encoder", "decoder", "utils"):
            importlib.import_module(f"dall_e.{name}")
        yield stand_in
    finally:
        forget(before, "dall_e")


@pytest.fixture(scope="module")
def rudalle() -> Iterator[ModuleType]:
    """The package's transformer; its `__init__` asks for all that its pictures go through."""
    places = places_of("rudalle", "rudalle")
    before = set(sys.modules)
    for name, inside in (("rudalle", ""), ("rudalle.dalle", "/dalle")):
        stand_in = ModuleType(name)
        stand_in.__path__ = [place + inside for place in places]
        sys.modules[name] = stand_in
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which it is written with
            model = importlib.import_module("rudalle.dalle.model")
        yield model
    finally:
        forget(before, "rudalle")


@pytest.fixture(scope="module")
def min_dalle() -> Iterator[ModuleType]:
    """Both halves of min-dalle's network; its `__init__` would ask for a library to download with."""
    places = places_of("min_dalle", "min-dalle")
    before = set(sys.modules)
    files = ModuleType("min_dalle_files")
    files.__path__ = [f"{place}/models" for place in places]
    sys.modules["min_dalle_files"] = files
    try:
        for name in ("dalle_bart_encoder", "dalle_bart_decoder"):
            importlib.import_module(f"min_dalle_files.{name}")
        yield files
    finally:
        forget(before, "min_dalle_files")


@pytest.fixture(scope="module")
def dalle2_pytorch() -> Iterator[ModuleType]:
    """DALLE2-pytorch's one file of networks; what it prepares pictures and captions with is not here."""
    places = places_of("dalle2_pytorch", "dalle2-pytorch")
    pytest.importorskip("rotary_embedding_torch")
    before = set(sys.modules)
    stand_in = ModuleType("dalle2_pytorch")
    stand_in.__path__ = places
    sys.modules["dalle2_pytorch"] = stand_in
    absent = (
        "torchvision torchvision.transforms kornia kornia.filters kornia.augmentation resize_right x_clip"
    )
    for name in f"{absent} coca_pytorch dalle2_pytorch.tokenizer dalle2_pytorch.vqgan_vae".split():
        sys.modules.setdefault(name, MagicMock())
    # Classes that it asks whether something is of.
    classes = {"x_clip": ["CLIP"], "coca_pytorch": ["CoCa"]}
    for module, names in (classes | {"dalle2_pytorch.vqgan_vae": ["NullVQGanVAE", "VQGanVAE"]}).items():
        for name in names:
            setattr(sys.modules[module], name, type(name, (nn.Module,), {}))
    try:
        yield importlib.import_module("dalle2_pytorch.dalle2_pytorch")
    finally:
        theirs = ("torchvision", "kornia", "resize_right", "x_clip", "coca_pytorch", "dalle2_pytorch")
        forget(before, theirs)


@pytest.fixture(scope="module")
def dalle_pytorch() -> Iterator[ModuleType]:
    """DALLE-pytorch's networks; its `__init__` asks for setuptools, and others' autoencoders for theirs."""
    places = places_of("dalle_pytorch", "dalle-pytorch")
    for name in ("rotary_embedding_torch", "axial_positional_embedding"):
        pytest.importorskip(name)
    before = set(sys.modules)
    stand_in = ModuleType("dalle_pytorch")
    stand_in.__path__ = places
    # A module's attributes are unknown to mypy.
    stand_in.distributed_utils = MagicMock(is_distributed=False)  # type: ignore[attr-defined]
    sys.modules["dalle_pytorch"] = stand_in
    others = ModuleType("dalle_pytorch.vae")
    for name in ("OpenAIDiscreteVAE", "VQGanVAE"):
        setattr(others, name, type(name, (nn.Module,), {}))
    sys.modules["dalle_pytorch.vae"] = others
    try:
        yield importlib.import_module("dalle_pytorch.dalle_pytorch")
    finally:
        forget(before, "dalle_pytorch")


@pytest.fixture(scope="module")
def fidelity() -> Iterator[None]:
    """The package, whose classes of data sets ask for torchvision, which is not here and not used."""
    places_of("torch_fidelity", "torch-fidelity")
    before = set(sys.modules)
    for end in ("", ".datasets", ".transforms", ".transforms.functional", ".models", ".models.vgg"):
        sys.modules.setdefault(f"torchvision{end}", MagicMock())
    yield
    forget(before, ("torchvision", "torch_fidelity"))
