"""OpenSpiel's games as simulators: step by step against pyspiel itself; luck, hidden cards, refusals."""

import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from branchwise.envs.adapters import OpenSpielSimulator, OpenSpielState, open_spiel
from branchwise.envs.shells import SimulatorAECEnv
from branchwise.envs.simulator import CHANCE, TERMINAL
from branchwise.envs.views import SinglePlayerView
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.testing import check_simulator

pyspiel = pytest.importorskip("pyspiel", reason="the extra openspiel is not installed: pip install '.[openspiel]'")

FEW = (
    "backgammon",
    "bargaining",
    "chess",
    "connect_four",
    "go(board_size=5)",
    "goofspiel(num_cards=4)",
    "hanabi",
    "leduc_poker",
    "liars_dice",
    "matrix_rps",
    "tic_tac_toe",
    "2048",
)


def moves(simulator: OpenSpielSimulator, state: Any) -> list[str]:
    if simulator.current_player(state) == CHANCE:
        return [outcome for outcome, _ in simulator.chance_outcomes(state)]
    return list(simulator.legal_actions(state))


@pytest.mark.parametrize("game", FEW)
def test_an_episode_is_pyspiel_s(game: str) -> None:
    simulator = OpenSpielSimulator(game)
    native = pyspiel.load_game(game)
    if native.get_type().dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS:
        native = pyspiel.convert_to_turn_based(native)
    expected, state = native.new_initial_state(), simulator.reset(0)
    rng = np.random.default_rng(0)
    earned = np.zeros(simulator.players)
    for _ in range(150):
        player = simulator.current_player(state)
        assert (player == TERMINAL) == expected.is_terminal()
        if player == TERMINAL:
            break
        assert player == expected.current_player()
        legal = expected.legal_actions()
        if player != CHANCE:
            assert moves(simulator, state) == [expected.action_to_string(player, number) for number in legal]
            assert list(simulator.action_indices(state)) == legal
        number = int(rng.integers(len(legal)))
        state = simulator.step(state, moves(simulator, state)[number])
        expected.apply_action(legal[number])
        earned += simulator.rewards(state)
        assert np.allclose(earned, expected.returns())
        assert list(state.history) == expected.history()
        for one in range(simulator.players):
            texts = [
                text
                for kind, text in (
                    (native.get_type().provides_observation_string, "observation_string"),
                    (native.get_type().provides_information_state_string, "information_state_string"),
                )
                if kind
            ]
            assert simulator.observation(state, one) in [getattr(expected, text)(one) for text in texts]


@pytest.mark.parametrize("game", ["kuhn_poker(players=3)", "tic_tac_toe", "matrix_pd", "leduc_poker", "2048"])
def test_it_keeps_every_promise_of_a_simulator(game: str) -> None:
    check_simulator(OpenSpielSimulator(game, max_steps=60), seeds=range(2), fresh_process=False)


@pytest.mark.slow
def test_every_game_that_pyspiel_loads_is_played_or_refused_with_a_reason() -> None:
    played = Counter()
    rng = np.random.default_rng(0)
    for kind in pyspiel.registered_games():
        if not kind.default_loadable:
            continue
        try:
            simulator = OpenSpielSimulator(kind.short_name, max_steps=100)
        except ValueError as refused:
            reason = str(refused)
            played["mean-field" if "mean-field" in reason else "luck" if "inside itself" in reason else reason] += 1
            continue
        state = simulator.reset(0)
        while simulator.current_player(state) != TERMINAL:
            choices = moves(simulator, state)
            state = simulator.step(state, choices[int(rng.integers(len(choices)))])
            assert not simulator.info(state)["invalid_action"]
        for player in range(simulator.players):
            assert isinstance(simulator.observation(state, player), str)
        assert hash(pickle.loads(pickle.dumps(state))) == hash(state)
        played["played"] += 1
    assert played.pop("played") > 90
    assert played.pop("mean-field") > 0
    assert played.pop("luck") > 0
    assert {reason.split("'")[1] for reason in played} == {"crossword", "morpion_solitaire"}


