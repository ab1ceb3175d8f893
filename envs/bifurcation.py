"""Bifurcation: a chain of choices, few of which matter, in which every value is known exactly.

A controlled task for studies of credit assignment: which steps decide an episode, whether a mistake can be recovered
from and how noisy the verdict is are options, and the exact values of any policy are at hand. With place s = (point, on
the detour or not), turn t and next place s'(s, a), backwards from the last turn,

    Q(t, s, a) = V(t + 1, s'(s, a)),    V^π(t, s) = Σ_a π(a | s) Q^π(t, s, a),    V*(t, s) = max_a Q*(t, s, a),

with V = 1 where the last point is passed and 0 where the episode has failed or no turn is left (finite-horizon dynamic
programming; Puterman, Markov Decision Processes, 1994, chapter 4).

What it does not do: goals that only one split has (the splits differ in noise alone), partial rewards, chance anywhere
but in the verdict.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_options
from .games.wording import command
from .noisy import FLIPPED, STANDS
from .rows import SPLITS
from .shells.gym import SimulatorEnv
from .simulator import CHANCE, TERMINAL, Simulator
from .views import SinglePlayerView

WORDS: Final = ("left", "right", "up", "down", "north", "south", "east", "west")
GOALS: Final = 10_000
MOST_ENTRIES: Final = 20_000_000
"""Of the table of a task's values."""
HARD_POINTS: Final = 2
HABIT: Final = 0.55  # the share of the habitual wrong action
MOST_SKILL: Final = 20.0  # a logit: with it the right one of eight actions has all but 2e-8

Outcome = Literal["", "success", "failure"]
_INVALID: Final = "invalid action"


class BifurcationState(NamedTuple):
    """``point`` counts from 0 and is ``horizon`` once all are passed; ``turn`` is the number of turns used; ``last``
    says what the last action did. ``outcome`` is how the episode really ended, ``verdict`` what is said of it; both are
    empty before, and ``verdict`` alone is where luck has yet to draw it."""

    goal: int
    point: int = 0
    detour: bool = False
    turn: int = 0
    last: str = ""
    outcome: Outcome = ""
    verdict: Outcome = ""


class ValueTable(NamedTuple):
    """Exact values; read-only where they are the optimal ones.

    ``v``: float64 ``[keys, turns + 1, horizon + 1, 2]``, indexed by key, turns used, point, and 0 at the point or 1 on
    its detour; ``v[:, :, horizon, 0]`` is success (1) and ``v[:, :, horizon, 1]`` failure (0). ``q``: float64
    ``[keys, turns, horizon, 2, branching]``, the last axis in the order of ``all_actions``."""

    v: NDArray[np.float64]
    q: NDArray[np.float64]


BifurcationPolicy = Callable[["Bifurcation", BifurcationState], Sequence[float] | NDArray[np.float64]]
"""The probability of each legal action, in their order, in a state that has not ended."""


