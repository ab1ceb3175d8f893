"""The audit of labels: states restored from task and moves, both sides played out, against exact values."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.leduc_poker import LeducPoker, leduc_equilibrium
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.players import RandomAgent
from branchwise.envs.play.task import start
from branchwise.envs.play.transcript import acted, known, observed, said
from branchwise.envs.registry import simulator_for
from branchwise.search import PreferencePair, RandomRollout, SearchSettings, search, self_play, sibling_pairs
from branchwise.search.audit import Verdict, audited, relabelled, restored, swapped
from branchwise.search.presets import suited_settings
from branchwise.search.records import load_pairs, save_pairs

from .toys import RandomTree


def played(simulator: Any, count: int, simulations: int = 60, **settings: Any) -> list[PreferencePair]:
    """Sibling pairs of self-play (of one player: of a tree a task)."""
    rngs = np.random.default_rng(0).spawn(count)
    tasks = [{"env_id": "", "seed": seed} for seed in range(count)]
    how = replace(SearchSettings(simulations=simulations, **settings), **suited_settings(simulator))
    if simulator.players > 1:
        trees = self_play(simulator, tasks, None, RandomRollout(), how, rngs)
    else:
        trees = search(simulator, [start(simulator, task) for task in tasks], None, RandomRollout(), how, rngs)
    return [pair for tree in trees for pair in sibling_pairs(tree, 0.1, 2, contrast="best", per_node=1)[0]]


SIMULATORS = {
    "TicTacToe-v0": {},
    "KuhnPoker-v0": {},
    "LeducPoker-v0": {},
    "LiarsDice-v0": {},
    "ConnectFour-v0": {},
    "MultiIssue-v0": {"split": "train"},
    "WebShop-v0": {"products": 100, "split": "train", "observation_mode": "compact"},
}


@pytest.mark.parametrize("name", SIMULATORS)
def test_every_pair_of_a_search_is_restored(name: str, tmp_path: Any) -> None:
    from branchwise.envs.wrappers import ListedActions

    simulator = ListedActions(simulator_for(f"branchwise/{name}", **SIMULATORS[name]))
    pairs = played(simulator, 6)
    assert pairs
    save_pairs(tmp_path / "pairs.jsonl", pairs)
    read = load_pairs(tmp_path / "pairs.jsonl")
    assert [pair.moves for pair in read] == [pair.moves for pair in pairs]
    for pair in read:
        state = restored(simulator, pair, np.random.default_rng(0))
        assert state is not None, pair
        player = simulator.current_player(state)
        assert pair.prompt[-1].text in (said(simulator, state, player), known(simulator, state, player))
        assert pair.chosen[0].text in (simulator.legal_actions(state) or ())


def test_moves_are_kept_only_where_the_prompt_does_not_tell_them() -> None:
    alone = played(RandomTree(), 3)
    assert alone
    assert all(pair.moves == () for pair in alone)
    game = played(TicTacToe(), 2)
    assert any(pair.moves for pair in game)
    assert all(len(pair.moves) > sum(turn.is_agent for turn in pair.prompt) for pair in game if pair.moves)


def value_at_random(game: TicTacToe, state: Any, player: int) -> float:
    """What ``player`` expects where both sides move at random."""
    if game.current_player(state) < 0:
        return game.rewards(state)[player]
    actions = game.legal_actions(state)
    return sum(value_at_random(game, game.step(state, action), player) for action in actions) / len(actions)


def test_roll_outs_measure_what_recursion_says() -> None:
    game = TicTacToe()
    pairs = [pair for pair in played(game, 4) if len(pair.moves) >= 3][:6]
    rolls = 3000
    for pair, verdict in zip(
        pairs, audited(pairs, game, RandomAgent(), np.random.default_rng(1).spawn(len(pairs)), rolls), strict=True
    ):
        assert isinstance(verdict, Verdict)
        state = restored(game, pair, np.random.default_rng(0))
        player = game.current_player(state)
        exact = [value_at_random(game, game.step(state, side[0].text), player) for side in (pair.chosen, pair.rejected)]
        assert verdict.gap == pytest.approx(exact[0] - exact[1], abs=5 * max(verdict.error, 1 / rolls))
        assert verdict.rolls == rolls


def test_a_fifth_of_swapped_sides_is_found() -> None:
    """200 labels that are right by the exact solver, of which 40 are turned round."""
    game = TicTacToe()
    pairs = played(game, 120, 100)
    rngs = np.random.default_rng(0).spawn(len(pairs))
    right = [
        pair
        for pair, verdict in zip(pairs, audited(pairs, game, RandomAgent(), rngs, exact=True), strict=True)
        if isinstance(verdict, Verdict) and verdict.gap > 0
    ][:200]
    assert len(right) == 200
    planted = [swapped(pair) if place % 5 == 0 else pair for place, pair in enumerate(right)]
    verdicts = audited(planted, game, RandomAgent(), np.random.default_rng(0).spawn(200), exact=True)
    assert [isinstance(v, Verdict) and v.gap < 0 for v in verdicts] == [place % 5 == 0 for place in range(200)]


def test_a_fifth_of_swapped_sides_is_found_by_roll_outs_too() -> None:
    """Of labels whose difference is half a win or more, by 48 random games a side."""
    game = TicTacToe()
    pairs = [pair for pair in played(game, 20, 100) if len(pair.moves) > 2]
    rngs = np.random.default_rng(2).spawn(len(pairs))
    found = audited(pairs, game, RandomAgent(), rngs, 32)
    right = [p for p, v in zip(pairs, found, strict=True) if isinstance(v, Verdict) and v.gap > 0.7][:50]
    assert len(right) == 50
    planted = [swapped(pair) if place % 5 == 0 else pair for place, pair in enumerate(right)]
    verdicts = audited(planted, game, RandomAgent(), np.random.default_rng(3).spawn(50), 48)
    wrong = sum(isinstance(v, Verdict) and v.gap < 0 for v in verdicts)
    assert abs(wrong / 50 - 0.2) <= 0.02


def test_a_verdict_depends_on_its_pair_and_generator_alone() -> None:
    game = TicTacToe()
    pairs = played(game, 3)[:6]

    def judged(some: list[PreferencePair], places: list[int]) -> list[Verdict | str]:
        return audited(some, game, RandomAgent(), [np.random.default_rng([7, place]) for place in places], 8)

    assert judged(pairs, list(range(6))) == [judged([pair], [place])[0] for place, pair in enumerate(pairs)]


def test_hidden_cards_are_drawn_anew_for_each_roll_out() -> None:
    """Against a random opponent a king that bets wins 1 or 2 chips half the time each; the deal that the task fixes is
    one of the two that the player cannot tell apart, so a fixed deal would give the same mean."""
    game = KuhnPoker()
    pair = PreferencePair(
        prompt=(observed(said(game, king := _dealt(game, "K", "J"), 0)),),
        chosen=(acted("bet"),),
        rejected=(acted("pass"),),
        task={"seed": 0, "dealt": ["K", "J"]},
    )
    assert restored(game, pair, np.random.default_rng(0)) == king
    cards = []
    simulator = _Watched(cards)
    audited([pair], simulator, RandomAgent(), [np.random.default_rng(0)], 40)
    assert set(cards) == {"KJ", "KQ"}


def _dealt(game: KuhnPoker, *cards: str) -> Any:
    state = game.reset(0)
    for card in cards:
        state = game.step(state, card)
    return state


class _Watched(KuhnPoker):
    def __init__(self, cards: list[str]) -> None:
        super().__init__()
        self.cards = cards

    def step(self, state: Any, action: str) -> Any:
        if action == "bet" and not state.moves:
            self.cards.append(state.cards)
        return super().step(state, action)


def test_equilibrium_values_of_kuhn_poker_are_those_of_the_book() -> None:
    """A queen that bets first loses more than one that passes; facing a bet a jack loses 1 or 2, a king wins 2."""
    game = KuhnPoker()
    first = game.optimal_values(_dealt(game, "Q", "J"))
    assert first["pass"] == pytest.approx(-1 / 3, abs=2e-3)
    assert first["bet"] == pytest.approx(-1 / 2, abs=2e-3)
    king = game.optimal_values(_dealt(game, "K", "J"))
    assert king == pytest.approx({"pass": 7 / 6, "bet": 7 / 6}, abs=2e-3)
    assert game.optimal_values(game.step(_dealt(game, "Q", "J"), "bet")) == {"pass": -1.0, "bet": -2.0}
    assert game.optimal_values(game.step(_dealt(game, "Q", "K"), "bet")) == {"pass": -1.0, "bet": 2.0}


def test_equilibrium_values_add_up_to_the_value_of_the_game() -> None:
    game = LeducPoker()
    policy, total, deals = leduc_equilibrium(), 0.0, 0
    for one, _ in game.chance_outcomes(game.reset(0)):
        state = game.step(game.reset(0), one)
        state = game.step(state, game.chance_outcomes(state)[0][0])
        values = game.optimal_values(state)
        actions, shares = policy.policy[0, game.information_state(state, 0)]
        total += sum(share * values[action] for action, share in zip(actions, shares, strict=True))
        deals += 1
    assert total / deals == pytest.approx(policy.value, abs=2e-3)


def test_perfect_play_of_tic_tac_toe() -> None:
    game = TicTacToe()
    state = game.reset(0)
    assert game.optimal_values(state) == dict.fromkeys("123456789", 0.0)
    for square in ("1", "4", "2", "5"):
        state = game.step(state, square)
    assert game.optimal_values(state)["3"] == 1.0
    assert game.optimal_values(state)["7"] == -1.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected": ()}, "anchor"),
        ({"task": {"seed": 0, "options": {"goal": "none"}}}, "no such task"),
        ({"task": {}}, "no such task"),
        ({"prompt": (observed("a page of another shop"),)}, "not restored"),
        ({"prompt": ()}, "not restored"),
        ({"moves": ("1", "1", "1", "2", "2", "2", "3", "3", "3", "4", "5")}, "not restored"),
        ({"chosen": (acted("1"), acted("2"))}, "several actions"),
    ],
)
def test_what_cannot_be_judged_says_why(change: dict[str, Any], reason: str) -> None:
    game = TicTacToe()
    pair = PreferencePair(
        prompt=(observed(said(game, game.reset(0))),), chosen=(acted("5"),), rejected=(acted("1"),), task={"seed": 0}
    )
    rngs = np.random.default_rng(0).spawn(2)
    assert isinstance(audited([pair], game, RandomAgent(), rngs[:1], 2)[0], Verdict)
    assert audited([replace(pair, **change)], game, RandomAgent(), rngs[1:], 2) == [reason]


def test_luck_that_is_fixed_by_the_state_is_drawn_anew_or_not_rolled() -> None:
    """A view plays the others by the state's seed: its roll-outs differ all the same, since it can draw that anew."""

    class Foreseen(TicTacToe):
        foreknowledge = True

    view = simulator_for("branchwise/TicTacToe-v0", player=0, opponents="random")
    for simulator, judged in ((view, True), (Foreseen(), False)):
        state = simulator.reset(0)
        seen = (observed(said(simulator, state)),)
        pair = PreferencePair(prompt=seen, chosen=(acted("5"),), rejected=(acted("1"),), task={"seed": 0})
        (verdict,) = audited([pair], simulator, RandomAgent(), [np.random.default_rng(0)], 40)
        assert verdict == "one future" if not judged else isinstance(verdict, Verdict) and verdict.error > 0


