"""Kuhn poker, Leduc poker and liar's dice: held to OpenSpiel's rules, to known values and to the promises of a
simulator."""

from collections import Counter
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from branchwise.envs.games import leduc_poker, regret
from branchwise.envs.games.kuhn_poker import KuhnEquilibrium, KuhnPoker, KuhnState
from branchwise.envs.games.leduc_poker import LeducPoker, LeducState, leduc_equilibrium
from branchwise.envs.games.liars_dice import BayesianPlayer, LiarsDice, LiarsDiceState
from branchwise.envs.games.wording import command, plain_words, quotation
from branchwise.envs.opponents import random_opponent
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.testing import HOSTILE_TEXTS, check_simulator

GAMES: list[Simulator[Any]] = [KuhnPoker(), LeducPoker(), LiarsDice(), LiarsDice(dice=2, sides=4)]
_names = [f"{type(game).__name__}{number}" for number, game in enumerate(GAMES)]


def play(game: Simulator[Any], players: list[Any], rng: np.random.Generator) -> Any:
    state = game.reset(0)
    while (mover := game.current_player(state)) != TERMINAL:
        if mover == CHANCE:
            outcomes = [outcome for outcome, _ in game.chance_outcomes(state)]
            state = game.step(state, outcomes[int(rng.integers(len(outcomes)))])
        else:
            state = game.step(state, players[mover](game, state, rng))
    return state


def won(game: Simulator[Any], player: Any, other: Any, games: int) -> float:
    """The mean reward of ``player``, who sits on each side half of the time."""
    rng = np.random.default_rng(1)
    total = 0.0
    for number in range(games):
        seats = [player, other] if number % 2 == 0 else [other, player]
        total += game.rewards(play(game, seats, rng))[number % 2]
    return total / games


@pytest.mark.parametrize("game", GAMES, ids=_names)
def test_keeps_the_promises_of_a_simulator(game: Simulator[Any]) -> None:
    check_simulator(game, fresh_process=game is GAMES[0])


# OpenSpiel's actions and outcomes in our words.
def _kuhn(action: int, chance: bool) -> str:
    return "JQK"[action] if chance else ("pass", "bet")[action]


def _leduc(action: int, chance: bool) -> str:
    return leduc_poker.CARDS[action] if chance else ("fold", "call", "raise")[action]


def _dice(game: LiarsDice) -> Callable[[int, bool], str]:
    return lambda action, chance: str(action + 1) if chance else game.all_actions()[action]


def agree_with_openspiel(game: Simulator[Any], name: str, word: Callable[[int, bool], str], positions: int) -> None:
    """Random play of both at once: who moves, what is legal, chances, results; and, over all positions seen, one of
    our information states for each of OpenSpiel's."""
    pyspiel = pytest.importorskip("pyspiel")
    theirs_all = pyspiel.load_game(name)
    rng = np.random.default_rng(7)
    paired: dict[tuple[int, str], str] = {}
    seen = 0
    while seen < positions:
        ours, theirs = game.reset(0), theirs_all.new_initial_state()
        while True:
            seen += 1
            chance = theirs.is_chance_node()
            mover = TERMINAL if theirs.is_terminal() else CHANCE if chance else theirs.current_player()
            assert game.current_player(ours) == mover
            if mover == TERMINAL:
                assert list(game.rewards(ours)) == theirs.returns()
                break
            assert game.rewards(ours) == (0.0, 0.0)
            if chance:
                expected = {word(outcome, True): share for outcome, share in theirs.chance_outcomes()}
                assert dict(game.chance_outcomes(ours)) == pytest.approx(expected)
            else:
                assert set(game.legal_actions(ours) or ()) == {word(action, False) for action in theirs.legal_actions()}
                for player in (0, 1):
                    key = player, theirs.information_state_string(player)
                    mine = game.information_state(ours, player)
                    assert paired.setdefault(key, mine) == mine
                    tensor = theirs.information_state_tensor(player)
                    assert game.array(ours, player).tolist() == tensor  # type: ignore[attr-defined]
            legal = theirs.legal_actions()
            action = legal[int(rng.integers(len(legal)))]
            ours, earlier = game.step(ours, word(action, chance)), ours
            assert ours != earlier
            theirs.apply_action(action)
    for player in (0, 1):
        mine = [text for (owner, _), text in paired.items() if owner == player]
        assert len(set(mine)) == len(mine), "two of OpenSpiel's information states are one of ours"


