"""The lock-step that everybody plays in: equal to one episode after the other, and each player's words its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from branchwise.envs.negotiation.metrics import outcome_metrics
from branchwise.envs.negotiation.protocol import AlternatingOffers
from branchwise.envs.opponents import draw_outcome
from branchwise.envs.play.agent import Agent, Decision
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.players import PolicyAgent, RandomAgent, scripted_agents
from branchwise.envs.play.playing import Playing, by_agents, play, run_episodes
from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.play.transcript import Transcript, acted, observed
from branchwise.envs.registry import environments, simulator_for
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.envs.views import without_view
from branchwise.envs.wrappers import ListedActions

GAMES = [row.id for row in environments() if row.players > 1 and not row.extra]


def alone(simulator: Simulator[Any], task: dict[str, Any], agent: Agent, rng: np.random.Generator) -> Episode:
    """One episode for one player, as plainly as it can be written."""
    state = simulator.reset(task["seed"], task["options"])
    transcript: Transcript = (observed(simulator.observation(state)),)
    rewards: list[float] = []
    invalid = calls = 0
    while simulator.current_player(state) != TERMINAL:
        [decision] = agent.act(simulator, [state], [transcript], [rng])
        state = simulator.step(state, decision.action)
        transcript = (*transcript, acted(decision.action), observed(simulator.observation(state)))
        rewards.append(simulator.rewards(state)[0])
        invalid += simulator.info(state)["invalid_action"]
        calls += decision.model_calls
    success = bool(simulator.info(state)["success"])
    truncated = simulator.truncated(state)
    figures = {}
    game, end = without_view(simulator, state)
    if isinstance(game, AlternatingOffers):
        found = outcome_metrics(game, end)
        figures = {"deal": float(found.deal), "joint_utility": found.joint}
        if found.deal:
            figures["pareto_optimal"] = float(found.pareto_optimal)
    return Episode(task, transcript, tuple(rewards), success, len(rewards), invalid, calls, truncated, figures)


def wordy(transcript: Transcript, actions: Sequence[str]) -> list[float]:
    return [-((len(action) * 7 + len(transcript[-1].text)) % 5) for action in actions]


class Babbling:
    """Says what is no action, now and then."""

    name = "babbling"

    def act(self, simulator: Any, states: Any, transcripts: Any, rngs: Any) -> list[Decision]:
        legal = [simulator.legal_actions(state) for state in states]
        return [Decision("???" if rng.random() < 0.3 else a[0], 2) for a, rng in zip(legal, rngs, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("agent", [RandomAgent(), Babbling(), PolicyAgent(FunctionPolicy(wordy), 1.0)])
@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("branchwise/LeducPoker-v0", {"opponents": "rule", "player": 1}),
        ("branchwise/TicTacToe-v0", {"opponents": "random"}),
        ("branchwise/Bargaining-v0", {"opponents": "conceder"}),
        ("branchwise/WebShop-v0", {"products": 60, "max_steps": 5}),
    ],
)
def test_side_by_side_is_one_after_the_other(env_id: str, options: dict[str, Any], agent: Any, batch_size: int) -> None:
    simulator: Any = ListedActions(simulator_for(env_id, **options))
    tasks = [{"seed": seed, "options": {}} for seed in range(7)]
    expected = [alone(simulator, task, agent, np.random.default_rng([4, i])) for i, task in enumerate(tasks)]
    assert run_episodes(simulator, tasks, agent, 4, batch_size=batch_size) == expected


def started(game: Simulator[Any], seed: int, transcript: Transcript | None = ()) -> Playing:
    return Playing(game, game.reset(seed), np.random.default_rng(seed), transcript, number=seed)


@pytest.mark.parametrize("env_id", GAMES)
def test_a_players_transcript_is_what_it_saw_and_did(env_id: str) -> None:
    """Against a record of all that happened, kept beside the game; every registered game of several players."""
    game: Any = ListedActions(simulator_for(env_id))
    for seed in range(3):
        happened: dict[int, list[str]] = {}
        episode = started(game, seed)
        assert episode.player not in (CHANCE, TERMINAL)
        for _ in range(200):
            mover = episode.player
            happened.setdefault(mover, []).append(game.observation(episode.state, mover))
            [action] = by_agents(RandomAgent())([episode])
            happened[mover].append(action)
            episode.step(action)
            if episode.over:
                break
        assert episode.over
        assert set(episode.transcripts or {}) == set(happened)
        for player, texts in happened.items():
            own = episode.episode({}, player).transcript
            assert [turn.text for turn in own] == [*texts, game.observation(episode.state, player)]
            assert [turn.is_agent for turn in own] == [i % 2 == 1 for i in range(len(own))]


@pytest.mark.parametrize("env_id", GAMES)
def test_the_steps_of_all_players_pay_what_the_game_pays(env_id: str) -> None:
    game: Any = ListedActions(simulator_for(env_id))
    for episode in play([started(game, seed) for seed in range(4)], by_agents(RandomAgent())):
        total = np.sum(episode.rewards, axis=0)
        for player in range(game.players):
            own = episode.episode({}, player)
            assert own.steps == len(own.rewards) == episode.movers.count(player)
            if own.steps:
                assert own.total_reward == pytest.approx(total[player])
        assert sum(episode.episode({}, p).steps for p in range(game.players)) == len(episode.rewards) - 1


class Dealt(Simulator[str]):
    """Luck, player 1, luck, player 0, luck, the end. Luck pays player 0 one and player 1 ten; acting pays who acts the
    number that it says."""

    players = 2
    turns = (CHANCE, 1, CHANCE, 0, CHANCE, TERMINAL)

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return self.turns[len(state)]

    def observation(self, state: str, player: int = 0) -> str:
        return f"{player} sees {state}"

    def legal_actions(self, state: str) -> list[str]:
        return ["2", "3"]

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("h", 0.5), ("t", 0.5)]

    def step(self, state: str, action: str) -> str:
        return state + action

    def rewards(self, state: str) -> tuple[float, ...]:
        if state[-1] in "ht":
            return (1.0, 10.0)
        return (float(state[-1]), 0.0) if len(state) == 4 else (0.0, float(state[-1]))


def test_luck_is_drawn_paid_and_no_turn() -> None:
    episode = started(Dealt(), 5)
    rng = np.random.default_rng(5)
    luck = draw_outcome(Dealt(), "", rng)
    assert (episode.state, episode.player, episode.rewards) == (luck, 1, [[1.0, 10.0]])
    assert episode.transcript == (observed(f"1 sees {luck}"),)
    episode.step("3")
    episode.step("2")
    assert episode.over
    assert episode.rewards == [[1.0, 10.0], [1.0, 13.0], [3.0, 10.0]]
    assert episode.movers == [1, 0]
    assert episode.episode({}, 0).rewards == (5.0,)  # what came before its first step is paid with it
    assert episode.episode({}, 1).rewards == (33.0,)
    assert [turn.text for turn in episode.episode({}, 0).transcript] == [
        f"0 sees {episode.state[:3]}", "2", f"0 sees {episode.state}",
    ]  # fmt: skip


def test_an_episode_goes_on_from_what_was_said_before() -> None:
    read = (observed("before"), acted("a"), observed("as it stands"))
    assert started(Dealt(), 0, read).transcript == read
    [*said, seen] = started(Dealt(), 0, read[:2]).transcript
    assert tuple(said) == read[:2]
    assert seen.text.startswith("1 sees")


def test_without_transcripts_states_are_all_that_is_kept() -> None:
    class Unread(Dealt):
        def observation(self, state: str, player: int = 0) -> str:
            raise AssertionError("nobody reads")

        def info(self, state: str) -> dict[str, Any]:
            raise AssertionError("nobody reads")

    [episode] = play([started(Unread(), 0, None)], lambda running: ["2"] * len(running))
    assert (episode.over, episode.transcript, episode.movers) == (True, (), [1, 0])


def test_episodes_stop_after_most_steps_or_at_their_end() -> None:
    def first(running: Sequence[Playing]) -> list[str]:
        sizes.append(len(running))
        return ["2"] * len(running)

    sizes: list[int] = []
    games = [started(Dealt(), seed) for seed in range(5)]
    games[1].step("2")
    games[1].step("2")  # over before it is played
    stopped = list(play(iter(games), first, at_once=2, most_steps=1))
    assert [episode.number for episode in stopped] == [1, 0, 2, 3, 4]
    assert sizes == [2, 2]
    assert [len(episode.movers) for episode in stopped] == [2, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="zip"):
        list(play([started(Dealt(), 0)], lambda running: []))
    assert list(play([], first)) == []


class Noting:
    """Keeps who was asked about what."""

    def __init__(self, name: str, action: str) -> None:
        self.name = name
        self.action = action
        self.asked: list[tuple[str, list[int]]] = []

    def act(self, simulator: Any, states: Any, transcripts: Any, rngs: Any) -> list[Decision]:
        self.asked.append((type(simulator).__name__, [simulator.current_player(state) for state in states]))
        return [Decision(self.action, 1)] * len(states)


class OtherWay(Dealt):
    turns = (CHANCE, 0, CHANCE, 1, CHANCE, TERMINAL)

    def rewards(self, state: str) -> tuple[float, ...]:
        return (0.0, 0.0)


def test_whoever_is_to_move_decides_and_is_asked_once_a_turn() -> None:
    left, right = Noting("left", "2"), Noting("right", "3")
    one, other = Dealt(), OtherWay()
    games = [started(game, seed) for seed, game in enumerate((one, other, one))]
    over = sorted(play(games, by_agents(left, right)), key=lambda episode: episode.number)
    assert right.asked == [("Dealt", [1, 1]), ("OtherWay", [1])]
    assert left.asked == [("OtherWay", [0]), ("Dealt", [0, 0])]
    assert [episode.state[1] + episode.state[3] for episode in over] == ["32", "23", "32"]
    assert [episode.calls for episode in over] == [[1, 1]] * 3
    both = Noting("both", "2")
    for _ in play([started(one, 0), started(one, 1)], by_agents(both)):
        pass
    assert both.asked == [("Dealt", [1, 1]), ("Dealt", [0, 0])]


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("rewards", (0.0,), "rewards gives"),
        ("rewards", (0.0, float("nan")), "Dealt.rewards gave"),
        ("current_player", 7, "current_player gives 7"),
        ("chance_outcomes", [("h", 0.4)], "expected them to sum to 1"),
    ],
)
def test_answers_of_a_simulator_that_are_none_are_named(name: str, answer: Any, words: str) -> None:
    game: Any = Dealt()
    setattr(game, name, lambda state: answer)
    with pytest.raises(ValueError, match=words):
        list(play([started(game, 0)], lambda running: ["2"] * len(running)))


def test_the_players_of_a_row_play_in_their_seats() -> None:
    """Tic-tac-toe by its perfect player on both sides is a draw."""
    perfect = scripted_agents("branchwise/TicTacToe-v0")["perfect"]()
    game: Any = simulator_for("branchwise/TicTacToe-v0")
    for episode in play([started(game, seed) for seed in range(3)], by_agents(perfect, perfect)):
        assert [episode.episode({}, player).total_reward for player in (0, 1)] == [0.0, 0.0]
