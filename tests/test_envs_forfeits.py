"""A player who writes nothing that can be played has no success, in any game; with ``invalid_loses`` it loses."""

import pickle
from typing import Any

import numpy as np
import pytest

from branchwise.envs.abilities import success_of
from branchwise.envs.hostile_texts import NONSENSE_TEXTS
from branchwise.envs.opponents import draw_outcome
from branchwise.envs.registry import environments, simulator_for
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.envs.views import SinglePlayerView

GAMES = [row.id for row in environments() if row.players > 1]
TEXTS = ["???", *(text for text in NONSENSE_TEXTS if len(text) < 200)]
STAKES = {"branchwise/KuhnPoker-v0": 2.0, "branchwise/LeducPoker-v0": 13.0, "branchwise/OpenSpiel-v0": 2.0}
"""What a forfeit costs where that is not 1, or 1 below no deal."""


def simulator_of(env_id: str, **options: Any) -> Simulator[Any]:
    try:
        return simulator_for(env_id, **options)
    except ImportError as error:
        pytest.skip(f"{error}")


def listed(game: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    legal = game.legal_actions(state)
    actions = game.suggested_actions(state) if legal is None else legal  # type: ignore[attr-defined]
    return actions[int(rng.integers(len(actions)))]


def played(game: Simulator[Any], broken: int, seed: int) -> tuple[Any, np.ndarray]:
    """The last state, and each player's return, where ``broken`` writes nonsense and the others play at random."""
    rng = np.random.default_rng(seed)
    state = game.reset(seed)
    returns = np.zeros(game.players)
    for step in range(5_000):
        mover = game.current_player(state)
        if mover == TERMINAL:
            return state, returns
        if mover == CHANCE:
            action = draw_outcome(game, state, rng)
        else:
            action = TEXTS[(seed + step) % len(TEXTS)] if mover == broken else listed(game, state, rng)
        state = game.step(state, action)
        returns += game.rewards(state)
    raise AssertionError("no end")


@pytest.mark.parametrize("env_id", GAMES)
def test_who_writes_nonsense_alone_never_succeeds(env_id: str) -> None:
    game = simulator_of(env_id)
    for seed in range(30):
        broken = seed % game.players
        state, _ = played(game, broken, seed)
        assert not success_of(game, state, broken), seed
        if broken == 0:
            assert not game.info(state)["success"]


@pytest.mark.parametrize("env_id", GAMES)
def test_who_writes_nonsense_alone_never_succeeds_in_a_view(env_id: str) -> None:
    game = simulator_of(env_id)
    for seed in range(12):
        view = SinglePlayerView(game, player=seed % game.players)
        state = view.reset(seed)
        while view.current_player(state) != TERMINAL:
            state = view.step(state, TEXTS[(seed + state.steps) % len(TEXTS)])
        assert not view.info(state)["success"], seed


@pytest.mark.parametrize("env_id", GAMES)
def test_with_invalid_loses_the_third_nonsense_in_a_row_ends_the_game_at_the_price_of_the_stake(env_id: str) -> None:
    game = pickle.loads(pickle.dumps(simulator_of(env_id, invalid_loses=True)))
    ended = 0
    for seed in range(20):
        broken = seed % game.players
        state, returns = played(game, broken, seed)
        assert not success_of(game, state, broken)
        if not game.info(state)["invalid_action"]:
            continue  # the game ended before it was to move
        ended += 1
        none = game.disagreement(state.context)[broken] if hasattr(game, "disagreement") else 0.0
        assert returns[broken] == pytest.approx(none - STAKES.get(env_id, 1.0))
        if game.zero_sum or env_id in STAKES:
            assert returns[1 - broken] == -returns[broken]
        assert tuple(game.legal_actions(state) or ()) == ()
        assert game.step(state, "???") == state
        for player in range(game.players):
            text = game.observation(state, player)
            assert "put out" in text or "forfeit" in text or "left after" in text
    assert ended > 10


@pytest.mark.parametrize("env_id", GAMES)
def test_invalid_loses_changes_nothing_for_those_who_play(env_id: str) -> None:
    plain, strict = simulator_of(env_id), simulator_of(env_id, invalid_loses=True)
    for seed in range(5):
        for game in (plain, strict):
            rng = np.random.default_rng(seed)
            state, path = game.reset(seed), []
            while game.current_player(state) != TERMINAL:
                chance = game.current_player(state) == CHANCE
                path.append(draw_outcome(game, state, rng) if chance else listed(game, state, rng))
                state = game.step(state, path[-1])
            ended = (path, game.rewards(state), game.info(state), game.observation(state, 0))
            if game is plain:
                expected = ended
        assert ended == expected


def test_a_valid_move_between_invalid_ones_keeps_success_possible() -> None:
    game = simulator_for("branchwise/KuhnPoker-v0")
    state = game.reset(0)
    for action in ("K", "Q", "???", "???", "bet", "bet"):
        state = game.step(state, action)
    assert game.info(state)["success"]
    state = game.reset(0)
    for action in ("K", "Q", "???", "???", "???", "pass"):
        state = game.step(state, action)
    assert game.rewards(state) == (1.0, -1.0)  # the default move won, the player did not
    assert not game.info(state)["success"]


def test_no_trade_where_there_is_nothing_to_gain_is_a_success_only_of_those_who_chose_it() -> None:
    game = simulator_for("branchwise/BuyerSeller-v0", seller_value=1.2, buyer_value=0.8)
    chosen, parting = game.reset(0), game.give_up_action  # type: ignore[attr-defined]
    while game.current_player(chosen) != TERMINAL:
        chosen = game.step(chosen, parting(chosen) or game.suggested_actions(chosen)[-1])  # type: ignore[attr-defined]
    assert (game.info(chosen)["deal"], game.info(chosen)["success"]) == (False, True)
    state = game.reset(0)
    for _ in range(3):
        state = game.step(state, "???")
    assert game.info(state)["ended"] == "forfeit"
    assert not game.info(state)["success"]


def test_board_games_refuse_the_option_that_they_do_not_have() -> None:
    with pytest.raises(ValueError, match="invalid_loses=False; expected True"):
        simulator_for("branchwise/TicTacToe-v0", invalid_loses=False)
