"""From turns to token rows, with exact masks and a count of whatever was lost on the way.

The log-probability of an agent's behaviour is a sum over its actions, each after what the agent was shown then,

    log π(τ) = Σ_t log π(a_t | H(h_t))        (Agent Q, arXiv:2408.07199, Eq. 6; M-DPO, arXiv:2409.02392)

with ``H`` the history policy. Where ``H`` forgets (past actions and the last observation only), no single token
sequence holds that sum; so a side of a preference row is a tuple of :class:`Segment`, each a prompt, what follows it,
and a mask. Where an action's prompt goes on exactly where the segment before it ends (``all_turns``), both become one
segment, whose observation tokens have mask 0: read, never learned. Steps have one segment, trajectories as many as
``H`` needs.

Masks come from the turns, never from scanning token ids. Prompts are cut to ``max_tokens`` by
:func:`~branchwise.agents.prompting.prompt_ids` as the agent's own were, so logged log-probabilities stay comparable;
and, as in scoring, further where a model's ``positions`` leave no room for the longest answer of the row. Completions
are never cut: a row whose answer alone fills all positions is dropped and counted. What this file does not do: padding
and batching, which the trainers own.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..agents.prompting import History, all_turns, completion_ids, history_key, history_named, prompt_ids
from ..envs.play.transcript import Transcript, Turn
from ..search.extraction import PreferencePair

Step = tuple[Transcript, str]
"""What was shown, and what the agent answered."""


@dataclass(frozen=True, slots=True)
class Segment:
    """``prompt_ids`` and the ``completion_ids`` after it; ``mask`` (0 or 1, one a completion token) says what is
    learned.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: tuple[int, ...]

    @property
    def input_ids(self) -> tuple[int, ...]:
        """Prompt and completion."""
        return self.prompt_ids + self.completion_ids

    @property
    def input_mask(self) -> tuple[int, ...]:
        """``mask`` over :attr:`input_ids`."""
        return (0,) * len(self.prompt_ids) + self.mask


Side = tuple[Segment, ...]


def side_length(side: Side) -> int:
    """Tokens of the longest segment; 0 of an empty side."""
    return max((len(segment.prompt_ids) + len(segment.completion_ids) for segment in side), default=0)


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A pair in tokens. ``rejected`` is empty for an anchor. ``ref_chosen_logp`` and ``ref_rejected_logp`` are the
    reference's log-probabilities, summed over the learned tokens of a side, or None where nobody logged them.
    ``chosen_q`` and the rest are the pair's; ``source`` is its number in the list that it came from."""

    chosen: Side
    rejected: Side
    ref_chosen_logp: float | None = None
    ref_rejected_logp: float | None = None
    weight: float = 1.0
    margin: float = 0.0
    label_smoothing: float = 0.0
    chosen_q: float = 0.0
    rejected_q: float = 0.0
    chosen_visits: int = 0
    rejected_visits: int = 0
    source: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest segment."""
        return side_length(self.chosen + self.rejected)


@dataclass(frozen=True, slots=True)
class TrajectoryRow:
    """What an agent did, in tokens; ``source`` is its number in the list that it came from."""

    side: Side
    source: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest segment."""
        return side_length(self.side)


class NothingToTrain(ValueError):  # noqa: N818
    """None of what was given became a row that the model can be trained on."""


@dataclass(slots=True)
class RowCounts:
    """What became of the input. ``truncated_prompts`` counts prompts cut to ``max_tokens``, ``dropped_turns`` the turns
    they lost, ``cut_observations`` those whose last observation was itself cut; ``dropped`` the inputs that gave no
    row, by reason, and the inputs that another one repeats.
    """

    rows: int = 0
    learned_tokens: int = 0
    truncated_prompts: int = 0
    dropped_turns: int = 0
    cut_observations: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def sft_rows(
    items: Sequence[Transcript | Step],
    tokenizer: Any,
    history: str | History = all_turns,
    max_tokens: int | None = None,
    weights: Sequence[float] | None = None,
    positions: int | None = None,
) -> tuple[list[dict[str, Any]], RowCounts]:
    """Rows ``{"input_ids", "mask", "weight"}`` for :func:`~branchwise.training.supervised.train_supervised`.

    An item is a transcript, of which every agent turn is learned, or a step ``(transcript, answer)``, of which the
    answer alone is. ``max_tokens`` bounds the prompts, ``positions`` (the model's) prompt and answer together.
    ``weights`` has one number an item. A transcript gives one row a segment. Items without an agent turn, and those
    that the positions have no room for, are dropped and counted.
    """
    if weights is not None and len(weights) != len(items):
        raise ValueError(f"{len(weights)} weights for {len(items)} items; one an item is needed")
    trajectories, counts = trajectory_rows(items, tokenizer, history, max_tokens, positions)
    rows = [
        {
            "input_ids": segment.input_ids,
            "mask": segment.input_mask,
            "weight": 1.0 if weights is None else float(weights[row.source]),
        }
        for row in trajectories
        for segment in row.side
    ]
    counts.rows = len(rows)
    return rows, counts


def trajectory_rows(
    items: Sequence[Transcript | Step],
    tokenizer: Any,
    history: str | History = all_turns,
    max_tokens: int | None = None,
    positions: int | None = None,
) -> tuple[list[TrajectoryRow], RowCounts]:
    """One row an item, in their order; arguments and what is dropped as in :func:`sft_rows`."""
    rows: list[TrajectoryRow] = []
    counts = RowCounts()
    lost: Counter[str] = Counter()
    too_long: list[int] = []
    for index, item in enumerate(items):
        steps = list(_steps(item))
        if (limit := _room(steps, tokenizer, max_tokens, positions)) == 0:
            too_long.append(index)
            continue
        side = side_of(steps, tokenizer, history, limit, lost)
        if not side:
            counts.dropped["no agent turn"] += 1
            continue
        rows.append(TrajectoryRow(side, index))
        counts.learned_tokens += sum(sum(segment.mask) for segment in side)
    _count_too_long(counts, "item", too_long, positions)
    return rows, _finished(counts, len(rows), lost)


