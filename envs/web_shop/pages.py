"""What a page shows: the same page in three texts.

``text`` and ``text_rich`` are WebShop's (visible texts of the page joined by ``[SEP]``; one text a line with buttons
marked). ``compact`` is for small models: lower-case lines of few regular words, the goal first, results numbered
``#1`` … ``#10`` with what matters of them in a word each.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from ..characters import within_planes
from .catalogue import Goal, Product, cap_text, option_text

BACK: Final = "back to search"
PREVIOUS: Final = "< prev"
NEXT: Final = "next >"
BUY: Final = "buy now"
SUB_PAGES: Final = ("description", "features", "reviews", "attributes")
ROWS: Final = 10


class Piece(NamedTuple):
    """One visible text and what it is: "text", "button", "option", "chosen option", "product" or "seen product"."""

    text: str
    kind: str = "text"


@lru_cache(maxsize=65536)
def plain(text: str) -> str:
    """Lower-case words of ``text`` without punctuation (hyphens and decimal points inside words stay)."""
    text = unicodedata.normalize("NFKC", text).lower().replace("'", "").replace("’", "")
    return " ".join(re.findall(r"\$?\w+(?:[.-]\w+)*%?", text))


def compact_goal(goal: Goal) -> str:
    """The instruction of ``goal`` in compact words: the cap as ``under $40``, and without the words ("find me", "with",
    "and") that a synthetic goal has for its grammar alone."""
    cap, options = cap_text(goal.price_upper), option_text(goal.options)
    told = goal.instruction.removesuffix(cap)
    parts = [told]
    if options and told.endswith(options):
        parts = [told.removesuffix(options), *(f"{name} {value}" for name, value in goal.options)]
    parts[0] = re.sub("^find me ", "", parts[0], flags=re.IGNORECASE)
    if cap:
        parts.append(f"under ${goal.price_upper:.2f}".removesuffix(".00"))
    return " ".join(filter(None, map(plain, parts)))


def compact_price(product: Product) -> str:
    return product.price_tag.removesuffix(".0").replace(".0 to", " to")


def compact_values(values: Sequence[str]) -> str:
    return (", " if any(" " in value for value in values) else " ").join(" ".join(value.split()) for value in values)


def has_all_words(query: str, title: str) -> bool:
    """Whether every searched word stands in ``title``, regardless of case, punctuation and hyphens; one of WebShop's
    prefixes (``<a>``) is no word."""
    return _words(re.sub(r"^\s*<\w>", "", query)) <= _words(title)


def _words(text: str) -> set[str]:
    return set(plain(text).replace("-", " ").split())


def compact_results(
    query: str, products: Sequence[Product], cap: float, seen: Sequence[bool], page: int, pages: int
) -> str:
    """A row says whether the title has ``all`` or only ``some`` of the searched words, and whether the price is
    ``under`` the goal's cap (or at it) or ``over``: what a person sees at a glance, and a small model would need long
    to learn."""
    head = f"results {page} of {pages}" if products else "no results"
    asked = plain(query)
    rows = [f"{head} for {asked}" if asked else head]
    for row, (product, opened) in enumerate(zip(products, seen, strict=True), start=1):
        match = "all" if has_all_words(query, product.name) else "some"
        price = "under" if product.price <= cap else "over"
        rows.append(f"#{row} {match} {price}{' seen' if opened else ''}")
    return "\n".join(rows)


def compact_item(product: Product, chosen: Sequence[tuple[str, str]]) -> str:
    lines = [" ".join(f"item {plain(product.name)} {compact_price(product)}".split())]
    lines += [f"{name} {compact_values(values)}" for name, values in product.options]
    picked = " ".join(f"{name} {compact_values([value])}" for name, value in chosen)
    lines.append(f"chosen {picked or 'nothing'}")
    return "\n".join(lines)


def compact_sub_page(product: Product, page: str) -> str:
    if page == "description":
        said = plain(product.description)
    elif page == "features":
        said = " ".join(plain(feature) for feature in product.features)
    elif page == "attributes":
        said = " ".join(plain(attribute) for attribute in product.attributes)
    else:
        said = " ".join(plain(f"{title} {score} {body}") for title, score, body in product.reviews)
    return f"{page} {said or 'none'}"


def kind_of_page(text: str) -> str:
    """Which page an observation is of, in any of the three texts: ``search``, ``results``, ``item``, or one of its
    ``text`` pages.

    >>> kind_of_page("goal red shirt under $40\\nsteps 9\\nno results for green tea")
    'results'
    >>> kind_of_page("WebShop [SEP] Instruction: [SEP] a red shirt [SEP] Search")
    'search'
    """
    for line in text.splitlines():  # compact
        head = line.split(" ", 2)[:2]
        if head[0] == "item" or head == ["search", "page"]:
            return head[0]
        if head[0] == "results" or head == ["no", "results"]:
            return "results"
        if head[0] in SUB_PAGES:
            return "text"
    if "(Total results:" in text:
        return "results"
    if "Buy Now" in text:
        return "item"
    return "text" if "Back to Search" in text else "search"


def index_pieces(instruction: str) -> list[Piece]:
    return [Piece("WebShop"), *_head(instruction), Piece("Search", "button")]


def results_pieces(
    instruction: str, products: Sequence[Product], seen: Sequence[bool], page: int, total: int, has_next: bool
) -> list[Piece]:
    pieces = [*_head(instruction), Piece("Back to Search", "button"), Piece(f"Page {page} (Total results: {total})")]
    if page > 1:
        pieces.append(Piece("< Prev", "button"))
    if has_next:
        pieces.append(Piece("Next >", "button"))
    for product, opened in zip(products, seen, strict=True):
        pieces.append(Piece(product.asin, "seen product" if opened else "product"))
        pieces += [Piece(product.name), Piece(product.price_tag)]
    return pieces


def item_pieces(
    instruction: str, product: Product, chosen: Sequence[tuple[str, str]], sub_pages: Sequence[str]
) -> list[Piece]:
    pieces = [*_head(instruction), Piece("Back to Search", "button"), Piece("< Prev", "button")]
    picked = {value for _, value in chosen}
    for name, values in product.options:
        pieces.append(Piece(name))
        pieces += [Piece(value, "chosen option" if value in picked else "option") for value in values]
    pieces += [Piece(product.name), Piece(f"Price: {product.price_tag}"), Piece(f"Rating: {product.rating}")]
    pieces += [Piece(page.capitalize(), "button") for page in sub_pages]
    return [*pieces, Piece("Buy Now", "button")]


def sub_page_pieces(instruction: str, product: Product, page: str) -> list[Piece]:
    pieces = [*_head(instruction), Piece("Back to Search", "button"), Piece("< Prev", "button")]
    if page == "description":
        pieces.append(Piece(product.description or "No Description"))
    elif page == "features":
        pieces += [Piece(feature) for feature in product.features] or [Piece("No Features")]
    elif page == "reviews":
        for title, score, body in product.reviews:
            pieces += [Piece(f'"{title}"'), Piece(str(score)), Piece(body)]
        if not product.reviews:
            pieces.append(Piece("No reviews found"))
    else:
        pieces += [Piece(attribute) for attribute in product.attributes]
        pieces += [Piece(product.category), Piece(product.query), Piece(product.product_category)]
    return pieces


def done_pieces(product: Product, chosen: Sequence[tuple[str, str]], reward: float) -> list[Piece]:
    """The last page, which in WebShop has a frame for facts that its text environment never fills in."""
    options = json.dumps(dict(chosen), sort_keys=True)
    for sign in "<>&'":  # as HTML-safe JSON writes them
        options = options.replace(sign, f"\\u{ord(sign):04x}")
    texts = ["Thank you for shopping with us!", "Your code:", "None", "(Paste it in your MTurk interface.)"]
    texts += ["Purchased", "asin", product.asin, "options", options]
    for empty in ("attrs", "category", "query", "product category"):
        texts += [empty, "None"]
    texts += ["Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category"]
    texts += ["query", "Goal", "None", "Reward", "Your score (min 0.0, max 1.0)", str(reward), "Reward Details", "None"]
    return [Piece(text) for text in texts]


def _head(instruction: str) -> list[Piece]:
    return [Piece("Instruction:"), Piece(instruction)]


def showable(text: str) -> str:
    """``text`` without signs that an observation space of text does not hold: letters of mathematical alphabets and
    the like as plain ones, other rare letters as ``\\ufffd``, private and control signs as blanks."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    signs = (unicodedata.normalize("NFKC", sign) if 0xFFFF < ord(sign) < 0x1F000 else sign for sign in text)
    return "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in within_planes("".join(signs)))


def as_text(pieces: Sequence[Piece]) -> str:
    return showable(" [SEP] ".join(piece.text.strip() for piece in pieces))


def as_rich_text(pieces: Sequence[Piece]) -> str:
    """One text a line. A chosen option is announced on top, the latest first in the page's order."""
    lines, announced = [], []
    for text, kind in pieces:
        if kind == "button":
            lines.append(f"[button] {text} [button_]")
        elif kind == "option":
            lines.append(f"  [button] {text} [button_]")
        elif kind == "chosen option":
            lines.append(f"  [clicked button] {text} [clicked button_]")
            announced.append(f"You have clicked {text}.")
        elif kind == "product":
            lines.append(f"\n[button] {text} [button_]")
        elif kind == "seen product":
            lines.append(f"\n[clicked button] {text} [clicked button_]")
        else:
            lines.append(text)
    return showable("\n".join((*reversed(announced), *lines, "")))
