"""Which of two pictures do people like better? Votes that are blind, and what they say.

    >>> limner vote comparison                  # serves the page; votes go into comparison/votes.sqlite
    >>> limner vote report comparison

Three questions, as unCLIP was compared with GLIDE (Ramesh et al. 2022, section 5.2): which looks more real,
which fits the caption better, and which of two grids of the same caption is more varied.

- `pictures` finds what is compared, `schedule` says who is asked what, in which order and on which side;
- `store` keeps raters, tasks and votes; `app` serves the page that asks;
- `tally` sorts the votes; `shares`, `elo`, `agreement` and `significance` are what is worked out of them;
- `report` puts it together, `power` says beforehand how many votes a difference needs;
- `panel` asks automatic judges the same, under their own name and in a file of their own.
"""
