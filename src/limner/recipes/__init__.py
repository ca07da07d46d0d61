"""One module for each part that is trained: toy, small and paper, with cost and the number to expect.

A recipe is a function that returns a full, frozen config; a variant of it is `dataclasses.replace`.
"""
