"""Captioned pictures: where they come from, what is said of them, and how training draws them.

- `sources`: the published emoji packages, pinned, fetched through npm and checked by hash;
- `names`, `drawings`: what each emoji is called, and who drew it how;
- `render`: one drawing to one square picture with a transparent ground;
- `words`, `colours`, `captions`: articles and names, colours measured and named, sentences made of both;
- `splits`: what is held out, decided by hash;
- `emoji`: all of this as one folder of pictures with a `captions.jsonl`;
- `sample`: a hundred things from that folder, shipped in the package;
- `folder`, `check`: anybody's own folder, read without falling over, and a report on it;
- `scenes`: drawn compositions whose captions are true by construction;
- `loader`: folders as batches of tensors, the only part that knows torch.
"""
