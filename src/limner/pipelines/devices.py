"""Which device to paint on, by the name that people give it, and whether its compiler is there."""

import torch


def device_named(name: str) -> torch.device:
    """cpu, cuda, cuda:1, mps, or auto: the fastest that is there. ValueError for one that is not."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    there = ["auto", "cpu", *(["cuda"] if cuda else []), *(["mps"] if mps else [])]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    numbered = device is not None and device.type == "cuda" and device.index is not None
    if device is None or device.type not in there or (numbered and device.index >= torch.cuda.device_count()):
        raise ValueError(f"device is {name!r}: this machine offers {', '.join(there)}")
    return device


def checked_compiler() -> None:
    """Refuse to compile for a CPU where nothing could turn PyTorch's C++ into programs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ValueError(
            "compile wants a C++ compiler, and there is none here: install g++, or leave --compile out"
        ) from None
