"""Names as people say them: Unicode's labels put into plain English, and the article each takes."""

import re
from collections import Counter
from collections.abc import Sequence

# --- labels --------------------------------------------------------------------------------------

_ZODIAC = frozenset(
    "Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces "
    "Ophiuchus".split()
)
_CLOCK = re.compile(r"(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)( o'clock|-thirty)")
_MEMBERS = {"man": "men", "woman": "women", "boy": "boys", "girl": "girls", "person": "people"} | {
    "adult": "adults",
    "child": "children",
}
_THE_LANDS = re.compile(
    r".*(Islands|Republic|Territory|Territories|Emirates|Kingdom|States|Nations|Union|Netherlands)$"
    r"|Bahamas|Comoros|Gambia|Maldives|Philippines|Seychelles|Isle of Man"
)


def spoken(label: str) -> str:
    """A Unicode label as one would say it: "flag: France" is "flag of France".

    Skin tones and hair become "with ...", families and couples list their members.
    """
    label = re.sub(r"\s+", " ", label.translate({0x2019: "'", 0x201C: '"', 0x201D: '"'}).strip())
    head, _, rest = label.partition(": ")
    if label in _ZODIAC:
        return f"{label} zodiac sign"
    if _CLOCK.fullmatch(label):
        return f"clock at {label}"
    if not rest:
        return label
    if head == "keycap":
        return f"keycap {rest}"
    if head == "flag":
        land = rest.replace(" & ", " and ").replace(" - ", "-").removesuffix(" SAR China")
        return f"flag of {'the ' if _THE_LANDS.fullmatch(land) else ''}{land}"
    parts = rest.split(", ")
    turned = [part for part in parts if part.startswith("facing ")]
    people = [part for part in parts if part in _MEMBERS]
    looks = _tones([part for part in parts if part not in turned and part not in people])
    said = f"{head} of {_counted(people)}" if people else head
    if looks:
        said += f"{' and' if ' with ' in head and not people else ' with'} {listed(looks)}"
    return " ".join([said, *turned])


def _counted(people: Sequence[str]) -> str:
    """ "woman, woman, boy" as "two women and a boy"."""
    return listed([f"two {_MEMBERS[who]}" if n == 2 else _a(who) for who, n in Counter(people).items()])


def _tones(looks: list[str]) -> list[str]:
    """Two skin tones said in one breath: "light and dark skin tones"."""
    tones = [look.removesuffix(" skin tone") for look in looks if look.endswith(" skin tone")]
    if len(tones) < 2:
        return looks
    return [f"{listed(tones)} skin tones", *(look for look in looks if not look.endswith(" skin tone"))]


def listed(words: Sequence[str]) -> str:
    """The words as a list in a sentence: "red, green and brown"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


# --- articles ------------------------------------------------------------------------------------

_TAIL = re.compile(
    r" (?:with|of|in|on|at|and|over|without|for|from|behind|holding|facing|showing|not|to|under|off|out|but|"
    r"pointing|pointed|tilted|curving|fluttering)\b.*$|[,(].*$"
)
"""What follows the noun that decides the article."""

_ONES = frozenset("man woman person face deaf".split())
"""First words that count one, whatever the last word looks like: "a person lifting weights"."""

_MANY = frozenset(
    "people men women children teeth feet mice geese dice hands chopsticks skis two three five six "
    "seven eight nine ten hundred".split()
)
_SINGULAR_S = frozenset("lens claus christmas news gas canvas series rhinoceros".split())
_STUFFS = frozenset(
    "bread flatbread rice sushi bacon honey milk tempura fog fire sake butter salt soap popcorn "
    "spaghetti ice garlic broccoli money luggage hail snow oden hearing fencing skiing surfing "
    "badminton bowling cooking food clothing poo coral graffiti lacrosse tennis hockey music voltage "
    "wood information dna curling candy custard yarn thread polish liquid water infinity racing camping "
    "construction foggy dizzy wireless locked unlocked prohibited radioactive copyright registered om "
    "together laughing away pong mate customs plus minus multiply divide zzz star-struck breast-feeding "
    "meat yang control blood".split()
)
_THE = ("flag of ", "statue of liberty", "milky way", "kaaba", "tokyo tower", "sunrise", "sunset", "end of ")
_NONE = (
    "no ",
    "non-",
    "not ",
    "thumbs ",
    "keycap ",
    "input ",
    "palms ",
    "santa claus",
    "mrs. ",
    "mx ",
    "mount ",
)
_HAS_ONE = ("a ", "an ", "the ", "An ", "The ", "one ", "some ", "my ", "your ", "this ")
_SPELLED = frozenset("A AB ATM B CL DVD ID LED M NG O OK P SIM SOS TV UFO VS X".split())
"""Capitals that are read letter by letter."""


def article(name: str) -> str:
    """The article a name takes: "a", "an", "the", or "" for plurals, stuffs, proper names and the like."""
    low = name.lower()
    if low.startswith(_THE) or low.endswith(" zodiac sign"):
        return "the"
    words = _TAIL.sub("", low).split()
    if not words or low.startswith(_NONE) or name.startswith(_HAS_ONE):
        return ""
    first, noun = words[0], words[-1]
    if first not in _ONES and (first in _MANY or noun in _MANY or noun in _STUFFS or _plural(noun)):
        return ""
    return "an" if _sounds_open(name) else "a"


def _plural(noun: str) -> bool:
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is", "'s")) and noun not in _SINGULAR_S


def _sounds_open(name: str) -> bool:
    """Whether the name begins with a vowel to the ear: "hourglass" and "x-ray" do, "unicorn" does not."""
    word = name.split()[0]
    if word.strip("!?.") in _SPELLED:
        return word[0] in "AEFHILMNORSX"
    low = word.lower()
    if low.startswith(("uni", "use", "eu", "ewe", "one", "once", "u-", "ut")):
        return False
    return low.startswith(("a", "e", "i", "o", "u", "hour", "honest", "heir", "x-", "8", "11", "18"))


def _a(noun: str) -> str:
    return f"{'an' if _sounds_open(noun) else 'a'} {noun}"


def named(name: str) -> str:
    """The name with its article: "a red apple", "grapes", "the flag of France"."""
    first = article(name)
    return f"{first} {name}" if first else name


def stem(word: str) -> str:
    """A word without its plural, roughly: enough to see that "chain" adds nothing to "chains"."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
