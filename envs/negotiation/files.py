"""Reading the published negotiation data where a user has them: contexts to play, and dialogues to measure.

Formats: Deal or No Deal's ``train.txt`` and ``selfplay.txt`` (facebookresearch/end-to-end-negotiator), CaSiNo's JSON
(kushalchawla/CaSiNo), a JSON list of listings with ``category``, ``title`` and ``price`` (from CraigslistBargain), and
a JSON of a multi-issue domain. None of these files comes with this package; without them contexts are generated. Texts
from files are cleaned like messages. Nothing is written, and a malformed file raises ``ValueError`` that names the line
or entry.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..json_files import read_json, read_text, stamp
from .offers import clean_message

Triple = tuple[int, int, int]

CASINO_ITEMS: Final = ("food", "water", "firewood")
CASINO_POINTS: Final = {"High": 5, "Medium": 4, "Low": 3}
MOST_ITEMS: Final = 20  # of a kind, in a context of Deal or No Deal
MOST_POINTS: Final = 10  # that an item may be worth in it, as everything together is worth 10
_TAG: Final = re.compile(r"<(input|output|dialogue|partner_input)>(.*?)</\1>")


class HumanDeal(NamedTuple):
    """One side of a human dialogue. ``shares`` is who got what (own, partner's), ``None`` without a deal; ``outcome``
    is "deal", "no_agreement", "disagree" or "disconnect"; ``turns`` counts utterances."""

    counts: Triple
    values: Triple
    partner_values: Triple
    shares: tuple[Triple, Triple] | None
    outcome: str
    turns: int


class CampDeal(NamedTuple):
    """A finished CaSiNo dialogue: ``values`` and ``reasons`` (for high, medium, low) of both, ``shares`` in the order
    of :data:`CASINO_ITEMS` or ``None`` if somebody walked away, ``points`` as the file has them."""

    values: tuple[Triple, Triple]
    reasons: tuple[tuple[str, ...], tuple[str, ...]]
    shares: tuple[Triple, Triple] | None
    points: tuple[int, int]
    turns: int


class Listing(NamedTuple):
    """Something for sale; ``price`` in cents."""

    category: str
    title: str
    price: int


def _place(path: str | Path) -> tuple[str, Any]:
    """The path, and a stamp that has a file that was changed read again."""
    path = Path(path).expanduser().resolve()
    return str(path), stamp(path)


def _entries(path: str, what: str) -> list[Any]:
    entries = read_json(path, f"expected a list of {what}")
    if not isinstance(entries, list):
        raise ValueError(f"{path}: {type(entries).__name__}; expected a list of {what}.")
    return entries


def deal_or_no_deal_contexts(path: str | Path) -> tuple[tuple[Triple, Triple, Triple], ...]:
    """The contexts of a ``selfplay.txt``: (counts, values of the first player, values of the second)."""
    return _contexts(*_place(path))


@lru_cache(maxsize=4)
def _contexts(path: str, stamped: object) -> tuple[tuple[Triple, Triple, Triple], ...]:
    lines = enumerate(read_text(path, "expected lines of six numbers").split("\n"), 1)
    sides = [(number, *_counts_and_values(line, path, number)) for number, line in lines if line.strip()]
    found = []
    for (_, counts, first), (number, same, second) in zip(sides[::2], sides[1::2], strict=False):
        if counts != same:
            raise ValueError(f"{path}, line {number}: counts {same} differ from the partner's {counts}.")
        found.append((counts, first, second))
    if len(sides) % 2:
        raise ValueError(f"{path}, line {sides[-1][0]}: a line without its partner's; expected pairs of lines.")
    if not found:
        raise ValueError(f"{path} has no contexts; expected pairs of lines of six numbers.")
    return tuple(found)


def _counts_and_values(line: str, path: str, number: int) -> tuple[Triple, Triple]:
    try:
        c1, v1, c2, v2, c3, v3 = map(int, line.split())
    except ValueError:
        raise ValueError(f"{path}, line {number}: {line[:60]!r}; expected six whole numbers.") from None
    if fault := fault_of_context((c1, c2, c3), (v1, v2, v3)):
        raise ValueError(f"{path}, line {number}: {line[:60]!r}; {fault}.")
    return (c1, c2, c3), (v1, v2, v3)


def fault_of_context(counts: Sequence[int], *values: Sequence[int]) -> str:
    """What is wrong with the numbers of a context of Deal or No Deal; empty where nothing is. The limit on items keeps
    the ways to share them out below ten thousand."""
    if not all(0 <= count <= MOST_ITEMS for count in counts) or not any(counts):
        return f"expected 0 to {MOST_ITEMS} items of a kind, and some items"
    if not all(0 <= value <= MOST_POINTS for side in values for value in side):
        return f"expected values from 0 to {MOST_POINTS} points"
    return ""


def human_deals(path: str | Path) -> list[HumanDeal]:
    """The lines of a Deal or No Deal ``train.txt``: each dialogue, as one of its players saw it."""
    found = []
    for number, line in enumerate(read_text(path, "expected one dialogue a line").splitlines(), 1):
        parts = {tag: text.strip() for tag, text in _TAG.findall(line)}
        if len(parts) != 4:
            raise ValueError(f"{path}, line {number}: expected <input>, <dialogue>, <output> and <partner_input>.")
        counts, values = _counts_and_values(parts["input"], str(path), number)
        _, partner = _counts_and_values(parts["partner_input"], str(path), number)
        output = parts["output"].split()
        shares = None
        try:
            if output[0].startswith("item"):
                a, b, c, d, e, f = (int(word.partition("=")[2]) for word in output)
                shares = ((a, b, c), (d, e, f))
        except (IndexError, ValueError):
            raise ValueError(f"{path}, line {number}: output {parts['output'][:60]!r}; expected six items.") from None
        outcome = "deal" if shares else output[0].strip("<>")
        found.append(HumanDeal(counts, values, partner, shares, outcome, parts["dialogue"].count("<eos>")))
    return found


def casino_deals(path: str | Path) -> list[CampDeal]:
    """The dialogues of a CaSiNo file; the first participant is ``mturk_agent_1``."""
    return list(_casino(*_place(path)))


@lru_cache(maxsize=4)
def _casino(path: str, stamped: object) -> tuple[CampDeal, ...]:
    found = []
    for number, entry in enumerate(_entries(path, "dialogues")):
        try:
            found.append(_camp_deal(entry))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
            raise ValueError(f"{path}, dialogue {number}: {type(error).__name__}: {error}.") from error
    return tuple(found)


def _camp_deal(entry: Any) -> CampDeal:
    agents = sorted(entry["participant_info"])
    people = [entry["participant_info"][agent] for agent in agents]
    values = [_camp_values(person["value2issue"]) for person in people]
    reasons = [tuple(clean_message(person["value2reason"][level]) for level in CASINO_POINTS) for person in people]
    points = [int(person["outcomes"]["points_scored"]) for person in people]
    chat = entry["chat_logs"]
    shares = None
    if chat[-1]["text"] == "Accept-Deal":
        offer = next(line for line in reversed(chat) if line["text"] == "Submit-Deal")
        sides = ("issue2youget", "issue2theyget")
        mine, theirs = (_camp_share(offer["task_data"][side]) for side in sides)
        shares = (mine, theirs) if offer["id"] == agents[0] else (theirs, mine)
    return CampDeal((values[0], values[1]), (reasons[0], reasons[1]), shares, (points[0], points[1]), len(chat))


def _camp_values(value2issue: dict[str, str]) -> Triple:
    by_item = {issue.lower(): CASINO_POINTS[level] for level, issue in value2issue.items()}
    return (by_item["food"], by_item["water"], by_item["firewood"])


def _camp_share(counts: dict[str, Any]) -> Triple:
    by_item = {issue.lower(): int(count) for issue, count in counts.items()}
    return (by_item["food"], by_item["water"], by_item["firewood"])


def listings(path: str | Path) -> tuple[Listing, ...]:
    """The entries of a JSON list of listings with a price of at least 1."""
    return _listings(*_place(path))


@lru_cache(maxsize=4)
def _listings(path: str, stamped: object) -> tuple[Listing, ...]:
    found = []
    for number, entry in enumerate(_entries(path, "listings")):
        try:
            if isinstance(entry["price"], bool):
                raise ValueError(f"price {entry['price']}; expected a number")
            price = round(float(entry["price"]) * 100)
            if 100 <= price < 10**11:
                found.append(Listing(clean_message(entry["category"])[:40], clean_message(entry["title"])[:120], price))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}, listing {number}: {type(error).__name__}: {error}.") from error
    if not found:
        raise ValueError(f"{path} has no listing with a price of at least 1.")
    return tuple(found)


def issue_domain(path: str | Path) -> dict[str, Any]:
    """A multi-issue domain: ``{"issues": {name: [option, …]}, "points": [{name: [whole numbers]}, {…}],
    "reservation": [whole number, whole number]}``; the last two may be left out and are drawn then."""
    content = read_json(path, 'expected an object with "issues"')
    if not isinstance(content, dict) or not isinstance(content.get("issues"), dict):
        raise ValueError(f'{path}: expected an object with "issues": {{name: [option, …]}}.')
    unknown = sorted(content.keys() - {"issues", "points", "reservation"})
    if unknown:
        raise ValueError(f"{path}: unknown key {', '.join(map(repr, unknown))}; expected issues, points, reservation.")
    return content
