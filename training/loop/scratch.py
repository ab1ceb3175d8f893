"""A base made from scratch for any environment: a small model that is taught to read and shown how others play.

*Demonstrations* come from players by rule, one of whom plays each episode, drawn by its share: a mixture of a good one
and of one with systematic habits gives a base that is mediocre through what it was shown. Or they are read from a file
(``search.records.load_demonstrations``), whoever played them. *Lessons* come first where
the environment has some: pages followed by questions, with the loss on the answers. A model that cannot read learns
nothing from search; the gate measures answers on pages of the validation split.

The tokenizer knows the environment's own words and phrases (``lexicon()``, ``phrases()``) and all words that the
demonstrations and lessons hold; others are spelled.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.envs.registration import load_env_creator

from ...agents.forward import positions_of
from ...agents.language_model import LanguageModel
from ...agents.small_model import make_model, make_tokenizer
from ...envs.opponents import draw_from, named_opponent
from ...envs.play.players import ScriptedAgent
from ...envs.play.playing import Playing, play
from ...envs.play.task import FIRST_SEED, TaskSource, start
from ...envs.play.transcript import Transcript
from ...envs.simulator import Simulator
from ...search.records import load_demonstrations
from ..rows import sft_rows
from ..supervised import SupervisedSettings, train_supervised
from .config import BaseSettings

Tell = Callable[[float, float, str], None]
CHECKED_LESSONS = 200


def from_scratch(
    source: TaskSource, base: BaseSettings, history: str, seed: int, rng: np.random.Generator, tell: Tell
) -> tuple[LanguageModel, dict[str, Any]]:
    """The model, and figures of how it came about. Raises ``RuntimeError`` where it does not learn to read."""
    worlds = [
        source.simulator("train", **({source.row.worlds: i} if source.row.worlds else {})) for i in range(base.worlds)
    ]
    lessons: Any = load_env_creator(source.row.lessons) if base.lessons else None
    first = (
        [lesson for world in worlds for lesson in lessons(world, base.lessons // len(worlds), rng)] if lessons else []
    )
    if base.demonstrations_file:
        shown = load_demonstrations(base.demonstrations_file)
    else:
        shown = [
            episode
            for world in worlds
            for episode in demonstrations(source, world, base.demonstrators, base.demonstrations // len(worlds), rng)
        ]
    tokenizer = make_tokenizer(words_of(worlds[0], (*first, *shown)))
    model = make_model(tokenizer, width=base.width, layers=base.layers, heads=base.heads, seed=seed)
    made: dict[str, Any] = {}
    if lessons:
        validation = source.simulator("validation")
        check = lessons(validation, CHECKED_LESSONS, np.random.default_rng(seed))

        def taught() -> Iterator[Sequence[Transcript]]:
            yield first
            while True:
                yield [lesson for world in worlds for lesson in lessons(world, base.lessons // len(worlds), rng)]

        made |= _taught_to_read(model, tokenizer, taught(), check, base, seed, tell)
    rows, counts = sft_rows(shown, tokenizer, history, positions=positions_of(model))
    if not rows:
        raise RuntimeError(f"none of the {len(shown)} demonstrations can be learned from: {dict(counts.dropped)}")
    _supervise(model, rows, base.cloning, seed, "cloning", tell)
    made["demonstrations"] = len(shown)
    if dropped := sum(counts.dropped.values()):
        made["demonstrations_dropped"] = dropped
    longest = max(map(len, tokenizer(sorted(_actions(shown)))["input_ids"]))
    return LanguageModel(model, tokenizer, history=history, max_new_tokens=longest + 8), made


def demonstrations(
    source: TaskSource,
    simulator: Simulator[Any],
    shares: Mapping[str, float],
    count: int,
    rng: np.random.Generator,
) -> list[Transcript]:
    """``count`` episodes of the training split in ``simulator``, each by one of the players named in ``shares``, drawn
    by its share (of their sum): names of the row, or ``module:name``."""
    named = dict(source.row.opponents or source.row.solvers)
    total = sum(shares.values())
    players = [(ScriptedAgent(named_opponent(name, named), name), share / total) for name, share in shares.items()]
    seeds = rng.integers(FIRST_SEED["validation"], size=count)
    tasks = source.sampled_tasks(simulator, "train", seeds.tolist())
    episodes, drawn = [], []
    for number, (task, own) in enumerate(zip(tasks, rng.spawn(count), strict=True)):
        root = start(simulator, task)
        drawn.append(draw_from(players, rng))
        episodes.append(Playing(simulator, root.state, own, root.transcript, number))

    def decide(running: Sequence[Playing]) -> list[str]:
        return [drawn[each.number].choose(each.simulator, each.state, each.rng) for each in running]

    for _ in play(episodes, decide):
        pass
    return [(episode.transcripts or {})[0] for episode in episodes]


def words_of(simulator: Simulator[Any], transcripts: Sequence[Transcript]) -> list[str]:
    """The words for a tokenizer: the environment's own words and phrases, and the words that were said."""
    pieces = re.compile(r"[^\W\d_]+")
    said = {text for transcript in transcripts for text in (turn.text for turn in transcript)}
    words = {word for text in said for word in pieces.findall(text.lower())}
    for name in ("lexicon", "phrases"):
        words.update(getattr(simulator, name, tuple)())
    return sorted(words)


def _actions(transcripts: Sequence[Transcript]) -> set[str]:
    return {turn.text for transcript in transcripts for turn in transcript if turn.is_agent}


def _taught_to_read(
    model: Any, tokenizer: Any, lessons: Iterator[Sequence[Transcript]], check: Sequence[Transcript],
    base: BaseSettings, seed: int, tell: Tell,
) -> dict[str, Any]:  # fmt: skip
    accuracy = 0.0
    for number in range(base.reading_passes):
        rows, _ = sft_rows(next(lessons), tokenizer, positions=positions_of(model))
        _supervise(model, rows, base.reading, seed + number, f"reading, pass {number + 1}", tell)
        accuracy = reading_accuracy(model, tokenizer, check)
        if accuracy >= base.reading_gate:
            return {"reading_accuracy": accuracy, "reading_passes": number + 1}
    raise RuntimeError(
        f"the model answers {accuracy:.3f} of the questions on unseen pages after {base.reading_passes} passes; "
        f"base.reading_gate asks for {base.reading_gate}. A model that cannot read learns nothing from search: give "
        "more base.lessons or a wider model"
    )


def _supervise(
    model: Any, rows: list[dict[str, Any]], settings: SupervisedSettings, seed: int, what: str, tell: Tell
) -> None:
    steps = len(rows) * settings.epochs / settings.batch_size
    train_supervised(
        model, rows, settings, seed, lambda row: tell(row["step"], steps, f"{what}, loss {row['loss']:.3f}")
    )


def reading_accuracy(model: Any, tokenizer: Any, lessons: Sequence[Transcript]) -> float:
    """The share of answers of which the model puts every token first, given the page and the question."""
    right = []
    rows, _ = sft_rows(lessons, tokenizer)
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            guesses = model(input_ids=ids, use_cache=False).logits[0, :-1].argmax(-1)
            hits = (guesses == ids[0, 1:]).numpy()
            mask = np.asarray(row["mask"][1:], dtype=bool)
            starts = np.flatnonzero(mask & ~np.concatenate(([False], mask[:-1])))
            for first in starts:
                end = first + int(np.argmin(np.append(mask[first:], False)))
                right.append(bool(hits[first:end].all()))
    return float(np.mean(right))
