"""Toy simulators of the tests of search, and policies and evaluators that know them."""

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from random_numbers import digest, uniform

from branchwise.envs.games.board import BoardState
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root
from branchwise.search.evaluation import Leaf


class Path(NamedTuple):
    seed: int
    actions: tuple[str, ...]


class RandomTree(Simulator[Path]):
    """A tree of random shape: each state has 1 to 4 actions, ends with probability 0.2 or at depth 5, and pays at
    random."""

    players = 1

    def __init__(self, depth: int = 5, rewards: bool = True) -> None:
        self.depth = depth
        self.each_step_pays = rewards

    def reset(self, seed: int, options: Any = None) -> Path:
        return Path(seed, ())

    def current_player(self, state: Path) -> int:
        depth = len(state.actions)
        ends = depth >= self.depth or (depth > 1 and uniform("end", state) < 0.2)
        return TERMINAL if ends else 0

    def observation(self, state: Path, player: int = 0) -> str:
        return f"at {'/'.join(state.actions)}"

    def legal_actions(self, state: Path) -> list[str]:
        return [f"a{i}" for i in range(1 + digest("width", state) % 4)]

    def step(self, state: Path, action: str) -> Path:
        return Path(state.seed, (*state.actions, action))

    def rewards(self, state: Path) -> tuple[float, ...]:
        if self.current_player(state) == TERMINAL:
            return (float(uniform("pay", state) < 0.4),)
        return (0.125 * (digest("small", state) % 2) if self.each_step_pays and state.actions else 0.0,)

    def info(self, state: Path) -> dict[str, Any]:
        won = self.current_player(state) == TERMINAL and self.rewards(state)[0] == 1.0
        return {"success": won, "invalid_action": False}


class HashPolicy:
    """Log-probabilities that depend on the transcript and the action alone."""

    def __init__(self) -> None:
        self.calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [
            np.array([-3.0 * uniform("logp", transcript[-1].text, action) for action in actions])
            for transcript, actions in zip(transcripts, candidates, strict=True)
        ]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        self.calls += len(transcripts)
        return [
            [Proposal(f"say {digest(transcript[-1].text, i) % 4}", -1.0 - i) for i in range(n)]
            for transcript in transcripts
        ]


def judged(simulator: Simulator[Any], state: Path, transcript: Transcript) -> float:
    return uniform("value", state)


def roots(seeds: Sequence[int], simulator: RandomTree) -> list[Root]:
    states = [simulator.reset(seed) for seed in seeds]
    return [
        Root(
            state,
            (observed(f"seed {state.seed} {simulator.observation(state)}"),),
            {"env_id": "toy", "seed": state.seed},
        )
        for state in states
    ]


class SamplingPolicy(HashPolicy):
    """Draws its proposals from the generator of each transcript."""

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        self.calls += len(transcripts)
        return [[Proposal(f"say {rng.integers(5)}", -1.0) for _ in range(n)] for rng in rngs]


class FreeText(RandomTree):
    """Any text may be an answer; ``say 0`` makes no sense."""

    def legal_actions(self, state: Path) -> None:  # type: ignore[override]
        return None

    def info(self, state: Path) -> dict[str, Any]:
        return {**super().info(state), "invalid_action": state.actions[-1:] == ("say 0",)}


class Line(NamedTuple):
    place: int
    clock: int


class Corridor(Simulator[Line]):
    """Places 0 to 3 in a row; place 3 ends the episode with reward 1, the twelfth step without."""

    def reset(self, seed: int, options: Any = None) -> Line:
        return Line(0, 0)

    def current_player(self, state: Line) -> int:
        return TERMINAL if state.place == 3 or state.clock >= 12 else 0

    def observation(self, state: Line, player: int = 0) -> str:
        return f"place {state.place}, {state.clock} steps"

    def legal_actions(self, state: Line) -> list[str]:
        return ["left", "right"]

    def step(self, state: Line, action: str) -> Line:
        return Line(max(0, state.place - 1) if action == "left" else state.place + 1, state.clock + 1)

    def rewards(self, state: Line) -> tuple[float, ...]:
        return (float(state.place == 3),)

    def info(self, state: Line) -> dict[str, Any]:
        return {"success": state.place == 3, "invalid_action": False}

    def position(self, state: Line) -> int:
        return state.place


