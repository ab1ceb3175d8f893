"""Thirteen families of word problems, written step by step: a sentence adds a number, a step a line of arithmetic.

A family is a function of a :class:`Story` and a length. It says sentences and takes steps; a step is an expression over
numbers of the text and names of earlier steps, whole numbers only (``//`` where a division comes out even). The last
step is the answer. Every word that a story can contain stands in a table of this file, so that the lexicon is closed.

Grade-school families follow the kinds of steps that GSM8K's solutions take (Cobbe et al., 2021, arXiv:2110.14168); no
text is taken from it. A changed word changes problems, so everything here is part of the environment's version.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

NAMES: Final = (
    "Ana", "Ben", "Chloe", "David", "Ella", "Farid", "Grace", "Hugo", "Iris", "Jonas", "Kira", "Liam", "Mona", "Noah",
    "Olga", "Paul", "Rosa", "Sami", "Tara", "Vera", "Wen", "Yusuf", "Zoe", "Emil",
)  # fmt: skip
THINGS: Final = (
    "apples", "books", "cards", "coins", "cups", "eggs", "flowers", "marbles", "pears", "pens", "plums", "shells",
    "stamps", "stickers", "stones", "tickets",
)  # fmt: skip
PLACES: Final = ("school", "library", "market", "museum", "station", "garden", "bakery", "park")
FRACTIONS: Final = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
MULTIPLES: Final = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}

SENTENCES: Final[Mapping[str, tuple[str, ...]]] = {
    # inventory
    "has": ("{name} has {n} {things}.", "At first {name} has {n} {things}."),
    "gain": ("Then {name} buys {n} more.", "{name} finds {n} more.", "{other} gives {name} {n} more."),
    "lose": ("{name} gives {n} of them to {other}.", "{name} loses {n} of them.", "{name} sells {n} of them."),
    "multiply": ("After a week {name} has {times} as many.", "Soon there are {times} as many."),
    "part": ("{name} gives away {part} of them.", "{name} puts {part} of them aside for {other}."),
    "share": ("{name} shares what is left equally with {n} friends and keeps one share.",),
    "how many": ("How many {things} does {name} have now?", "How many {things} are left with {name}?"),
    # sums of products
    "shop": ("{name} buys {n} {things} for {m} dollars each.", "{name} pays for {n} {things} at {m} dollars each."),
    "shop asks": ("How many dollars does {name} spend?", "What does {name} pay in dollars?"),
    "shop off": ("A coupon takes {n} dollars off.",),
    "shop paid": ("{name} pays with {n} dollars.",),
    "shop change": ("How many dollars does {name} get back?",),
    "trip": ("{name} drives {n} hours at {m} miles an hour.", "For {n} hours {name} rides at {m} miles an hour."),
    "trip asks": ("How many miles does {name} travel?",),
    "trip off": ("A detour of {n} miles is part of this and does not count.",),
    "trip paid": ("The whole way is {n} miles long.",),
    "trip change": ("How many miles are still ahead of {name}?",),
    "work": ("{name} works {n} days and earns {m} dollars a day.", "For {n} days {name} is paid {m} dollars a day."),
    "work asks": ("How many dollars does {name} earn?",),
    "work off": ("Of the money {n} dollars go to taxes.",),
    "work paid": ("{name} wants a bicycle for {n} dollars.",),
    "work change": ("How many dollars does {name} still need?",),
    # production
    "machine": ("A machine makes {n} {things} an hour and runs for {m} hours.",),
    "broken": ("Of these {n} are broken and thrown away.",),
    "boxes": ("The rest is packed in boxes of {n}.", "All that remain go into boxes of {n}."),
    "box price": ("Each box is sold for {n} dollars.",),
    "cost": ("Running the machine costs {n} dollars.",),
    "machine asks": ("How many {things} are there?",),
    "machine asks good": ("How many {things} are good?",),
    "machine asks boxes": ("How many boxes are filled?",),
    "machine asks money": ("How many dollars do the boxes bring in?",),
    "machine asks profit": ("How many dollars of profit remain?",),
    # ages
    "ages": ("{name} is {n} years older than {other}. Together they are {m} years old.",),
    "age of other": ("How old is {other}?",),
    "age of name": ("How old is {name}?",),
    "age later": ("How old will {name} be in {n} years?",),
    # heads and legs
    "farm": ("A farm has hens and cows, {n} heads and {m} legs in all.",),
    "cows": ("How many cows are there?",),
    "hens": ("How many hens are there?",),
    # equations
    "unknown": ("{name} thinks of a number.", "Somebody thinks of a number."),
    "add": ("Adds {n}.", "Then adds {n}."),
    "subtract": ("Subtracts {n}.", "Then takes away {n}."),
    "times": ("Multiplies by {n}.", "Then multiplies by {n}."),
    "divide": ("Divides by {n}.", "Then divides by {n}."),
    "result": ("The result is {n}. What was the number?", "Now it is {n}. Which number was it?"),
    "two sides": ("Solve for x: {a} x + {b} = {c} x + {d}.",),
    "solve": ("What is x?",),
    # percent
    "price": ("A {thing} costs {n} dollars.", "The price of a {thing} is {n} dollars."),
    "rises": ("The price rises by {n} percent.", "Then it becomes {n} percent more expensive."),
    "falls": ("The price falls by {n} percent.", "Then it is sold for {n} percent less."),
    "price asks": ("What does it cost now in dollars?",),
    # consecutive
    "consecutive": ("The sum of {n} consecutive whole numbers is {m}.",),
    "smallest": ("What is the smallest of them?",),
    "largest": ("What is the largest of them?",),
    # proportion
    "cost of some": ("{n} {things} cost {m} dollars.", "{name} pays {m} dollars for {n} {things}."),
    "cost of more": ("How many dollars do {n} {things} cost?",),
    "more paid": ("{name} buys {n} {things} and pays with {m} dollars.",),
    # rows
    "rows": ("A hall has {n} rows of seats. The first row has {a} seats and each next row has {d} more.",),
    "last row": ("How many seats are in the last row?",),
    "all rows": ("How many seats are in the hall?",),
    # distractors
    "aside": (
        "{other} has {n} {things}.",
        "The {place} is {n} years old.",
        "It takes {n} minutes to walk to the {place}.",
        "There are {n} chairs in the {place}.",
        "{other} is on page {n} of a book.",
    ),
}  # fmt: skip
GOODS: Final = ("bicycle", "camera", "chair", "coat", "desk", "guitar", "lamp", "phone", "radio", "table", "watch")


class Step(NamedTuple):
    """One line of a worked solution: ``name = expression``, which is ``value`` (as it is written)."""

    name: str
    expression: str
    value: str

    @property
    def code(self) -> str:
        """The step as a snippet that shows its value."""
        return f"{self.name} = {self.expression}\n{self.name}"


@dataclass
class Story:
    """A problem in the making. ``largest`` bounds the numbers that the text adds (products may be larger)."""

    rng: np.random.Generator
    largest: int

    def __post_init__(self) -> None:
        self.sentences: list[str] = []
        self.question = ""
        self.steps: list[Step] = []
        picked = self.rng.permutation(len(NAMES))[:2]
        self.name, self.other = NAMES[picked[0]], NAMES[picked[1]]
        self.things = self.one_of(THINGS)

    def number(self, low: int, high: int | None = None) -> int:
        """A whole number from ``low`` to ``high`` (``largest`` where none is given), both included."""
        top = self.largest if high is None else high
        return int(self.rng.integers(low, max(low, top) + 1))

    def one_of(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def text(self, key: str, **slots: object) -> str:
        """A sentence of the table with its slots filled."""
        known = {"name": self.name, "other": self.other, "things": self.things}
        return self.one_of(SENTENCES[key]).format(**{**known, **slots})

    def say(self, key: str, **slots: object) -> None:
        self.sentences.append(self.text(key, **slots))

    def ask(self, key: str, **slots: object) -> None:
        self.question = self.text(key, **slots)

    def take(self, expression: str) -> int:
        """The next step of the solution; its value. Steps are called ``a``, ``b``, ``c`` …"""
        value = evaluate(expression, {step.name: int(step.value) for step in self.steps})
        self.steps.append(Step(chr(ord("a") + len(self.steps)), expression, str(value)))
        return value

    @property
    def last(self) -> str:
        """The name of the last step."""
        return self.steps[-1].name


_OPERATIONS: Final[dict[type, Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(expression: str, values: Mapping[str, int]) -> int:
    """The value of an expression of our own making: whole numbers, names of ``values``, ``+ - * //`` and brackets.

    >>> evaluate("(a + 3) // 2", {"a": 5})
    4
    """
    return _evaluate(ast.parse(expression, mode="eval").body, values)


def _evaluate(node: ast.expr, values: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_evaluate(node.left, values), _evaluate(node.right, values))
    raise ValueError(f"{ast.unparse(node)}: expected whole numbers, names and + - * //")


# ---- families ----------------------------------------------------------------------------------------------------


def inventory(story: Story, length: int) -> None:
    """Things come and go, ``length`` times."""
    value: int = story.number(2)
    story.say("has", n=value)
    for _ in range(length):
        left = story.last if story.steps else str(value)
        divisors = [d for d in FRACTIONS if value % d == 0 and value > d]
        kinds = ["gain", "gain"] + ["lose", "lose"] * (value > 2) + ["multiply"] * (value <= 4 * story.largest)
        kinds += ["part", "share"] * bool(divisors)
        kind = story.one_of(kinds)
        if kind == "gain":
            n = story.number(2)
            story.say("gain", n=n)
            value = story.take(f"{left} + {n}")
        elif kind == "lose":
            n = story.number(2, min(value - 1, story.largest))
            story.say("lose", n=n)
            value = story.take(f"{left} - {n}")
        elif kind == "multiply":
            n = story.number(2, max(MULTIPLES))
            story.say("multiply", times=MULTIPLES[n])
            value = story.take(f"{left} * {n}")
        elif kind == "part":
            n = divisors[story.number(0, len(divisors) - 1)]
            story.say("part", part=FRACTIONS[n])
            value = story.take(f"{left} - {left} // {n}")
        else:
            n = divisors[story.number(0, len(divisors) - 1)]
            if n == 2:  # "with 1 friends" is no English
                story.say("part", part=FRACTIONS[2])
            else:
                story.say("share", n=n - 1)
            value = story.take(f"{left} // {n}")
    story.ask("how many")


def _products(story: Story, length: int, key: str) -> None:
    """A sum of products, with something taken off and a difference to a given sum where the length asks for more."""
    tail = {1: 0, 2: 1}.get(length, story.number(0, min(2, length - 3)))
    kinds = length - tail - (length - tail > 1)
    for thing in story.rng.permutation(len(THINGS))[:kinds]:
        n, m = story.number(2, max(2, story.largest // 4)), story.number(2)
        story.say(key, n=n, m=m, things=THINGS[thing])
        total = story.take(f"{n} * {m}")
    if kinds > 1:
        total = story.take(" + ".join(step.name for step in story.steps))
    if tail == 2:
        off = story.number(2, min(total - 1, story.largest))
        story.say(f"{key} off", n=off)
        total = story.take(f"{story.last} - {off}")
    if tail:
        paid = total + story.number(1)
        story.say(f"{key} paid", n=paid)
        story.take(f"{paid} - {story.last}")
        story.ask(f"{key} change")
    else:
        story.ask(f"{key} asks")


def shopping(story: Story, length: int) -> None:
    """Goods at prices, a coupon, change."""
    _products(story, length, "shop")


def travel(story: Story, length: int) -> None:
    """Legs of a trip at speeds, a detour, the way that is left."""
    _products(story, length, "trip")


def wages(story: Story, length: int) -> None:
    """Days of work at wages, taxes, what is missing for a purchase."""
    _products(story, length, "work")


def production(story: Story, length: int) -> None:
    """A machine's output: broken ones out, the rest in boxes, the boxes sold, the costs taken off."""
    n, m = story.number(3), story.number(2, 12)
    boxed, size = story.number(2, max(2, story.largest // 2)), story.number(2, 12)
    broken = 0
    if length >= 2:
        # The number of broken ones is what makes the boxes come out even.
        boxed = max(1, min(boxed, (n * m - 1) // size))
        size = min(size, n * m - 1)
        broken = n * m - boxed * size
    story.say("machine", n=n, m=m)
    story.take(f"{n} * {m}")
    if length >= 2:
        story.say("broken", n=broken)
        story.take(f"{story.last} - {broken}")
    if length >= 3:
        story.say("boxes", n=size)
        story.take(f"{story.last} // {size}")
    if length >= 4:
        price = story.number(2)
        story.say("box price", n=price)
        income = story.take(f"{story.last} * {price}")
    if length >= 5:
        cost = story.number(1, min(story.largest, income - 1))
        story.say("cost", n=cost)
        story.take(f"{story.last} - {cost}")
    asks = ("", " good", " boxes", " money", " profit")
    story.ask(f"machine asks{asks[length - 1]}")


def ages(story: Story, length: int) -> None:
    """Sum and difference of two ages; the elder's; the elder's later."""
    younger, older_by = story.number(2), story.number(2, max(2, story.largest // 2))
    total = 2 * younger + older_by
    story.say("ages", n=older_by, m=total)
    story.take(f"{total} - {older_by}")
    story.take(f"{story.last} // 2")
    if length == 2:
        return story.ask("age of other")
    story.take(f"{story.last} + {older_by}")
    if length == 3:
        return story.ask("age of name")
    later = story.number(2, 20)
    story.take(f"{story.last} + {later}")
    story.ask("age later", n=later)


def heads_and_legs(story: Story, length: int) -> None:
    """Two equations in two unknowns, as children solve them."""
    cows, hens = story.number(1), story.number(1)
    heads, legs = cows + hens, 4 * cows + 2 * hens
    story.say("farm", n=heads, m=legs)
    story.take(f"2 * {heads}")
    story.take(f"{legs} - {story.last}")
    story.take(f"{story.last} // 2")
    if length == 3:
        return story.ask("cows")
    story.take(f"{heads} - {story.last}")
    story.ask("hens")


def unknown_number(story: Story, length: int) -> None:
    """A linear equation in words, undone from its end."""
    value = story.number(2)
    story.say("unknown")
    undo: list[tuple[str, int]] = []
    for place in range(length):
        kinds = ["add", "subtract"] if place and undo[-1][0] in "*/" else ["times", "divide", "add"]
        kind = story.one_of(kinds)
        divisors = [d for d in range(2, 13) if value % d == 0]
        if (kind == "divide" and not divisors) or (kind == "times" and value > 20 * story.largest):
            kind = "add"
        if kind == "subtract" and value < 3:
            kind = "add"
        if kind == "add":
            n = story.number(2)
            value, inverse = value + n, "-"
        elif kind == "subtract":
            n = story.number(2, min(value - 1, story.largest))
            value, inverse = value - n, "+"
        elif kind == "times":
            n = story.number(2, 9)
            value, inverse = value * n, "/"
        else:
            n = divisors[story.number(0, len(divisors) - 1)]
            value, inverse = value // n, "*"
        undo.append((inverse, n))
        story.say(kind, n=n)
    story.ask("result", n=value)
    left = str(value)
    for inverse, n in reversed(undo):
        story.take(f"{left} {'//' if inverse == '/' else inverse} {n}")
        left = story.last


def two_sides(story: Story, length: int) -> None:
    """``a x + b = c x + d``."""
    x, c, more = story.number(2), story.number(2, 9), story.number(2, 9)
    a, b = c + more, story.number(1)
    d = b + more * x
    story.say("two sides", a=a, b=b, c=c, d=d)
    story.ask("solve")
    story.take(f"{a} - {c}")
    story.take(f"{d} - {b}")
    story.take("b // a")


def percent(story: Story, length: int) -> None:
    """A price that rises and falls by percentages; every price is a whole number."""
    value = 100 * story.number(1, max(1, story.largest // 5))
    story.say("price", thing=story.one_of(GOODS), n=value)
    for _ in range(length):
        left = story.last if story.steps else str(value)
        rates = [rate for rate in range(5, 65, 5) if value * rate % 100 == 0]
        rate = rates[story.number(0, len(rates) - 1)] if rates else 100
        rises = rate == 100 or story.number(0, 1) == 1
        story.say("rises" if rises else "falls", n=rate)
        value = story.take(f"{left} {'+' if rises else '-'} {left} * {rate} // 100")
    story.ask("price asks")


def consecutive(story: Story, length: int) -> None:
    """The smallest or the largest of some consecutive numbers with a known sum."""
    count, first = story.number(3, 9), story.number(1)
    total = count * first + count * (count - 1) // 2
    story.say("consecutive", n=count, m=total)
    story.take(f"{count} * {count - 1} // 2")
    story.take(f"{total} - {story.last}")
    story.take(f"{story.last} // {count}")
    if length == 3:
        return story.ask("smallest")
    story.take(f"{story.last} + {count - 1}")
    story.ask("largest")


def proportion(story: Story, length: int) -> None:
    """The price of one, of more, the change."""
    some, unit, more = story.number(2, 12), story.number(2), story.number(2)
    more += more == some
    story.say("cost of some", n=some, m=some * unit)
    story.take(f"{some * unit} // {some}")
    cost = story.take(f"{story.last} * {more}")
    if length == 2:
        return story.ask("cost of more", n=more)
    paid = cost + story.number(1)
    story.say("more paid", n=more, m=paid)
    story.take(f"{paid} - {story.last}")
    story.ask("shop change")


def rows_of_seats(story: Story, length: int) -> None:
    """An arithmetic sequence: its last member, its sum."""
    rows, first, more = 2 * story.number(2, 10), story.number(5), story.number(1, 6)
    story.say("rows", n=rows, a=first, d=more)
    story.take(f"{rows - 1} * {more}")
    story.take(f"{first} + {story.last}")
    if length == 2:
        return story.ask("last row")
    story.take(f"{first} + {story.last}")
    story.take(f"{story.last} * {rows} // 2")
    story.ask("all rows")


class Family(NamedTuple):
    """``lengths``: the numbers of steps that it can have."""

    write: Callable[[Story, int], None]
    lengths: tuple[int, ...]


LONGEST: Final = 8
FAMILIES: Final[Mapping[str, Family]] = {
    "inventory": Family(inventory, tuple(range(1, 9))),
    "shopping": Family(shopping, tuple(range(1, 9))),
    "travel": Family(travel, tuple(range(1, 9))),
    "wages": Family(wages, tuple(range(1, 9))),
    "production": Family(production, (1, 2, 3, 4, 5)),
    "ages": Family(ages, (2, 3, 4)),
    "heads_and_legs": Family(heads_and_legs, (3, 4)),
    "unknown_number": Family(unknown_number, tuple(range(1, 9))),
    "two_sides": Family(two_sides, (3,)),
    "percent": Family(percent, (1, 2, 3)),
    "consecutive": Family(consecutive, (3, 4)),
    "proportion": Family(proportion, (2, 3)),
    "rows_of_seats": Family(rows_of_seats, (2, 4)),
}
"""Algebra: ages, heads_and_legs, unknown_number, two_sides, consecutive. Grade school: the others."""


def words() -> frozenset[str]:
    """Every lower-case word that a story can contain."""
    slot = re.compile(r"\{\w+\}")
    texts = [slot.sub(" ", text) for variants in SENTENCES.values() for text in variants]
    texts += [*NAMES, *THINGS, *PLACES, *GOODS, *FRACTIONS.values(), *MULTIPLES.values()]
    return frozenset(re.findall(r"[a-z]+", " ".join(texts).lower()))
