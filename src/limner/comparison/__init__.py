"""The article's comparison, repeated: the same words to every painter, the same measures of all, one report.

- `entrants`: who paints, `dalle1:reranked` and the others; `prompts`: what is asked for.
- `painting`: pictures on disk, each whole or not there; `cost`: seconds and memory of a picture.
- `reals`: what real pictures score; `scores`: what everybody scores, with intervals.
- `panel`: who would be preferred by automatic judges, who are no people; `claims`: did the papers' figures
  hold?
- `tables`, `plots`, `sheets`, `report`: all of it as HTML that needs nothing else, as Markdown and as CSV.
- `run`: from the first word to the last table, again and again until it is done.

`OUT/pictures/<entrant>/<prompt>-<picture>.png` and `OUT/comparison.json`, which names them, are there for
whoever else wants to compare the same pictures.
"""