_PAIRS = {
    "kuhn_poker": (KuhnPoker(), "kuhn_poker", _kuhn),
    "leduc_poker": (LeducPoker(), "leduc_poker", _leduc),
    "liars_dice": (LiarsDice(), "liars_dice", _dice(LiarsDice())),
    "liars_dice of two": (LiarsDice(dice=2), "liars_dice(numdice=2)", _dice(LiarsDice(dice=2))),
}


@pytest.mark.parametrize("name", _PAIRS)
def test_rules_agree_with_openspiel(name: str) -> None:
    agree_with_openspiel(*_PAIRS[name], positions=2_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", _PAIRS)
def test_rules_agree_with_openspiel_on_50_000_positions(name: str) -> None:
    agree_with_openspiel(*_PAIRS[name], positions=50_000)


def expected_value(game: Simulator[Any], state: Any, share: Callable[[Any, str], float]) -> float:
    """What player 0 earns below ``state``, by recursion; ``share`` is the probability of a player's action."""
    mover = game.current_player(state)
    if mover == TERMINAL:
        return game.rewards(state)[0]
    if mover == CHANCE:
        branches = list(game.chance_outcomes(state))
    else:
        branches = [(action, share(state, action)) for action in game.legal_actions(state) or ()]
    return sum(p * expected_value(game, game.step(state, action), share) for action, p in branches if p > 0)


@pytest.mark.parametrize("bluff", [0.0, 1 / 6, 1 / 3])
def test_kuhn_equilibrium_is_worth_minus_an_eighteenth(bluff: float) -> None:
    game, player = KuhnPoker(), KuhnEquilibrium(bluff)

    def share(state: KuhnState, action: str) -> float:
        bet = player.bet_probability(state.cards[game.current_player(state)], state.moves)
        return bet if action == "bet" else 1 - bet

    assert expected_value(game, game.reset(0), share) == pytest.approx(-1 / 18, abs=1e-12)


@pytest.mark.parametrize("bluff", [0.0, 0.2, 1 / 3])
def test_nothing_exploits_the_kuhn_equilibrium(bluff: float) -> None:
    tree = regret.unroll(KuhnPoker())
    player = KuhnEquilibrium(bluff)
    strategy = np.zeros(int(tree.set_start[-1]))
    for (_, information), number in tree.sets.items():
        bet = player.bet_probability(information[0], information[1:])
        strategy[tree.set_start[number] : tree.set_start[number + 1]] = 1 - bet, bet
    assert regret.evaluated(tree, strategy).exploitability == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("seat", "value"), [(0, -1 / 6), (1, -1 / 9)])
def test_kuhn_random_earns_what_the_page_says(seat: int, value: float) -> None:
    game, player = KuhnPoker(), KuhnEquilibrium()

    def share(state: KuhnState, action: str) -> float:
        if game.current_player(state) == seat:
            return 0.5
        bet = player.bet_probability(state.cards[1 - seat], state.moves)
        return bet if action == "bet" else 1 - bet

    earned = expected_value(game, game.reset(0), share)
    assert (earned if seat == 0 else -earned) == pytest.approx(value, abs=1e-12)


def test_bluff_outside_the_equilibria_is_refused() -> None:
    with pytest.raises(ValueError, match="1/3"):
        KuhnEquilibrium(0.5)


def test_leduc_value_and_equilibrium() -> None:
    """−0.0856 is the value that the literature gives; the solution is held to an exact best response."""
    solution = leduc_equilibrium()
    assert len(solution.policy) == 936  # information sets of Leduc hold'em with suits told apart
    assert solution.exploitability < 1e-3
    assert solution.value == pytest.approx(-0.0856, abs=2e-4)


def test_leduc_equilibrium_holds_in_openspiel() -> None:
    """OpenSpiel's own exploitability of our solution; its positions are found through ours."""
    pyspiel = pytest.importorskip("pyspiel")
    exploitability = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    policy_module = pytest.importorskip("open_spiel.python.policy")
    solution, rules = leduc_equilibrium(), LeducPoker()

    class Solved(policy_module.Policy):  # type: ignore[misc, name-defined]
        def action_probabilities(self, state: Any, player_id: int | None = None) -> dict[int, float]:
            ours, dealt = rules.reset(0), 0
            for entry in state.full_history():
                dealt += entry.player < 0
                ours = rules.step(ours, _leduc(entry.action, entry.player < 0))
            mover = rules.current_player(ours)
            actions, shares = solution.policy[mover, rules.information_state(ours, mover)]
            return {("fold", "call", "raise").index(a): share for a, share in zip(actions, shares, strict=True)}

    game = pyspiel.load_game("leduc_poker")
    theirs = exploitability.exploitability(game, Solved(game, [0, 1]))
    assert theirs == pytest.approx(solution.exploitability, abs=1e-9)