def preference_rows(
    pairs: Sequence[PreferencePair],
    tokenizer: Any,
    history: str | History = all_turns,
    max_tokens: int | None = None,
    positions: int | None = None,
) -> tuple[list[PreferenceRow], RowCounts]:
    """Token rows of ``pairs``, in their order; ``max_tokens`` bounds prompts, ``positions`` (the model's) prompt and
    answer together, with one limit for both sides of a pair.

    Pairs whose two sides are the same tokens teach nothing and are dropped and counted, as are pairs without an agent
    turn in ``chosen``, or in a ``rejected`` that is not empty, and pairs that the positions have no room for.
    """
    rows: list[PreferenceRow] = []
    counts = RowCounts()
    lost: Counter[str] = Counter()
    too_long: list[int] = []
    for index, pair in enumerate(pairs):
        better, worse = (list(steps_after(pair.prompt, side)) for side in (pair.chosen, pair.rejected))
        if (limit := _room(better + worse, tokenizer, max_tokens, positions)) == 0:
            too_long.append(index)
            continue
        chosen = side_of(better, tokenizer, history, limit, lost)
        rejected = side_of(worse, tokenizer, history, limit, lost)
        if not chosen or (pair.rejected and not rejected):
            counts.dropped["no agent turn"] += 1
            continue
        if chosen == rejected:
            counts.dropped["same tokens on both sides"] += 1
            continue
        counts.learned_tokens += sum(sum(segment.mask) for segment in chosen + rejected)
        rows.append(
            PreferenceRow(
                chosen,
                rejected,
                pair.ref_chosen_logp,
                pair.ref_rejected_logp,
                pair.weight,
                pair.margin,
                pair.label_smoothing,
                pair.chosen_q,
                pair.rejected_q,
                pair.chosen_visits,
                pair.rejected_visits,
                index,
            )
        )
    _count_too_long(counts, "pair", too_long, positions)
    return rows, _finished(counts, len(rows), lost)


def without_repeats(pairs: Sequence[PreferencePair], history: str | History = all_turns) -> list[PreferencePair]:
    """The first of the pairs that train the same: what ``history`` shows of each step, and the answers of both sides.
    Tokens that were logged, turns that are not shown and where a pair comes from make no difference."""
    kept: dict[Hashable, PreferencePair] = {}
    for pair in pairs:
        sides = [steps_after(pair.prompt, side) for side in (pair.chosen, pair.rejected)]
        kept.setdefault(tuple(tuple(step_key(step, history) for step in side) for side in sides), pair)
    return list(kept.values())


def step_key(step: Step, history: str | History = all_turns) -> Hashable:
    """What tells two steps apart in training: the texts that ``history`` shows, and the answer."""
    transcript, answer = step
    return history_key(history_named(history)(transcript)), answer


def steps_after(prompt: Transcript, turns: Sequence[Turn]) -> Iterator[Step]:
    """The agent's answers among ``turns``, each with all that came before it, ``prompt`` first."""
    for place, turn in enumerate(turns):
        if turn.is_agent:
            yield (*prompt, *turns[:place]), turn.text


def side_of(
    steps: Iterable[Step], tokenizer: Any, history: str | History, max_tokens: int | None, lost: Counter[str]
) -> Side:
    """The segments of consecutive steps. ``lost`` gets the counts of
    :func:`~branchwise.agents.prompting.prompt_ids`.
    """
    segments: list[Segment] = []
    for transcript, text in steps:
        prompt = tuple(prompt_ids(tokenizer, transcript, history, max_tokens, lost))
        answer = tuple(completion_ids(tokenizer, text))
        learned = (1,) * len(answer)
        if segments and _continues(prompt, segments[-1].input_ids):
            before = segments.pop()
            between = prompt[len(before.input_ids) :]
            segments.append(
                Segment(
                    before.prompt_ids,
                    before.completion_ids + between + answer,
                    before.mask + (0,) * len(between) + learned,
                )
            )
        else:
            segments.append(Segment(prompt, answer, learned))
    return tuple(segments)


def _continues(prompt: tuple[int, ...], ids: tuple[int, ...]) -> bool:
    return len(prompt) > len(ids) and prompt[: len(ids)] == ids


def _room(steps: Sequence[Step], tokenizer: Any, max_tokens: int | None, positions: int | None) -> int | None:
    """The limit of the prompts' tokens that leaves room for the longest answer; 0 where that alone is too long."""
    if positions is None:
        return max_tokens
    room = max(0, positions - max((len(completion_ids(tokenizer, answer)) for _, answer in steps), default=0))
    return room if max_tokens is None else min(room, max_tokens)


def _count_too_long(counts: RowCounts, what: str, too_long: Sequence[int], positions: int | None) -> None:
    if too_long:
        counts.dropped[f"longer than the model's {positions} positions (first: {what} {too_long[0]})"] = len(too_long)


def _steps(item: Transcript | Step) -> Iterator[Step]:
    if len(item) == 2 and isinstance(item[1], str):
        return iter([item])  # type: ignore[list-item]
    return steps_after((), item)  # type: ignore[arg-type]


def _finished(counts: RowCounts, rows: int, lost: Counter[str]) -> RowCounts:
    counts.rows = rows
    counts.truncated_prompts = lost["truncated_prompts"]
    counts.dropped_turns = lost["dropped_turns"]
    counts.cut_observations = lost["cut_observations"]
    return counts
