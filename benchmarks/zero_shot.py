"""How often does the CLIP that ships name drawings that training held out, and is an ensemble worth it?

    python benchmarks/zero_shot.py data/emoji
    python benchmarks/zero_shot.py data/judge train pair concept

`pair`: the thing was seen in other styles. `concept`: it was seen in none. Of the judge's drawings CLIP has
seen no style; `train` and `pair` are of things that it has seen in others. Pictures of one thing stand or
fall together, so the intervals are the bootstrap's over things.
"""

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from limner.clip import TEMPLATES, class_embeddings
from limner.data.folder import read
from limner.evaluation.intervals import share
from limner.pipelines.embedding import looked_at, reader

WORDINGS = {"a {}": ["a {}"], "a photo of a {}": ["a photo of a {}"], "all templates": TEMPLATES}


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    records = [one for one in read(Path(sys.argv[1])).records if not one.facts.get("skin_tone")]
    clip = reader(None, "cpu")
    for split in sys.argv[2:] or ("pair", "concept"):
        chosen = [one for one in records if one.facts.get("split") == split]
        names = [str(one.facts["name"]) for one in chosen]
        labels = sorted(set(names))
        looks = looked_at(clip.clip, [one.file for one in chosen], split)
        pictures = torch.cat([look.embeddings for look in looks])
        truth = torch.tensor([labels.index(name) for name in names])
        table = Table(
            "wording", "top-1", "top-5", title=f"{split}: {len(names)} pictures, {len(labels)} labels"
        )
        for told, templates in WORDINGS.items():
            scores = pictures @ class_embeddings(clip.clip, clip.tokenizer, labels, templates).T
            best = scores.argsort(dim=1, descending=True)
            hits = [(best[:, :k] == truth[:, None]).any(dim=1).tolist() for k in (1, 5)]
            table.add_row(told, *(share(hit, names, seed=0).percent() for hit in hits))
        table.add_row("guessing", *(f"{100 * k / len(labels):.1f} %" for k in (1, 5)))
        Console().print(table)


if __name__ == "__main__":
    main()
