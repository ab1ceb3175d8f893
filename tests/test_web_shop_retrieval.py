"""Search: BM25's formula by hand, ties, words, and the index on disk."""

import json
import logging
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from branchwise.envs.web_shop import retrieval
from branchwise.envs.web_shop.catalogue import GeneratedCatalogue
from branchwise.envs.web_shop.retrieval import Index, best, build, cache_folder, document, open_index, terms
from branchwise.envs.web_shop.rules import WebShopSimulator

DOCUMENTS = ["red cotton shirt", "blue cotton shirt shirt", "green lamp", "red lamp with a long neck", "green lamp"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def bm25(query: list[str], documents: list[list[str]]) -> list[float]:
    """Lucene's formula: sum of idf · tf / (tf + k1 (1 − b + b · length / mean length)), idf = ln(1 + (N − n + ½) / (n
    + ½))."""
    k1, b = 0.9, 0.4
    mean = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for word in query:
        n = sum(word in text for text in documents)
        idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
        for i, text in enumerate(documents):
            tf = text.count(word)
            scores[i] += idf * tf / (tf + k1 * (1 - b + b * len(text) / mean))
    return scores


@pytest.mark.parametrize("query", ["red", "cotton shirt", "red lamp", "shirt shirt red", "long neck lamp red"])
def test_ranks_are_those_of_lucene_s_formula(query: str) -> None:
    scores = bm25(terms(query), [terms(text) for text in DOCUMENTS])
    expected = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-round(scores[i], 6), i))
    assert Index(build(DOCUMENTS)).search(query) == tuple(expected)


def test_equal_scores_come_in_the_order_of_documents() -> None:
    assert Index(build(["lamp"] * 70)).search("lamp") == tuple(range(50))
    assert Index(build([*["lamp shade"] * 30, *["lamp"] * 30])).search("lamp") == (*range(30, 60), *range(20))


def test_unknown_and_empty_queries_find_nothing() -> None:
    index = Index(build(DOCUMENTS))
    for query in ("", "qqqq", "the with of", "!!! ???"):
        assert index.search(query) == ()
    assert Index(build([])).search("lamp") == ()
    assert Index(build(["", "the"])).search("lamp") == ()


def test_words_are_stemmed_and_stop_words_dropped() -> None:
    assert terms("The Running Shoes of women's cities, 2-pack (S)") == [
        "run",
        "shoe",
        "women",
        "citi",
        "2",
        "pack",
        "s",
    ]
    assert terms("MEN’S Shirts") == ["men", "shirt"]


def test_the_document_is_title_description_first_feature_and_options() -> None:
    product = next(p for p in GeneratedCatalogue(100) if len(p.options) == 2)
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options)
    assert document(product) == f"{product.name} {product.description} {product.features[0]} {options}"