def test_sides_of_several_actions_are_played_whole_or_in_part() -> None:
    tree = RandomTree()
    root = start(tree, {"seed": 0})
    sides = []
    for first in tree.legal_actions(root.state)[:2]:
        turns, state = [], root.state
        for action in (first, "a0", "a0"):
            if tree.current_player(state) < 0:
                break
            turns.append(acted(action))
            state = tree.step(state, action)
            turns.append(observed(said(tree, state)))
        sides.append(tuple(turns[:-1]))
    pair = PreferencePair(prompt=root.transcript, chosen=sides[0], rejected=sides[1], task={"seed": 0})
    rng = np.random.default_rng(0)
    assert isinstance(audited([pair], tree, RandomAgent(), [rng], 4)[0], Verdict)
    assert isinstance(audited([pair], tree, RandomAgent(), [rng], 4, 1)[0], Verdict)
    for wrong in ({"rolls": 0}, {"actions": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            audited([pair], tree, RandomAgent(), [rng], **wrong)


def test_measured_values_replace_what_was_claimed() -> None:
    pair = PreferencePair(
        prompt=(observed("page"),), chosen=(acted("a"),), rejected=(acted("b"),), chosen_q=0.9, rejected_q=0.4,
        chosen_visits=3, rejected_visits=2, ref_chosen_logp=-1.0, ref_rejected_logp=-2.0, margin=1.0, weight=0.5,
    )  # fmt: skip
    right = relabelled(pair, Verdict(0.75, 0.5, 0.1, 8), weighted=True)
    assert (right.chosen_q, right.rejected_q, right.chosen_visits, right.rejected_visits) == (0.75, 0.5, 8, 8)
    assert (right.margin, right.weight) == (pytest.approx(0.5), pytest.approx(0.25))
    assert (right.chosen, right.ref_chosen_logp) == (pair.chosen, -1.0)
    wrong = relabelled(pair, Verdict(0.25, 0.75, 0.1, 8))
    assert (wrong.chosen, wrong.chosen_q, wrong.rejected_q, wrong.ref_chosen_logp) == (pair.rejected, 0.75, 0.25, -2.0)
    assert relabelled(pair, Verdict(0.75, 0.5, 0.1, 8)).weight == 0.5
    assert swapped(swapped(pair)) == pair


def test_a_difference_is_clear_where_luck_does_not_explain_it() -> None:
    """Agresti and Caffo: shares (k + 1) / (n + 2). Of n roll-outs a side all against none, z is n/(n + 2) over
    √(2 · (n + 1) / (n + 2)² / (n + 2)): 1.63 for 2, 2.37 for 3."""
    for rolls, z in ((1, 0.866), (2, 1.633), (3, 2.372), (8, 5.963)):
        error = (rolls + 2) / rolls * (2 * (rolls + 1) / (rolls + 2) ** 3) ** 0.5
        assert 1 / error == pytest.approx(z, abs=2e-3)
        assert Verdict(1.0, 0.0, error, rolls).is_clear == (z > 2)
    assert Verdict(1.0, 0.0, 0.0, 0).is_clear
    assert not Verdict(0.5, 0.5, 0.0, 0).is_clear
    assert Verdict(0.1 + 0.2, 0.3, 0.1, 8).gap == 0.0
    assert Verdict(0.51, 0.5, 0.0, 0).gap == 0.0  # no solver is righter than that
    assert Verdict(0.51, 0.5, 0.1, 8).gap == pytest.approx(0.01)


def test_the_error_of_a_verdict_is_that_of_its_returns() -> None:
    """A game in which one side always wins and the other always loses: 3 roll-outs are clear, 1 is not."""

    class Sure(RandomTree):
        def current_player(self, state: Any) -> int:
            return -2 if len(state.actions) else 0

        def rewards(self, state: Any) -> tuple[float, ...]:
            return (float(state.actions[-1:] == ("a0",)),)

    game = Sure()
    root = start(game, {"seed": 0})
    pair = PreferencePair(prompt=root.transcript, chosen=(acted("a0"),), rejected=(acted("a1"),), task={"seed": 0})
    for rolls in (1, 3):
        (verdict,) = audited([pair], game, RandomAgent(), [np.random.default_rng(0)], rolls)
        assert isinstance(verdict, Verdict)
        assert verdict.error == pytest.approx((rolls + 2) / rolls * (2 * (rolls + 1) / (rolls + 2) ** 3) ** 0.5)
        assert (verdict.gap, verdict.is_clear) == (1.0, rolls == 3)
