"""The problems of the environment: generated without end from a seed, or read from files (``files.py``).

A generated problem is named by the generator's seed, its split and its number, and by nothing else. The splits are
disjoint by content, whatever the seeds: a problem belongs to the split that the hash of its arithmetic picks (eight
tenths train, one tenth each validation and test), so that the same sums in other words never stand in two splits. The
generator draws until it has one of the split.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from .templates import FAMILIES, LONGEST, PLACES, THINGS, Step, Story

SPLITS: Final = ("train", "validation", "test")
PROBLEMS: Final = 2**31  # numbers of generated problems are below this
_KEPT: Final = 4_096


@dataclass(frozen=True, slots=True)
class Problem:
    """``answer`` as it is graded; ``steps``, a worked solution (empty where none is known); ``family``, the kind of
    problem; ``plain``, the question in lower-case words and signs with blanks between them; ``distractors``, numbers in
    the text that the solution does not use."""

    question: str
    answer: str
    steps: tuple[Step, ...] = ()
    family: str = ""
    distractors: tuple[int, ...] = ()
    plain: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", plain(self.question))


class Problems(Protocol):
    """Problems by number. ``count`` is how many there are in the split."""

    count: int

    def __getitem__(self, number: int) -> Problem: ...


class GeneratedProblems:
    """Word problems of ``families``, with ``steps`` (fewest, most) of worked solution, ``distractors`` (fewest, most)
    sentences that do not matter, and numbers up to ``largest``. The arguments are ``MathToolSimulator``'s."""

    count = PROBLEMS

    def __init__(
        self,
        split: str,
        seed: int = 0,
        families: Sequence[str] | None = None,
        steps: tuple[int, int] = (2, 4),
        distractors: tuple[int, int] = (0, 1),
        largest: int = 50,
    ) -> None:
        names = tuple(FAMILIES) if families is None else tuple(families)
        unknown = [name for name in names if name not in FAMILIES]
        if unknown or not names:
            raise ValueError(f"families={families!r}; expected some of {', '.join(FAMILIES)}")
        _range("steps", steps, 1, LONGEST)
        _range("distractors", distractors, 0, 5)
        _range("largest", (largest, largest), 10, 10_000)
        self._lengths = {name: [n for n in FAMILIES[name].lengths if steps[0] <= n <= steps[1]] for name in names}
        self._families = [name for name in names if self._lengths[name]]
        if not self._families:
            raise ValueError(f"steps={steps!r}: none of {', '.join(names)} has solutions of that length")
        self._split, self._seed = split, seed
        self._distractors, self._largest = distractors, largest
        self._kept: OrderedDict[int, Problem] = OrderedDict()

    def __getitem__(self, number: int) -> Problem:
        problem = self._kept.get(number)
        if problem is None:
            problem = self._kept[number] = self._write(number)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return problem

    def _write(self, number: int) -> Problem:
        rng = np.random.default_rng([self._seed, SPLITS.index(self._split), number])
        while True:
            family = self._families[int(rng.integers(len(self._families)))]
            lengths = self._lengths[family]
            length = lengths[int(rng.integers(len(lengths)))]
            story = Story(rng, self._largest)
            FAMILIES[family].write(story, length)
            if split_of(f"{family} {[step.expression for step in story.steps]}") == self._split:
                return self._told(story, family)

    def _told(self, story: Story, family: str) -> Problem:
        low, high = self._distractors
        used = {int(n) for text in story.sentences for n in re.findall(r"\d+", text)}
        distractors = []
        for _ in range(story.number(low, high)):
            n = story.number(2)
            while n in used:
                n += 1
            place = story.number(1, len(story.sentences)) if len(story.sentences) > 1 else 1
            things = story.one_of(_other_things(story))
            aside = story.text("aside", n=n, place=story.one_of(PLACES), things=things)
            story.sentences.insert(place, aside)
            distractors.append(n)
        question = " ".join([*story.sentences, story.question])
        return Problem(question, story.steps[-1].value, tuple(story.steps), family, tuple(distractors))


def split_of(content: str) -> str:
    """The split that the hash of ``content`` picks: eight tenths train, one tenth each validation and test."""
    tenth = int.from_bytes(hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=8).digest(), "big") % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def plain(text: str) -> str:
    """``text`` in lower case, with one blank between words, numbers and signs.

    >>> plain("Ana has 1,250 pens. How many?")
    'ana has 1250 pens . how many ?'
    """
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.lower())
    return " ".join(re.findall(r"\d+\.\d+|\d+|[^\W\d_]+|[^\w\s]|_", text))


def _other_things(story: Story) -> list[str]:
    """Things that the story does not count: an aside about the same things would matter."""
    told = " ".join([*story.sentences, story.question])
    return [things for things in THINGS if things not in told]


def _range(name: str, value: tuple[int, int], least: int, most: int) -> None:
    try:
        low, high = value
        fine = isinstance(low, int) and isinstance(high, int) and least <= low <= high <= most
    except (TypeError, ValueError):
        fine = False
    if not fine:
        shown = value[0] if name == "largest" else value
        raise ValueError(f"{name}={shown!r}; expected whole numbers from {least} to {most}, the fewest first")
