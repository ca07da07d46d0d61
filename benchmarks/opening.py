"""How much memory does opening a large checkpoint take? A CLIP of 986 million parameters, 3.9 GB in float32.

    python benchmarks/opening.py

Writes random weights in OpenAI's names as safetensors and as torch does, opens each by `limner open` in a
process of its own, self-check included, and prints the most memory it had at once as a share of the file.
Needs Linux, and 5 GB of disk and of memory.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from limner.clip import Clip
from limner.clip.model import vit_h_16
from limner.formats.openai_clip import places
from limner.formats.places import give

# What a process had at most is not what its parent had: `resource` would count that too.
OPENING = """
import re, sys
from pathlib import Path
from limner.cli import main
assert main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def written(folder: Path, kind: str) -> Path:
    with torch.device("meta"):
        shapes = Clip(vit_h_16()).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.02 * torch.randn(tensor.shape, generator=generator) for name, tensor in shapes.items()}
    theirs, path = give(places(vit_h_16()), state), folder / kind
    if kind == "safetensors":
        save_file(theirs, path)
    else:
        torch.save(theirs, path)
    return path


def main() -> None:
    for kind in ("safetensors", "archive"):
        with tempfile.TemporaryDirectory() as folder:
            path = written(Path(folder), kind)
            size, began = path.stat().st_size, time.perf_counter()
            # Heads of 80, as its picture tower has.
            command = [sys.executable, "-c", OPENING, "open", str(path), "--head-width", "80"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak = time.perf_counter() - began, 1024 * int(said.split()[-1])
            print(
                f"{kind}: {size / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB = {peak / size:.2f}×, {seconds:.1f} s"
            )


if __name__ == "__main__":
    main()