def test_parameters_come_as_options_or_in_the_name() -> None:
    assert OpenSpielSimulator("kuhn_poker", players=3).players == 3
    assert OpenSpielSimulator("kuhn_poker(players=3)").players == 3
    with pytest.raises(ValueError, match="no_such_game"):
        OpenSpielSimulator("no_such_game")


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"game": "ches"}, "did you mean 'chess'"),
        ({"game": "zzz"}, "registered_names"),
        ({"game": 3}, "game=3: expected"),
        ({"game": "leduc_poker", "player": 3}, "no parameter 'player'; it has action_mapping, players"),
        ({"game": "kuhn_poker", "players": [3]}, r"'players': \[3\].*its defaults are {'players': 2}"),
        ({"max_steps": 0}, "max_steps=0: expected a whole number"),
        ({"max_steps": "many"}, "max_steps='many': expected a whole number"),
        ({"max_invalid": -1}, "max_invalid=-1: expected a whole number"),
    ],
)
def test_a_wrong_option_is_named_with_its_cure(options: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValueError, match=cure) as told:
        OpenSpielSimulator(**options)
    assert len(str(told.value)) < 400


def test_games_that_cannot_be_repeated_are_refused() -> None:
    sampled = [
        kind.short_name
        for kind in pyspiel.registered_games()
        if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC and kind.default_loadable
    ]
    assert sampled
    for name in sampled:
        with pytest.raises(ValueError, match="inside itself"):
            OpenSpielSimulator(name)


def test_without_pyspiel_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_spiel, "pyspiel", None)
    with pytest.raises(ImportError, match=r"in the checkout: pip install '\.\[openspiel\]'"):
        OpenSpielSimulator()


def test_case_matters_only_where_it_must_and_blanks_never() -> None:
    chess = OpenSpielSimulator("chess")
    start = chess.reset(0)
    for text in ("e4", " E4 ", "E4\n"):
        assert chess.step(start, text) == chess.step(start, "e4")
        assert not chess.info(chess.step(start, text))["invalid_action"]
    assert chess.info(chess.step(start, "e5"))["invalid_action"]


def test_after_three_senseless_actions_the_first_legal_one_is_played() -> None:
    game = OpenSpielSimulator("tic_tac_toe")
    state = game.reset(0)
    for _ in range(2):
        state = game.step(state, "nothing of the kind")
        assert state.history == ()
        assert "'nothing of the kind' is no legal action" in game.observation(state)
    state = game.step(state, "nothing of the kind")
    assert state.history == (0,)
    assert game.info(state)["invalid_action"]
    assert not game.info(game.step(state, "o(1,1)"))["invalid_action"]


def test_what_was_refused_is_told_to_its_writer_alone() -> None:
    """Also where it cost the choice: then the writer has moved already."""
    game = OpenSpielSimulator("kuhn_poker", max_invalid=2)
    state = game.reset(0)
    while game.current_player(state) == CHANCE:
        state = game.step(state, game.chance_outcomes(state)[0][0])
    for told in ("'bluff' is no legal action here.", "'bluff' is no legal action here: Pass was played for you."):
        state = game.step(state, "bluff")
        assert game.observation(state, 0).startswith(told)
        assert "bluff" not in game.observation(state, 1)
    assert game.current_player(state) == 1


HIDDEN = ["leduc_poker", "liars_dice", "goofspiel(num_cards=4)", "phantom_ttt", "dark_hex(board_size=3)", "oshi_zumo"]


@pytest.mark.parametrize("game", HIDDEN)
def test_resampling_keeps_what_the_player_knows(game: str) -> None:
    simulator = OpenSpielSimulator(game)
    rng = np.random.default_rng(1)
    different = 0
    for seed in range(10):
        state, draw = simulator.reset(0), np.random.default_rng(seed)
        for _ in range(int(draw.integers(2, 9))):
            choices = moves(simulator, state)
            after = simulator.step(state, choices[int(draw.integers(len(choices)))])
            if simulator.current_player(after) == TERMINAL:  # where OpenSpiel's own resampling forgets what was won
                break
            state = after
        for player in (0, 1):
            drawn = simulator.resample(state, player, rng)
            assert simulator.information_state(drawn, player) == simulator.information_state(state, player)
            assert simulator.current_player(drawn) == simulator.current_player(state)
            assert own_moves(drawn, player) == own_moves(state, player)
            different += drawn != state
    assert different


