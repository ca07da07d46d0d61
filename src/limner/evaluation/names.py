"""The 300 names that the benchmark asks for, fixed once, before anything was painted.

They are things that at least three of the judge's sets and three of the painters' sets draw, in plain form:
no skin tones, flags or signs (letters, arrows, squares of four sizes), no clock faces, and nobody joined from
several characters (families that differ by one child). Of those the hash chooses, nobody's taste.
"""

from collections import defaultdict
from collections.abc import Sequence

from limner.data.folder import Record
from limner.data.splits import fraction

LEAST = 3
UNNAMEABLE = frozenset({"flags", "symbols"})
JOINER = "200D"
# The twenty-four faces of the clock, U+1F550 to U+1F567.
CLOCKS = frozenset(f"{code:X}" for code in range(0x1F550, 0x1F568))


def nameable(painters: Sequence[Record], judges: Sequence[Record]) -> list[str]:
    """The hexcodes that can be asked for, in the order in which the hash takes them."""
    drawn: tuple[defaultdict[str, set[str]], ...] = (defaultdict(set), defaultdict(set))
    for sets, records in zip(drawn, (painters, judges), strict=True):
        for record in records:
            if plain(record):
                sets[str(record.facts["hexcode"])].add(str(record.facts["style"]))
    enough = ({hexcode for hexcode, styles in sets.items() if len(styles) >= LEAST} for sets in drawn)
    return sorted(set.intersection(*enough), key=lambda hexcode: fraction("recognition", hexcode))


def plain(record: Record) -> bool:
    """Whether a drawing is of one thing that goes by one name."""
    facts = record.facts
    hexcode = str(facts.get("hexcode", ""))
    return (
        bool(hexcode)
        and not facts.get("skin_tone")
        and facts.get("group") not in UNNAMEABLE
        and hexcode not in CLOCKS
        and JOINER not in hexcode.split("-")
    )


# nameable(noto, twemoji and the three fluent sets; openmoji, emojione, emojione-v1 and streamline)[:300],
# of the package versions that limner.data.sources pins.
BENCHMARK: tuple[str, ...] = tuple(
    """
    1F645 1F436 1F35F 1F5C2 1F345 1F3C4 1F617 1F923 1F3EF 1F6A5 1F439 1F45B 1F3D9 1F36B 270C 1F5C4 1F600
    1F40A 1F4E8 1F516 1F630 1F44B 1F31D 1F3CE 1F615 1F62F 1F3A2 1F334 1F61A 1F629 1F434 2712 1F60B 1F52B
    1F3DA 1F5C3 1F5FB 1F48C 1F575 1F4AF 1F4F0 1F4EF 1F48F 1F497 1F4B0 1F311 1F6A3 1F3B2 1F379 1F413
    1F369 1F349 1F6E5 1F3EE 1F69D 1F6B4 1F400 1F422 1F60E 1F5DC 1F6AC 1F359 1F407 1F3BA 1F6A7 1F921
    1F426 1F62D 1F693 1F98A 1F619 1F4F1 1F4AE 1F4BC 1F6EB 1F688 1F46F 1F310 1F42D 1F31C 1F4D0 1F418
    1F916 1F45C 1F4B3 1F483 1F330 1F3B9 1F35C 1F375 1F49E 1F44D 1F634 1F608 1F403 1F320 1F4E4 1F4B8
    1F6CD 1F35D 1F460 1F45D 1F420 1F4EE 1F633 1F4A8 1F5E3 1F52D 1F446 1F60A 1F3DC 1F6E2 1F604 1F623
    1F3F7 1F34F 1F39E 2665 1F424 1F367 1F4ED 1F336 1F376 1F68A 1F352 1F321 1F417 1F914 1F4E2 1F6EC 1F610
    1F46A 1F3A9 1F4D3 1F4AA 1F41F 270D 1F509 1F372 1F63B 1F6B5 1F4E9 1F68C 1F382 1F342 1F354 1F339 1F467
    1F353 1F380 1F58C 1F316 1F611 1F435 1F50E 1F4B6 1F612 1F337 1F444 1F922 1F62C 1F389 1F433 1F48A
    1F6C0 1F35A 1F443 1F52E 1F373 1F4AB 1F329 1F6A1 1F38F 26C5 1F5E8 26F3 1F4F8 1F3B3 1F4F9 1F361 1F6E0
    26BE 1F513 1F4BD 1F5D3 1F49A 1F69B 1F4E7 1F68D 1F50D 1F637 1F4CC 2328 1F3A7 1F60D 1F42A 1F33E 1F40C
    1F6A6 1F512 1F40F 1F453 1F4F2 1F305 1F454 1F368 1F4BF 1F3E2 1F346 1F399 1F476 1F4A9 2708 1F416 1F692
    1F3A5 1F4A6 1F5A8 1F5FA 1F4D6 1F393 1F397 1F309 1F3D4 1F348 1F404 1F4BE 1F68E 1F447 1F4D1 26EA 1F35E
    1F3D8 1F602 1F4E0 1F689 1F34B 1F5D1 1F526 1F456 1F50C 1F4E5 1F61D 1F515 1F306 1F38B 1F364 1F4B4
    1F603 1F684 1F507 1F33C 1F930 1F34A 1F37E 1F47A 1F464 1F004 1F3DF 2764 1F3AA 1F4DF 1F32A 1F3EB 1F449
    1F4C4 1F590 1F3B1 1F370 1F41A 1F63F 2744 1F925 1F431 1F3B5 1F4A7 1F62A 1F455 1F5B2 1F49B 1F510 1F3BC
    1F421 1F41B 231A 1F635 1F360 1F3E4 1F384 1F473 1F479 1F377 1F491 1F495 1F365 1F933 1F47B 1F680 1F687
    1F499
    """.split()
)
"""Hexcodes, in the hash's order: a shorter benchmark takes the first so many."""