@pytest.mark.slow
def test_liars_dice_value() -> None:
    """One die each: −0.0271 for player 0. The best responses that give the exploitability bound the game's value."""
    solution = regret.solve(LiarsDice(), iterations=500)
    assert solution.exploitability < 1e-3
    assert solution.value == pytest.approx(-0.0271, abs=1e-3)


def test_small_liars_dice_is_solved() -> None:
    solution = regret.solve(LiarsDice(sides=3), iterations=500)
    assert solution.exploitability < 1e-3


def test_games_of_one_player_are_not_solved() -> None:
    class Alone(KuhnPoker):
        players = 1

    with pytest.raises(ValueError, match="games of two"):
        regret.solve(Alone())


def test_games_that_are_not_zero_sum_or_whose_actions_are_no_list_are_not_solved() -> None:
    """Both would be answered with numbers that mean nothing."""

    class Generous(KuhnPoker):
        def rewards(self, state: KuhnState) -> tuple[float, ...]:
            return tuple(earned + 1 for earned in super().rewards(state))

    class Talkative(KuhnPoker):
        def legal_actions(self, state: KuhnState) -> None:  # type: ignore[override]
            return None

    with pytest.raises(ValueError, match="zero-sum"):
        regret.solve(Generous())
    with pytest.raises(ValueError, match="any text"):
        regret.solve(Talkative())


def test_opponents_beat_random() -> None:
    assert won(KuhnPoker(), KuhnEquilibrium(), random_opponent, 4_000) > 0.07
    assert won(LeducPoker(), leduc_poker.rule_player, random_opponent, 2_000) > 0.5
    assert won(LeducPoker(), leduc_poker.EquilibriumPlayer(), random_opponent, 2_000) > 0.5
    assert won(LiarsDice(), BayesianPlayer(), random_opponent, 1_000) > 0.5
    assert won(LiarsDice(dice=3), BayesianPlayer(), random_opponent, 300) > 0.8


def test_leduc_equilibrium_loses_to_nobody() -> None:
    assert won(LeducPoker(), leduc_poker.EquilibriumPlayer(), leduc_poker.rule_player, 4_000) > -0.05


def test_showdowns_of_leduc_by_hand() -> None:
    game = LeducPoker()
    for cards, moves, reward in (
        (("Js", "Kh"), ("call", "call", "Jh", "call", "call"), 1.0),  # a pair beats a king
        (("Js", "Kh"), ("call", "call", "Qh", "call", "call"), -1.0),
        (("Qs", "Qh"), ("raise", "call", "Kh", "call", "call"), 0.0),  # equal ranks share
        (("Js", "Kh"), ("raise", "raise", "call", "Ks", "raise", "raise", "call"), -13.0),
        (("Js", "Kh"), ("raise", "raise", "fold"), -3.0),
        (("Js", "Kh"), ("raise", "fold"), 1.0),
    ):
        state = game.reset(0)
        for action in (*cards, *moves):
            state = game.step(state, action)
        assert game.current_player(state) == TERMINAL
        assert game.rewards(state) == (reward, -reward)


def test_wild_dice_count_for_every_face() -> None:
    game = LiarsDice(dice=2)
    state = LiarsDiceState(bytes((1, 6, 3, 3)))
    for action, holds in (("bid 3-3", True), ("bid 2-1", True), ("bid 3-1", False), ("bid 2-6", False)):
        assert (game.rewards(game.step(game.step(state, action), "liar"))[0] > 0) is holds


@pytest.mark.parametrize("game", GAMES, ids=_names)
def test_a_third_invalid_text_is_played_as_the_first_legal_action(game: Simulator[Any]) -> None:
    state = game.reset(0)
    while game.current_player(state) == CHANCE:
        state = game.step(state, game.chance_outcomes(state)[0][0])
    mover, untouched = game.current_player(state), game.observation(state, 1 - game.current_player(state))
    first = (game.legal_actions(state) or ())[0]
    played = game.step(state, first)
    for _ in range(2):
        state = game.step(state, "nonsense")
        assert game.current_player(state) == mover
        assert "Invalid action" in game.observation(state, mover)
        assert game.observation(state, 1 - mover) == untouched, "the other is not told"
    state = game.step(state, "nonsense")
    assert game.info(state)["invalid_action"]
    assert game.position(state) == game.position(played)._replace(forfeits=1 << mover)
    assert f"{first} was played for you" in game.observation(state, mover)
    assert "played for you" not in game.observation(state, 1 - mover)