class Bifurcation(Simulator[BifurcationState]):
    """
    ## Description

    A chain of points, to be passed one after the other. At every point one of a few actions is chosen. At a *critical*
    point one action is right; at the others every action passes. A wrong action is fatal, or it is *recoverable*: it
    leads to a detour beside the point, from which one action leads back to the point, while any other stays there. The
    episode succeeds when the last point is passed in time.

    Each episode has a key, and which actions are right depends on the key. Which points are critical, which actions
    are right and which wrong ones are recoverable is drawn once, from the option `world`.

    A study of credit assignment has here what it needs to judge an estimate: the exact value of every action under the
    best policy (`optimal_values`), under any policy (`policy_values`), and of a whole table (`value_table`).

    ## Action Space

    Text: the first `branching` of `left`, `right`, `up`, `down`, `north`, `south`, `east`, `west`. Case and blanks at
    the ends do not matter. Anything else costs a turn, and the observation says `invalid action`.

    ## Observation Space

    Short lines: the key, the point, `detour` where on one, the turns that are left, what the last action did (`passed`,
    `wrong`, `returned` or `invalid action`); at the end `success` or `failure`. With `hidden` the key is shown in the
    first observation alone.

    ## Rewards

    1 at the end where the verdict is success, else 0.

    ## Starting State

    The first point. `reset(options={"goal": i})` starts goal `i`, 0 to 9,999 in every split, whose key is `i % keys`;
    otherwise the seed draws the goal, uniformly.

    ## Episode End

    With the last point passed (success), a fatal action, or `horizon + slack` turns used (failure). The turns are a
    rule of the task, which observations and values count, so an episode is never truncated.

    With `noise`, in the training split, a chance node follows the end, in which the verdict stands or is flipped. The
    other splits have no noise. `gym.make` draws it inside the last step.

    ## Information

    - `success`: the verdict is success
    - `invalid_action`: whether the last action was none
    - `goal`: the number that `reset` takes
    - `key`: the key of the episode

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `horizon` | `12` | points in the chain |
    | `slack` | `6` | turns beyond one a point |
    | `critical` | `0.5` | share of critical points, rounded to whole ones |
    | `recoverable` | `0.5` | probability that a wrong action leads to a detour: 0 all are fatal, 1 none is |
    | `branching` | `4` | actions, 2 to 8 |
    | `keys` | `4` | keys, 1 to 10,000 |
    | `hidden` | `False` | whether the key is shown in the first observation alone |
    | `noise` | `0.0` | probability, below 0.5, that the verdict is flipped; in the training split alone |
    | `rare` | `0.3` | probability of the right action where the habitual player has a habit |
    | `world` | `0` | seed of the task |
    | `split` | `"train"` | `"train"`, `"validation"` or `"test"`; the task is the same in each |

    The draws of a world are nested: with a larger share `critical` points become critical, and with a larger
    `recoverable` wrong actions become recoverable, that were not; nothing else changes.

    A way back leads to a point that is on the path already. A search of a task with recoverable actions needs
    `revisit=True`: without it, it drops the way back, and detours look fatal in its tree.

    >>> task = Bifurcation(horizon=3, slack=2)
    >>> state = task.reset(seed=0, options={"goal": 1})
    >>> print(task.observation(state))
    key 1
    point 1 of 3
    turns 5
    >>> task.optimal_values(state)
    {'left': 0.0, 'right': 0.0, 'up': 1.0, 'down': 0.0}

    ## Played by rule

    | Name | Plays |
    |---|---|
    | `random` | uniformly |
    | `expert` | the right actions: always succeeds |
    | `habitual` | `habitual_table()`: wrong by habit at two critical points, where the right action is rare |

    ## Version History

    - v0: first version

    ## Source

    Written for branchwise. The form, a chain in which one wrong action loses all, is the combination lock's (Kakade,
    On the Sample Complexity of Reinforcement Learning, 2003).
    """

    goal_count = GOALS

    def __init__(
        self,
        horizon: int = 12,
        slack: int = 6,
        critical: float = 0.5,
        recoverable: float = 0.5,
        branching: int = 4,
        keys: int = 4,
        hidden: bool = False,
        noise: float = 0.0,
        rare: float = 0.3,
        world: int = 0,
        split: Literal["train", "validation", "test"] = "train",
    ) -> None:
        self.horizon = _whole("horizon", horizon, 1)
        self.slack = _whole("slack", slack, 0)
        self.critical = _share("critical", critical)
        self.recoverable = _share("recoverable", recoverable)
        self.branching = _whole("branching", branching, 2, len(WORDS))
        self.keys = _whole("keys", keys, 1, GOALS)
        if not isinstance(hidden, bool):
            raise ValueError(f"hidden={hidden!r}; expected True or False")
        self.hidden = hidden
        self.noise = _share("noise", noise)
        if self.noise >= 0.5:
            raise ValueError(f"noise={noise!r}; expected a probability below 0.5, at which a verdict says nothing")
        self.rare = _share("rare", rare)
        self.world = _whole("world", world, 0)
        if split not in SPLITS:
            raise ValueError(f"split={split!r}; expected one of {', '.join(map(repr, SPLITS))}")
        self.split = split
        self.turns = self.horizon + self.slack
        if (size := self.keys * self.horizon * self.turns * self.branching) > MOST_ENTRIES:
            raise ValueError(
                f"keys={self.keys}, horizon={self.horizon}, slack={self.slack}, branching={self.branching} make tables "
                f"of {size:,} values; the limit is {MOST_ENTRIES:,}: lower one of them"
            )
        self._words = WORDS[: self.branching]
        self._numbers = {word: number for number, word in enumerate(self._words)}
        self._draw_world()
        self.never_repeats = not bool(self.is_recoverable.any())
        self._optimal: ValueTable | None = None
        self._habitual: dict[tuple[int, float, float], NDArray[np.float64]] = {}

    def _draw_world(self) -> None:
        """Draw the task. ``is_critical``: bool ``[horizon]``; ``right``: the number of the right action, int64
        ``[keys, horizon, 2]`` (at the point, on its detour; where the point is not critical, an arbitrary one that the
        habitual player prefers); ``is_recoverable``: bool ``[keys, horizon, branching]``; ``habits``: the wrong action
        of a habit, int64 ``[keys, horizon]``; ``hard_order``: the critical points, the first to be habitual first."""
        rng = np.random.default_rng(self.world)
        keys, horizon, branching = self.keys, self.horizon, self.branching
        order = rng.permutation(horizon)
        self.right = rng.integers(branching, size=(keys, horizon, 2))
        luck = rng.random((keys, horizon, branching))
        self.habits = (self.right[:, :, 0] + rng.integers(1, branching, size=(keys, horizon))) % branching
        self.hard_order = tuple(order[: int(self.critical * horizon + 0.5)].tolist())
        self.is_critical = np.zeros(horizon, np.bool_)
        self.is_critical[list(self.hard_order)] = True
        actions = np.arange(branching)
        is_right = actions == self.right[..., None]  # [keys, horizon, 2, branching]
        self.is_recoverable = self.is_critical[:, None] & ~is_right[:, :, 0] & (luck < self.recoverable)
        # Where an action leads: 2 · point + detour, then success and failure.
        points = 2 * np.arange(horizon)[:, None]
        passes = is_right[:, :, 0] | ~self.is_critical[:, None]
        at_point = np.where(passes, points + 2, np.where(self.is_recoverable, points + 1, 2 * horizon + 1))
        on_detour = np.where(is_right[:, :, 1], points, points + 1)
        places = np.stack([at_point, on_detour], axis=2)
        self._next = places.reshape(keys, 2 * horizon, branching).tolist()
        self._gather = places + 2 * (horizon + 1) * np.arange(keys)[:, None, None, None]

    # The rules.

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> BifurcationState:
        """``options={"goal": i}``: goal ``i``; otherwise ``seed`` draws one, uniformly. A seed names neighbouring goals
        in the three splits, so that with three keys or more they begin with different ones. Raises ValueError for a
        goal that is none."""
        goal = checked_options(self, options, "goal").get("goal")
        if goal is None:
            drawn = np.random.default_rng(operator.index(seed) & ((1 << 64) - 1)).integers(GOALS)
            return BifurcationState((int(drawn) + SPLITS.index(self.split)) % GOALS)
        try:
            goal = operator.index(goal)
        except TypeError:
            raise ValueError(f"goal {goal!r}; expected a whole number from 0 to {GOALS - 1}") from None
        if not 0 <= goal < GOALS:
            raise ValueError(f"goal {goal} is not in split {self.split!r}, whose goals are 0 to {GOALS - 1}")
        return BifurcationState(goal)

    def current_player(self, state: BifurcationState) -> int:
        if state.verdict:
            return TERMINAL
        return CHANCE if state.outcome else 0

    def legal_actions(self, state: BifurcationState) -> Sequence[str]:
        return () if state.outcome else self._words

    def all_actions(self) -> Sequence[str]:
        return self._words

    def chance_outcomes(self, state: BifurcationState) -> Sequence[tuple[str, float]]:
        """After the end, in the training split of a task with noise: whether the verdict is the truth."""
        return ((STANDS, 1.0 - self.noise), (FLIPPED, self.noise))

    def step(self, state: BifurcationState, action: str) -> BifurcationState:
        """The state after ``action``; a finished episode stays as it is."""
        goal, point, detour, turn, _, outcome, verdict = state
        if verdict:
            return state
        if outcome:
            if action not in (STANDS, FLIPPED):
                return state._replace(last=_INVALID)
            return state._replace(last="", verdict=outcome if action == STANDS else _opposite(outcome))
        number = self._numbers.get(action)
        if number is None:
            number = self._numbers.get(command(action))
        turn += 1
        if number is None:
            last = _INVALID
        else:
            place = self._next[goal % self.keys][2 * point + detour][number]
            if place == 2 * self.horizon + 1:
                last, outcome = "wrong", "failure"
            else:
                last = "passed" if place // 2 > point else "wrong" if place % 2 else "returned"
                point, detour = place // 2, bool(place % 2)
                outcome = "success" if point == self.horizon else ""
        if turn == self.turns and not outcome:
            outcome = "failure"
        return BifurcationState(goal, point, detour, turn, last, outcome, "" if self.is_noisy else outcome)

    @property
    def is_noisy(self) -> bool:
        """Whether luck draws the verdict."""
        return self.noise > 0.0 and self.split == "train"

    def rewards(self, state: BifurcationState) -> tuple[float, ...]:
        return (float(state.verdict == "success"),)

    def info(self, state: BifurcationState) -> dict[str, Any]:
        return {
            "success": state.verdict == "success",
            "invalid_action": state.last == _INVALID,
            "goal": state.goal,
            "key": state.goal % self.keys,
        }

    def position(self, state: BifurcationState) -> BifurcationState:
        """The state without turns used and what the last action did."""
        return state._replace(turn=0, last="")

    # What is read.

    def observation(self, state: BifurcationState, player: int = 0) -> str:
        goal, point, detour, turn, last, outcome, verdict = state
        lines = [f"point {min(point + 1, self.horizon)} of {self.horizon}"]
        if not self.hidden or turn == 0:
            lines.insert(0, f"key {goal % self.keys}")
        if detour:
            lines.append("detour")
        lines.append(f"turns {self.turns - turn}")
        if last:
            lines.append(last)
        if outcome:
            lines.append(verdict or "verdict open")
        return "\n".join(lines)

    def information_state(self, state: BifurcationState, player: int) -> str:
        """The observation with the key, which the player has read even where it is hidden later."""
        text = self.observation(state, player)
        return text if text.startswith("key") else f"key {state.goal % self.keys}\n{text}"

    def lexicon(self) -> list[str]:
        """Every word that an observation or an action can contain, but no numbers; sorted."""
        said = f"key point of detour turns passed wrong returned {_INVALID} success failure verdict open"
        return sorted({*said.split(), *self._words})

    # Exact values.

    def table_index(self, state: BifurcationState) -> tuple[int, int, int, int]:
        """``(key, point, detour, turn)`` of a state. A success is at ``(horizon, 0)``, a failure at ``(horizon, 1)``,
        whatever the verdict: ``v[key, turn, point, detour]`` of a :class:`ValueTable` is its value."""
        key = state.goal % self.keys
        if state.outcome:
            return key, self.horizon, int(state.outcome == "failure"), state.turn
        return key, state.point, int(state.detour), state.turn

    def optimal_values(self, state: BifurcationState) -> dict[str, float]:
        """Q*(s, a) of each legal action: 1 where success can still be reached after it, else 0. Without the noise of
        the verdict; empty after the end."""
        if state.outcome:
            return {}
        key, point, detour, turn = self.table_index(state)
        return dict(zip(self._words, self.optimal_table().q[key, turn, point, detour].tolist(), strict=True))

    def optimal_table(self) -> ValueTable:
        """V* and Q* of all states; kept, read-only."""
        if self._optimal is None:
            self._optimal = self._backward(lambda q: q.max(axis=-1))
            for array in self._optimal:
                array.setflags(write=False)
        return self._optimal

    def value_table(self, probabilities: NDArray[np.float64]) -> ValueTable:
        """V^π and Q^π of the policy that takes each action with ``probabilities``, float64 ``[keys, horizon, 2,
        branching]`` (2: at the point or on its detour), whatever the turn. Without the noise of the verdict; with
        ``hidden`` too, a row belongs to the true key. Raises ValueError for another shape, and where a row is no
        distribution."""
        policy = np.asarray(probabilities, np.float64)
        expected = (self.keys, self.horizon, 2, self.branching)
        if policy.shape != expected:
            raise ValueError(
                f"probabilities of shape {policy.shape}; expected [keys, horizon, 2, branching] = {expected}"
            )
        if not _are_distributions(policy):
            raise ValueError("probabilities: expected rows of numbers from 0 on with sum 1; divide each by its sum")
        return self._backward(lambda q: np.einsum("kpda,kpda->kpd", policy, q))

    def _backward(self, backup: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> ValueTable:
        """The values, turn by turn from the last. ``backup`` gives V, ``[keys, horizon, 2]``, of Q, ``[keys, horizon,
        2, branching]``."""
        v = np.zeros((self.turns + 1, self.keys, self.horizon + 1, 2))
        v[:, :, self.horizon, 0] = 1.0
        q = np.empty((self.turns, *self._gather.shape))
        for turn in range(self.turns - 1, -1, -1):
            v[turn + 1].take(self._gather, out=q[turn])
            v[turn, :, : self.horizon] = backup(q[turn])
        return ValueTable(v.swapaxes(0, 1), q.swapaxes(0, 1))

    def policy_values(self, state: BifurcationState, policy: BifurcationPolicy) -> dict[str, float]:
        """Q^π(s, a) of each legal action: the probability of a success, without the noise of the verdict, of this
        action and of ``policy`` from then on; empty after the end. ``policy`` is asked once for every state that can be
        reached, so it may depend on the turn and on what the last action did. Raises ValueError where it gives no
        distribution over the actions."""
        known = self._policy_values(state, policy)
        return {action: known[self.step(state, action)] for action in self.legal_actions(state)}

    def policy_value(self, state: BifurcationState, policy: BifurcationPolicy) -> float:
        """V^π(s): :meth:`policy_values` weighed by ``policy``; after the end 1 for a success and 0 for a failure."""
        return self._policy_values(state, policy)[state]

    def _policy_values(self, state: BifurcationState, policy: BifurcationPolicy) -> dict[BifurcationState, float]:
        """V^π of all states from ``state`` on, turn by turn and back."""
        weights: dict[BifurcationState, list[float]] = {}
        layers = [[state]]
        while layers[-1]:
            found: dict[BifurcationState, None] = {}
            for here in layers[-1]:
                if not here.outcome:
                    weights[here] = self._distribution(policy(self, here))
                    found.update(dict.fromkeys(self.step(here, word) for word in self._words))
            layers.append(list(found))
        known: dict[BifurcationState, float] = {}
        for layer in reversed(layers):
            for here in layer:
                if here.outcome:
                    known[here] = float(here.outcome == "success")
                else:
                    after = (known[self.step(here, word)] for word in self._words)
                    known[here] = sum(p * value for p, value in zip(weights[here], after, strict=True))
        return known

    def _distribution(self, given: Sequence[float] | NDArray[np.float64]) -> list[float]:
        row = np.asarray(given, np.float64)
        if row.shape != (self.branching,) or not _are_distributions(row):
            raise ValueError(
                f"the policy gave {given!r:.80}; expected {self.branching} numbers from 0 on with sum 1, one an action"
            )
        return [float(p) for p in row]

    def habitual_table(
        self, hard: int = HARD_POINTS, success: float = 0.25, rare: float | None = None
    ) -> NDArray[np.float64]:
        """A base policy with habits: probabilities, float64 ``[keys, horizon, 2, branching]``, kept and read-only.

        At ``hard`` of the critical points, the same for all keys, the right action has probability ``rare`` (default:
        the option), one wrong action that the world draws 0.55 (where that leaves too much or is too much, what the
        right action leaves), and the others share the rest equally. Everywhere else, detours included, it is a softmax
        of a logit ``skill`` on the right action and 0 on the others; where no action is wrong, on the one that the
        world draws.

        ``skill``, from 0 to 20, is found by bisection such that the exact success of the first state, mean over keys,
        is ``success``. It grows with ``skill``; where none reaches ``success``, the nearest end of the range is taken.
        With p = ``rare`` and fatal mistakes no more than p^``hard`` can be reached, so look at
        ``value_table(table).v[:, 0, 0, 0].mean()``.

        Raises ValueError where there are fewer than ``hard`` critical points, and for values that are no shares.
        """
        hard = _whole("hard", hard, 0)
        if hard > len(self.hard_order):
            raise ValueError(
                f"hard={hard}; expected at most {len(self.hard_order)}, the critical points of this task; raise "
                "critical or horizon"
            )
        rare = _share("rare", self.rare if rare is None else rare)
        success = _share("success", success)
        if (hard, success, rare) not in self._habitual:
            table = self._bisected(list(self.hard_order[:hard]), success, rare)
            table.setflags(write=False)
            self._habitual[hard, success, rare] = table
        return self._habitual[hard, success, rare]

    def _bisected(self, hard: list[int], success: float, rare: float) -> NDArray[np.float64]:
        is_right = np.arange(self.branching) == self.right[..., None]
        habitual = self._habit_rows(is_right[:, :, 0], rare)[:, hard]

        def table(skill: float) -> NDArray[np.float64]:
            odds = np.where(is_right, 1.0, np.exp(-skill))
            odds /= odds.sum(axis=-1, keepdims=True)
            odds[:, hard, 0] = habitual
            return odds

        low, high = 0.0, MOST_SKILL
        for _ in range(60):
            middle = (low + high) / 2
            if self.value_table(table(middle)).v[:, 0, 0, 0].mean() < success:
                low = middle
            else:
                high = middle
        return table(high)

    def _habit_rows(self, is_right: NDArray[np.bool_], rare: float) -> NDArray[np.float64]:
        """A habit at every point, float64 ``[keys, horizon, branching]``."""
        others = self.branching - 2
        habit = min(HABIT, 1.0 - rare) if others else 1.0 - rare
        rows = np.full(is_right.shape, (1.0 - rare - habit) / max(others, 1))
        rows[is_right] = rare
        np.put_along_axis(rows, self.habits[..., None], habit, axis=-1)
        return rows


class BifurcationEnv(SimulatorEnv[Any]):
    __doc__ = Bifurcation.__doc__

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        rules = Bifurcation(**options)
        super().__init__(SinglePlayerView(rules) if rules.is_noisy else rules, render_mode=render_mode)


# Who plays it by rule.


def random_player(simulator: Any, state: BifurcationState, rng: np.random.Generator) -> str:
    """Uniform over the legal actions."""
    legal = simulator.legal_actions(state)
    return legal[int(rng.integers(len(legal)))]


def expert(simulator: Any, state: BifurcationState, rng: np.random.Generator) -> str:
    """The right action; the one that the world draws where every action passes. Always succeeds."""
    key, point, detour, _ = simulator.table_index(state)
    return simulator.legal_actions(state)[simulator.right[key, point, detour]]


def habitual(simulator: Any, state: BifurcationState, rng: np.random.Generator) -> str:
    """Draws from ``habitual_table()``; in tasks with fewer than two critical points, with habits at all of them."""
    key, point, detour, _ = simulator.table_index(state)
    table = simulator.habitual_table(min(HARD_POINTS, len(simulator.hard_order)))
    return simulator.legal_actions(state)[int(rng.choice(simulator.branching, p=table[key, point, detour]))]


def _opposite(outcome: str) -> Outcome:
    return "failure" if outcome == "success" else "success"


def _are_distributions(rows: NDArray[np.float64]) -> bool:
    return bool((rows >= 0.0).all() and (np.abs(rows.sum(axis=-1) - 1.0) < 1e-6).all())


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """``value`` as an int; ``ValueError`` where it is none from ``least`` to ``most``."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r}; expected a whole number {bounds}")
    return int(value)


def _share(name: str, value: Any) -> float:
    """``value`` as a float; ``ValueError`` where it is no number from 0 to 1."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value!r}; expected a number from 0 to 1")
    return float(value)