@pytest.mark.parametrize("n", [1, 49, 50, 51, 1000])
def test_best_is_a_stable_sort(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.integers(0, 6, n).astype(np.float32)
    expected = [i for i in np.argsort(-scores, kind="stable") if scores[i] > 0][:50]
    assert list(best(scores, 50)) == expected


def built(content: str, documents: Iterable[str] = DOCUMENTS) -> tuple[Index, int]:
    """An opened index, and how often its documents were read."""
    reads = 0

    def read() -> Iterable[str]:
        nonlocal reads
        reads += 1
        return documents

    return open_index(content, read), reads


def test_an_index_is_kept_and_opened_without_reading_documents(cache: Path) -> None:
    first, reads = built("a")
    assert reads == 1
    again, reads = built("a")
    assert reads == 0
    assert again.search("red lamp") == first.search("red lamp")
    assert built("b")[1] == 1
    assert len(list((cache / "web_shop").iterdir())) == 2


def test_an_opened_index_is_memory_mapped(cache: Path) -> None:
    for index in (built("a")[0], built("a")[0]):
        assert isinstance(index._data.base, np.memmap)


def damage_truncate(folder: Path) -> None:
    path = folder / "data.csc.index.npy"
    path.write_bytes(path.read_bytes()[:-4])


def damage_vocabulary(folder: Path) -> None:
    path = folder / "vocab.index.json"
    path.write_text("{" * path.stat().st_size)


def damage_missing(folder: Path) -> None:
    (folder / "indices.csc.index.npy").unlink()


def damage_empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")


def damage_sizes(folder: Path) -> None:
    (folder / "sizes.json").write_text("[]")


def damage_numbers(folder: Path) -> None:
    path = folder / "indptr.csc.index.npy"
    path.write_bytes(path.read_bytes()[:-8] + b"\xff" * 8)


def damage_words(folder: Path) -> None:
    path = folder / "vocab.index.json"
    vocabulary = json.loads(path.read_text())
    text = json.dumps({word: place + 10_000 for word, place in vocabulary.items()})
    path.write_text(text)
    sizes = json.loads((folder / "sizes.json").read_text())
    (folder / "sizes.json").write_text(json.dumps({**sizes, path.name: path.stat().st_size}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_vocabulary,
        damage_missing,
        damage_empty,
        damage_sizes,
        damage_numbers,
        damage_words,
    ],
)
def test_a_damaged_index_is_built_again(damage: object, cache: Path) -> None:
    expected = built("a")[0].search("red lamp")
    (folder,) = (cache / "web_shop").iterdir()
    damage(folder)  # type: ignore[operator]
    again, reads = built("a")
    assert reads == 1
    assert again.search("red lamp") == expected
    assert built("a")[1] == 0  # and mended on disk
    assert len(list((cache / "web_shop").iterdir())) == 1


def test_what_cannot_be_written_stays_in_memory(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert built("a")[0].search("red lamp")[0] == 3
    assert "cannot be kept" in caplog.text


def test_a_full_disk_leaves_nothing_half_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert built("a")[0].search("red lamp")[0] == 3
    assert list((cache / "web_shop").iterdir()) == []
    monkeypatch.undo()


def test_writers_at_the_same_time_leave_one_whole_index(cache: Path) -> None:
    found: list[tuple[int, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(built("a")[0].search("red lamp"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(list((cache / "web_shop").iterdir())) == 1


def _search_in_a_child(queue: "multiprocessing.Queue[object]") -> None:
    def refuse() -> Iterable[str]:
        raise AssertionError("the index was not on disk")

    queue.put(open_index("shared", refuse).search("red lamp"))


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_other_processes_open_what_one_has_built() -> None:
    index, _ = built("shared")
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[object] = context.Queue()
    child = context.Process(target=_search_in_a_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == index.search("red lamp")
    child.join()


def test_a_shop_of_other_content_never_gets_this_shop_s_index(cache: Path) -> None:
    contents = {
        catalogue.content()
        for catalogue in (
            GeneratedCatalogue(100),
            GeneratedCatalogue(100, seed=1),
            GeneratedCatalogue(100, split="test"),
            GeneratedCatalogue(110),
        )
    }
    assert len(contents) == 4


def test_a_deleted_cache_does_not_hurt_an_open_shop(cache: Path) -> None:
    simulator = WebShopSimulator(products=120, catalogue_seed=77)
    shutil.rmtree(cache)
    assert simulator.search("color size")


def test_the_cache_folder_is_the_platform_s_or_the_chosen_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("BRANCHWISE_CACHE")
    monkeypatch.setattr(retrieval.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "branchwise"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("~/.cache/branchwise").expanduser()
    monkeypatch.setattr(retrieval.sys, "platform", "darwin")
    assert cache_folder() == Path("~/Library/Caches/branchwise").expanduser()


@pytest.mark.parametrize(
    "module",
    ["envs.web_shop.retrieval", "search.engine", "search.compiled", "agents.language_model", "training.loop", "cli"],
)
def test_nothing_here_starts_jax(module: str) -> None:
    """It would take threads and memory, and Ctrl-C gets lost in its hook of the garbage collector."""
    script = f"import sys, branchwise.{module}; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_jax_can_be_imported_afterwards() -> None:
    pytest.importorskip("jax")
    script = "import branchwise.envs.web_shop.retrieval, jax; print(jax.__name__)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "jax\n"
