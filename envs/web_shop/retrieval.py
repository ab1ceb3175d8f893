"""Product search by BM25.

Lucene's BM25 with k1 = 0.9 and b = 0.4, English stop words and the Porter stemmer, on the text that WebShop indexes
(title, description, first feature, options), as Pyserini's defaults have it; ``bm25s`` builds the index. At most 50
products are found, best first, equal scores in the catalogue's order; products that share no word with the query are
not found.

An index is kept on disk in ``$BRANCHWISE_CACHE`` (by default the platform's cache folder), under the digest of what
it was built from and of what built it (the source of this folder, the versions of the libraries), and memory-mapped,
so that processes share its pages. An index that other code built is never read: it would answer as that code did. It
is written to a temporary folder and renamed; a damaged one is built again; where nothing can be written, the index
stays in memory. Delete the folder at any time.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import Stemmer

from .catalogue import Product


@contextmanager
def _left_out(module: str) -> Iterator[None]:
    """Inside, ``import module`` fails, unless it was imported before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


# bm25s would start JAX where that is installed (threads, most of a GPU's memory, and a hook of the garbage collector in
# which Ctrl-C gets lost), for a way of sorting scores that is not used here.
with _left_out("jax"):
    import bm25s
    from bm25s.stopwords import STOPWORDS_EN

RESULTS: Final = 50
QUERIES_KEPT: Final = 8192

_STOP_WORDS: Final = frozenset(STOPWORDS_EN)
_log = logging.getLogger(__name__)
_stem: Final = Stemmer.Stemmer("porter").stemWord


def document(product: Product) -> str:
    """The text by which ``product`` is found."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options)
    first = product.features[0] if product.features else ""
    return " ".join((product.name, product.description, first, options))


def terms(text: str) -> list[str]:
    """The stemmed words of ``text`` that are searched by."""
    return [term for term in map(_term, _words(text)) if term]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"['’]s\b", "", text.lower()))


@lru_cache(maxsize=100_000)
def _term(word: str) -> str:
    if word in _STOP_WORDS:
        return ""
    return _stem(word) if len(word) > 2 else word  # as Lucene does; the stem of "s", a size, would be empty


class Index:
    """A searchable catalogue: ``search(query)`` gives the places of at most 50 products, best first."""

    def __init__(self, bm25: bm25s.BM25) -> None:
        self._vocabulary: dict[str, int] = bm25.vocab_dict
        # Views of plain type: slicing a memmap object costs microseconds.
        self._data, self._indices, self._indptr = (
            np.asarray(bm25.scores[key]) for key in ("data", "indices", "indptr")
        )
        self._products = int(bm25.scores["num_docs"])
        self.search: Callable[[str], tuple[int, ...]] = lru_cache(maxsize=QUERIES_KEPT)(self._search)

    def _search(self, query: str) -> tuple[int, ...]:
        scores = np.zeros(self._products, np.float32)
        for term in terms(query):
            place = self._vocabulary.get(term)
            if place is not None:
                found = slice(self._indptr[place], self._indptr[place + 1])
                scores[self._indices[found]] += self._data[found]
        return tuple(best(scores, RESULTS))


def best(scores: np.ndarray, k: int) -> Sequence[int]:
    """Places of the ``k`` highest positive ``scores`` (float ``[n]``), highest first, ties in order of place."""
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero((scores >= threshold) & (scores > 0))
    else:
        places = np.flatnonzero(scores > 0)
    return places[np.argsort(-scores[places], kind="stable")][:k].tolist()


def build(documents: Iterable[str]) -> bm25s.BM25:
    """A BM25 index of ``documents``."""
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(term, len(vocabulary)) for term in terms(text)] for text in documents]
    index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    if vocabulary:
        index.index((ids, vocabulary), show_progress=False)
    else:  # bm25s cannot index nothing
        index.vocab_dict = {}
        index.scores = {
            "data": np.zeros(0, np.float32),
            "indices": np.zeros(0, np.int32),
            "indptr": np.zeros(1, np.int64),
            "num_docs": len(ids),
        }
    return index


def open_index(content: str, documents: Callable[[], Iterable[str]]) -> Index:
    """The index of ``documents()``, from disk where an index of the same ``content`` (a digest, or a text that says
    what the documents are a function of) stands, else built and kept there."""
    digest = hashlib.sha256(f"{_builder()} {content}".encode()).hexdigest()[:32]
    folder = cache_folder() / "web_shop" / digest
    index = _load(folder)
    if index is None:
        index = build(documents())
        if index.vocab_dict:
            index = _keep(index, folder)
    return Index(index)


@lru_cache(maxsize=1)
def _builder() -> str:
    """What decides, beside the products, which index is built: this folder's source and the libraries' versions."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source.update(path.read_bytes())
    libraries = (f"{name} {metadata.version(name)}" for name in ("bm25s", "numpy", "PyStemmer"))
    return " ".join((source.hexdigest(), *libraries))


def cache_folder() -> Path:
    """``$BRANCHWISE_CACHE``, or ``branchwise`` in the platform's folder for caches."""
    chosen = os.environ.get("BRANCHWISE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", "~\\AppData\\Local"))
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (base / "branchwise").expanduser()


def _load(folder: Path) -> bm25s.BM25 | None:
    """The index in ``folder``, memory-mapped; None where there is none or it is damaged."""
    try:
        sizes = json.loads((folder / "sizes.json").read_bytes())
        if any((folder / name).stat().st_size != size for name, size in sizes.items()):
            raise ValueError("a file has another size than was written")
        index = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        starts = index.scores["indptr"]
        if not int(starts[-1]) == len(index.scores["data"]) == len(index.scores["indices"]):
            raise ValueError("the arrays do not fit each other")
        if max((place for word, place in index.vocab_dict.items() if word), default=0) + 1 >= len(starts):
            raise ValueError("the words do not fit the arrays")
        return index
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with a cache, the cure is to build it again
        _log.warning("The search index in %s is damaged (%s) and is built again.", folder, error)
        return None


def _keep(index: bm25s.BM25, folder: Path) -> bm25s.BM25:
    """Write ``index`` to ``folder`` and return it memory-mapped; on failure the index itself."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        _log.warning("The search index cannot be kept in %s (%s); it stays in memory.", folder, error)
        return index
    try:
        index.save(temporary, show_progress=False)
        sizes = {path.name: path.stat().st_size for path in temporary.iterdir()}
        (temporary / "sizes.json").write_text(json.dumps(sizes))
        if folder.exists() and _load(folder) is None:  # damaged; one that another process has just written stays
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            os.replace(temporary, folder)
        return _load(folder) or index
    except OSError as error:
        written = _load(folder)  # by another process, in the meantime
        if written is None:
            _log.warning("The search index cannot be kept in %s (%s); it stays in memory.", folder, error)
        return written or index
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