def corridor_root() -> Root:
    return Root(Line(0, 0), (observed("place 0, 0 steps"),), {"env_id": "corridor", "seed": 0})


class Even(HashPolicy):
    def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [np.zeros(len(actions)) for actions in candidates]


def zero(simulator: Any, state: Any, transcript: Any) -> float:
    return 0.0


class Fork(RandomTree):
    """Two actions everywhere, to depth 6."""

    def current_player(self, state: Path) -> int:
        return TERMINAL if len(state.actions) == 6 else 0

    def legal_actions(self, state: Path) -> list[str]:
        return ["a0", "a1"]

    def rewards(self, state: Path) -> tuple[float, ...]:
        return (0.0,)


class Game(NamedTuple):
    seed: int
    moves: tuple[str, ...]


class RandomGame(Simulator[Game]):
    """A random tree: 1 to 4 actions a state, a third of the states chance where there is chance, the mover at random,
    an end at depth 5 or earlier."""

    def __init__(self, players: int, zero_sum: bool, chance: bool) -> None:
        self.players, self.zero_sum, self.chance = players, zero_sum, chance

    def reset(self, seed: int, options: Any = None) -> Game:
        return Game(seed, ())

    def current_player(self, state: Game) -> int:
        depth = len(state.moves)
        if depth >= 5 or (depth > 1 and uniform("end", state) < 0.2):
            return TERMINAL
        if self.chance and depth and uniform("chance", state) < 0.33:
            return CHANCE
        return digest("mover", state) % self.players

    def chance_outcomes(self, state: Game) -> list[tuple[str, float]]:
        weights = [1 + digest("weight", state, i) % 3 for i in range(2 + digest("outcomes", state) % 2)]
        return [(f"o{i}", weight / sum(weights)) for i, weight in enumerate(weights)]

    def observation(self, state: Game, player: int = 0) -> str:
        return f"{player} at {'/'.join(state.moves)}"

    def legal_actions(self, state: Game) -> list[str]:
        return [f"a{i}" for i in range(1 + digest("width", state) % 4)]

    def step(self, state: Game, action: str) -> Game:
        return Game(state.seed, (*state.moves, action))

    def rewards(self, state: Game) -> tuple[float, ...]:
        over = self.current_player(state) == TERMINAL
        if self.zero_sum:
            won = float(digest("won", state) % 3 - 1) if over else 0.0
            return (won, -won)
        if over:
            return tuple(float(digest("pay", state, player) % 3) / 2 for player in range(self.players))
        return tuple(
            0.125 * (digest("small", state, player) % 2) if state.moves else 0.0 for player in range(self.players)
        )


class Many(Simulator[int]):
    """So many actions at the start, each of which ends the episode."""

    never_repeats = True

    def __init__(self, actions: int, players: int = 1) -> None:
        self.actions, self.players = actions, players

    def reset(self, seed: int, options: Any = None) -> int:
        return -1

    def current_player(self, state: int) -> int:
        return 0 if state < 0 else TERMINAL

    def observation(self, state: int, player: int = 0) -> str:
        return str(state)

    def legal_actions(self, state: int) -> list[str]:
        return [str(i) for i in range(self.actions)]

    def step(self, state: int, action: str) -> int:
        return int(action)

    def rewards(self, state: int) -> tuple[float, ...]:
        return (0.0,) * self.players


LATE = 0.06


class Way(NamedTuple):
    seed: int
    steps: str = ""