@pytest.mark.parametrize("game", GAMES, ids=_names)
def test_actions_are_read_without_regard_to_case_and_blanks(game: Simulator[Any]) -> None:
    state = game.reset(0)
    while game.current_player(state) == CHANCE:
        state = game.step(state, game.chance_outcomes(state)[0][0])
    for action in game.legal_actions(state) or ():
        assert game.step(state, f"  {action.upper()} ") == game.step(state, action)


def resampled(game: Simulator[Any], state: Any, player: int, draws: int) -> Counter[Any]:
    rng = np.random.default_rng(3)
    return Counter(game.resample(state, player, rng) for _ in range(draws))


@pytest.mark.parametrize("game", GAMES, ids=_names)
def test_resampled_states_look_the_same_to_the_player_and_can_be_reached(game: Simulator[Any]) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        state, path = game.reset(0), []
        while True:
            for player in (0, 1):
                drawn = game.resample(state, player, rng)
                assert game.information_state(drawn, player) == game.information_state(state, player)
                assert game.observation(drawn, player) == game.observation(state, player)
                assert game.current_player(drawn) == game.current_player(state)
                if game.current_player(state) >= 0:
                    assert game.legal_actions(drawn) == game.legal_actions(state)
            mover = game.current_player(state)
            if mover == TERMINAL:
                break
            moves = [o for o, _ in game.chance_outcomes(state)] if mover == CHANCE else game.legal_actions(state) or ()
            path.append(moves[int(rng.integers(len(moves)))])
            state = game.step(state, path[-1])


def test_resampling_draws_every_deal_alike() -> None:
    """Chi-squared at 1 in 10,000: 3.7 standard deviations on two deals, 15 on four degrees of freedom."""
    kuhn = resampled(KuhnPoker(), KuhnState("QJ", "p"), 0, 4_000)
    assert set(kuhn) == {KuhnState("QJ", "p"), KuhnState("QK", "p")}
    assert abs(kuhn[KuhnState("QJ", "p")] - 2_000) < 3.9 * 4_000**0.5 / 2
    leduc = resampled(LeducPoker(), LeducState((0, 3, 5), "cc", "r"), 1, 4_000)
    assert {state.cards for state in leduc} == {(card, 3, 5) for card in (0, 1, 2, 4)}
    assert sum((count - 1_000) ** 2 / 1_000 for count in leduc.values()) < 21.1
    dice = resampled(LiarsDice(dice=2, sides=2), LiarsDiceState(bytes((1, 2, 1, 1)), b"\x01"), 0, 4_000)
    shares = {bytes((1, 1)): 0.25, bytes((1, 2)): 0.5, bytes((2, 2)): 0.25}
    assert {state.dice[2:] for state in dice} == set(shares)
    assert sum((n - 4_000 * shares[s.dice[2:]]) ** 2 / (4_000 * shares[s.dice[2:]]) for s, n in dice.items()) < 18.4


def test_the_other_card_shows_nowhere_before_a_showdown() -> None:
    game = KuhnPoker()
    for own, one, two in permutations("JQK"):
        for moves in ("", "p", "b", "pb", "bp", "pbp"):
            assert game.observation(KuhnState(own + one, moves), 0) == game.observation(KuhnState(own + two, moves), 0)
            assert game.observation(KuhnState(one + own, moves), 1) == game.observation(KuhnState(two + own, moves), 1)


def test_liars_dice_refuses_other_sizes() -> None:
    for arguments in ({"dice": 0}, {"dice": 6}, {"sides": 1}, {"dice": "2"}):
        with pytest.raises(ValueError, match="expected a whole number"):
            LiarsDice(**arguments)  # type: ignore[arg-type]


def test_hostile_words_become_one_quoted_line() -> None:
    for text in HOSTILE_TEXTS:
        words = plain_words(text, 200)
        assert len(words) <= 200
        quoted = quotation(words)
        assert quoted.encode("utf-8").decode() == quoted
        assert len(quoted.splitlines()) == 1
        assert quoted.replace("\\\\", "").replace('\\"', "").count('"') == 2
        assert len(command(text)) <= 64


def test_a_cut_is_marked() -> None:
    assert plain_words("a" * 10, 10) == "a" * 10
    assert plain_words("a" * 11, 10) == "a" * 9 + "…"
    assert plain_words(" " * 1_000 + "late", 10) == "…"
