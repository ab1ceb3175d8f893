"""Product search by BM25.

Lucene's BM25 with k1 = 0.9 and b = 0.4, English stop words and the Porter stemmer, on the text that WebShop indexes
(title, description, first feature, options), as Pyserini's defaults have it; ``bm25s`` computes it. At most 50 products
are found, best first, equal scores in the catalogue's order; products that share no word with the query are not found.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import bm25s
import numpy as np
import Stemmer

from .catalogue import Product

RESULTS: Final = 50
STOP_WORDS: Final = frozenset(bm25s.stopwords.STOPWORDS_EN)
_stemmer = Stemmer.Stemmer("porter")


def document(product: Product) -> str:
    """The text by which ``product`` is found."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options)
    first = product.features[0] if product.features else ""
    return " ".join((product.name, product.description, first, options)).lower()


def terms(text: str) -> list[str]:
    """The stemmed words of ``text`` that are searched by."""
    words = re.findall(r"\w+", re.sub(r"['’]s\b", "", text.lower()))
    return _stemmer.stemWords([word for word in words if word not in STOP_WORDS])


class Index:
    """A searchable catalogue."""

    def __init__(self, products: Iterable[Product]) -> None:
        self._bm25 = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
        self._bm25.index([terms(document(product)) for product in products], show_progress=False)
        self.search = lru_cache(maxsize=8192)(self._search)

    def _search(self, query: str) -> tuple[int, ...]:
        """Indices of the products found for ``query``, best first; at most 50."""
        known = [term for term in terms(query) if term in self._bm25.vocab_dict]
        if not known:
            return ()
        scores = self._bm25.get_scores(known)
        return tuple(best(scores, RESULTS))


def best(scores: np.ndarray, k: int) -> Sequence[int]:
    """Places of the ``k`` highest positive ``scores`` (float ``[n]``), highest first, ties in order of place."""
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero((scores >= threshold) & (scores > 0))
    else:
        places = np.flatnonzero(scores > 0)
    return places[np.argsort(-scores[places], kind="stable")][:k].tolist()