class Maze(Simulator[Way]):
    """Three ways at every step, to depth 6; the actions listed, or any text."""

    def __init__(self, listed: bool = True) -> None:
        self.listed = listed

    def reset(self, seed: int, options: Any = None) -> Way:
        return Way(seed)

    def current_player(self, state: Way) -> int:
        return TERMINAL if len(state.steps) >= 6 else 0

    def observation(self, state: Way, player: int = 0) -> str:
        return f"{state.seed}:{state.steps}"

    def legal_actions(self, state: Way) -> list[str] | None:
        return ["a", "b", "c"] if self.listed else None

    def step(self, state: Way, action: str) -> Way:
        return state._replace(steps=state.steps + action)

    def rewards(self, state: Way) -> tuple[float, ...]:
        return (float(len(state.steps) == 6 and state.steps.count("b") > 3),)

    def info(self, state: Way) -> dict[str, Any]:
        return {"success": False, "invalid_action": False}


def number(*parts: object) -> float:
    return sum(ord(c) * (i + 3) for i, c in enumerate(repr(parts))) * 7919 % 10007 / 10007


WRONG: dict[str, Callable[[Any], Any]] = {
    "nan": lambda answer: np.full(len(answer), np.nan),
    "short": lambda answer: answer[:-1],
    "long": lambda answer: [*answer, *answer],
    "nothing": lambda answer: None,
    "words": lambda answer: "sorry",
    "infinite": lambda answer: np.full(len(answer), np.inf),
}


class Answers:
    """Right answers, but about seed 2 after the step ``b``: there ``how`` goes wrong, in ``who`` alone."""

    def __init__(self, who: str = "", how: str = "") -> None:
        self.who, self.how, self.calls = who, how, 0

    def score(self, transcripts: Any, candidates: Any) -> Any:
        said = [transcript[-1].text for transcript in transcripts]
        right = [np.array([-number(t, action) for action in c]) for t, c in zip(said, candidates, strict=True)]
        return self._spoiled("score", said, right)

    def propose(self, transcripts: Any, n: int, rngs: Any) -> Any:
        said = [transcript[-1].text for transcript in transcripts]
        right = [[Proposal("abc"[i % 3], -1.0 - i) for i in range(n)] for _ in said]
        return self._spoiled("propose", said, right)

    def values(self, transcripts: Any, candidates: Any) -> Any:
        said = [transcript[-1].text for transcript in transcripts]
        right = [np.array([number(t, action, 1) for action in c]) for t, c in zip(said, candidates, strict=True)]
        return self._spoiled("values", said, right)

    def evaluate(self, leaves: Sequence[Leaf]) -> Any:
        said = [leaf.transcript[-1].text for leaf in leaves]
        return self._spoiled("evaluate", said, [np.array([number(text, 2)]) for text in said])

    def _spoiled(self, who: str, said: Sequence[str], right: list[Any]) -> Any:
        bad = [self.who == who and text == "2:b" for text in said]
        if not any(bad):
            return right
        if self.how == "raises":
            raise RuntimeError("out of memory")
        if self.how == "late":
            time.sleep(5 * LATE)
            return right
        if self.how == "fewer":
            return [answer for answer, is_bad in zip(right, bad, strict=True) if not is_bad]
        if self.how == "none at all":
            return None
        if who == "propose":
            nan = [Proposal("b", -1.0), Proposal("a", float("nan"))]
            spoil = {"nan": nan, "nothing": [], "blank": [Proposal(" ", -1.0)], "words": "x"}
            return [spoil[self.how] if is_bad else answer for answer, is_bad in zip(right, bad, strict=True)]
        return [WRONG[self.how](answer) if is_bad else answer for answer, is_bad in zip(right, bad, strict=True)]


GAME = TicTacToe()


@cache
def worth(state: BoardState) -> float:
    """The exact value for who moves."""
    return max(outcome(state, action) for action in GAME.legal_actions(state))


def outcome(state: BoardState, action: str) -> float:
    child = GAME.step(state, action)
    over = GAME.current_player(child) == TERMINAL
    return float(GAME.rewards(child)[GAME.current_player(state)]) if over else -worth(child)