def own_moves(state: OpenSpielState, player: int) -> list[int]:
    return [move.action for move in state.native.full_history() if move.player == player]


def test_a_hidden_move_is_any_move() -> None:
    simulator = OpenSpielSimulator("matrix_rps")
    state = simulator.step(simulator.reset(0), "Rock")
    drawn = [simulator.resample(state, 1, np.random.default_rng(seed)).history for seed in range(300)]
    assert {drawn.count((number,)) > 70 for number in range(3)} == {True}  # of 100 expected
    assert {simulator.resample(state, 0, np.random.default_rng(seed)).history for seed in range(20)} == {(0,)}


def test_a_move_of_others_that_a_player_ran_into_is_kept() -> None:
    """Player 1 tried the field that player 0 had taken, so that is where player 0 is; before, it may be anywhere."""
    simulator = OpenSpielSimulator("phantom_ttt")
    state = simulator.step(simulator.reset(0), simulator.legal_actions(simulator.reset(0))[4])
    rng = np.random.default_rng(0)
    assert {simulator.resample(state, 1, rng).history for _ in range(200)} == {(number,) for number in range(9)}
    after = simulator.step(state, simulator.legal_actions(state)[4])
    assert simulator.current_player(after) == 1
    assert {simulator.resample(after, 1, rng).history for _ in range(50)} == {(4, 4)}


def test_a_search_does_not_know_the_hidden_move() -> None:
    simulator = OpenSpielSimulator("matrix_rps")
    state = simulator.step(simulator.reset(0), "Rock")
    settings = SearchSettings(simulations=600, selection="uct", solve=False, information="multiple_observer")
    [tree] = search(simulator, [Root(state)], None, lambda *_: [0.0, 0.0], settings)
    assert abs(tree.value(0)) < 0.3
    [cheating] = search(simulator, [Root(state)], None, lambda *_: [0.0, 0.0], replace(settings, information="perfect"))
    assert cheating.value(0) > 0.8


def test_where_no_other_history_is_found_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchwise.envs.adapters.open_spiel._MOST_MOVES_TRIED", 3)
    simulator = OpenSpielSimulator("phantom_ttt")
    state = simulator.reset(0)
    for place in (4, 4, 0, 1):
        state = simulator.step(state, simulator.legal_actions(state)[place])
    with pytest.raises(NotImplementedError, match=r"phantom_ttt has no resampling .* in 3 tries .* write resample"):
        simulator.resample(state, 0, np.random.default_rng(0))


def test_pickles_and_lost_native_states_are_replayed() -> None:
    simulator = OpenSpielSimulator("backgammon")
    state, rng = simulator.reset(0), np.random.default_rng(0)
    for _ in range(30):
        choices = moves(simulator, state)
        state = simulator.step(state, choices[int(rng.integers(len(choices)))])
    copied = pickle.loads(pickle.dumps(state))
    assert copied.native is None
    assert pickle.loads(pickle.dumps(simulator)).observation(copied) == simulator.observation(state)
    assert copied.native is not None


def test_views_and_shells_play_it() -> None:
    view = SinglePlayerView(OpenSpielSimulator("backgammon"), 1)
    state = view.reset(5)
    for _ in range(5):
        state = view.step(state, view.legal_actions(state)[0])  # type: ignore[index]
    assert state.steps == 5
    env = SimulatorAECEnv(OpenSpielSimulator("chess"), words=True)
    env.reset(seed=0)
    assert env.action_space("player_0").n == 4674  # type: ignore[attr-defined]
    assert env.agent_selection == "player_1"  # OpenSpiel's player 1 has the white pieces
    number = next(number for number, text in env.infos["player_1"]["legal_actions"].items() if text == "e4")
    env.step(number)
    assert env.state_now.history == (number,)
    assert env.observe("player_0")["action_mask"].sum() == 20
