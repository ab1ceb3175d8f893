from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from branchwise.agents import searching
from branchwise.agents.searching import SearchingAgent
from branchwise.envs.play.players import PolicyAgent, RandomAgent
from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.envs.web_shop.shoppers import instruction_in, random_shopper, rule_based
from branchwise.search import answers as reading
from branchwise.search.engine import SearchSettings, search
from branchwise.search.evaluation import PolicyRollout


class Steps(NamedTuple):
    said: tuple[str, ...]


class Corridor(Simulator[Steps]):
    """Say a word, then go left or right; right twice wins."""

    def reset(self, seed: int, options: Any = None) -> Steps:
        return Steps(())

    def current_player(self, state: Steps) -> int:
        return TERMINAL if len(state.said) == 3 else 0

    def observation(self, state: Steps, player: int = 0) -> str:
        return "at " + " ".join(state.said)

    def legal_actions(self, state: Steps) -> Sequence[str] | None:
        return [None, ("left", "right"), ("left", "right"), ()][len(state.said)]

    def step(self, state: Steps, action: str) -> Steps:
        return Steps((*state.said, action))

    def rewards(self, state: Steps) -> tuple[float, ...]:
        return (float(state.said[1:] == ("right", "right")),)

    def info(self, state: Steps) -> dict[str, Any]:
        return {"success": state.said[1:] == ("right", "right"), "invalid_action": False}


class Leftist:
    """Prefers left three to one, and says "go"."""

    calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.log([0.75 if text == "left" else 0.25 for text in texts]) for texts in candidates]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        return [[Proposal("go", -1.0)] * n for _ in transcripts]


class Greedy(Leftist):
    def propose_best(self, transcripts: Sequence[Transcript]) -> list[list[Proposal]]:
        return [[Proposal("best", -0.5)] if "mute" not in t[-1].text else [] for t in transcripts]


def act(agent: Any, states: Sequence[Steps], seed: int = 0) -> list[Any]:
    simulator = Corridor()
    transcripts = [(observed(simulator.observation(state)),) for state in states]
    return agent.act(simulator, states, transcripts, [np.random.default_rng([seed, i]) for i in range(len(states))])


def test_a_policy_agent_takes_the_likeliest_action_and_counts_a_call_each() -> None:
    decisions = act(PolicyAgent(Leftist()), [Steps(()), Steps(("go",)), Steps(("go", "left"))])
    assert [(d.action, d.model_calls) for d in decisions] == [("go", 1), ("left", 1), ("left", 1)]


def test_a_policy_agent_at_temperature_draws_from_the_policy() -> None:
    decisions = act(PolicyAgent(Leftist(), temperature=1.0), [Steps(("go",))] * 800)
    left = sum(d.action == "left" for d in decisions)
    assert stats.binomtest(left, 800, 0.75).pvalue > 0.01
    hotter = act(PolicyAgent(Leftist(), temperature=2.0), [Steps(("go",))] * 800)
    share = 3**0.5 / (1 + 3**0.5)
    assert stats.binomtest(sum(d.action == "left" for d in hotter), 800, share).pvalue > 0.01


def test_an_agents_decision_depends_on_its_own_generator_alone() -> None:
    agent = PolicyAgent(Leftist(), temperature=1.0)
    together = act(agent, [Steps(("go",))] * 20)
    assert together[:7] == act(agent, [Steps(("go",))] * 7)


def test_greedy_texts_are_used_where_a_policy_offers_them() -> None:
    assert act(PolicyAgent(Greedy()), [Steps(())])[0].action == "best"
    assert act(PolicyAgent(Greedy(), temperature=1.0), [Steps(())])[0].action == "go"
    transcripts = [(observed("mute"),)]
    decision = PolicyAgent(Greedy()).act(Corridor(), [Steps(())], transcripts, [np.random.default_rng(0)])[0]
    assert (decision.action, decision.model_calls) == ("", 1)
    with pytest.raises(ValueError, match=r"temperature=-1\.0"):
        PolicyAgent(Greedy(), temperature=-1.0)


def test_a_searching_agent_finds_what_the_policy_would_not_do() -> None:
    policy = Leftist()
    agent = SearchingAgent(policy, PolicyRollout(policy), SearchSettings(simulations=32))
    decisions = act(agent, [Steps(()), Steps(("go",)), Steps(("go", "right"))])
    assert [d.action for d in decisions] == ["go", "right", "right"]
    assert all(d.model_calls > 0 for d in decisions)
    assert agent.name == "oracle search, 32 simulations"


def test_a_searching_agent_plays_the_answer_of_a_gumbel_search(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, grown = Leftist(), []
    monkeypatch.setattr(searching, "search", lambda *given: grown.extend(search(*given)) or grown)
    settings = SearchSettings(simulations=3, selection="gumbel", solve=False, uniform_prior=0.5)
    agent = SearchingAgent(policy, PolicyRollout(policy), settings)
    decisions = act(agent, [Steps(("go",))] * 40)
    assert (
        [d.action for d in decisions]
        == [reading.action(tree, by="gumbel") for tree in grown]
        == [tree.best_action() for tree in grown]
    )
    assert any(d.action != tree.best_action("visits") for d, tree in zip(decisions, grown, strict=True))


def test_a_random_agent_is_uniform_over_legal_actions() -> None:
    decisions = act(RandomAgent(), [Steps(("go",))] * 800)
    assert stats.binomtest(sum(d.action == "left" for d in decisions), 800, 0.5).pvalue > 0.01
    assert decisions[0].model_calls == 0


def test_a_random_shopper_searches_words_of_the_instruction_in_order() -> None:
    class Page(Corridor):
        def legal_actions(self, state: Steps) -> None:
            return None

        def observation(self, state: Steps, player: int = 0) -> str:
            return "goal long red shirts size m under $40\nsteps 15\nsearch page"

    words = ["long", "red", "shirts", "size", "m", "under", "$40"]
    sizes = set()
    for seed in range(60):
        action = random_shopper(Page(), Steps(()), np.random.default_rng(seed))
        assert action.startswith("search[")
        assert action.endswith("]")
        chosen = action[len("search[") : -1].split()
        assert chosen == sorted(chosen, key=words.index)
        sizes.add(len(chosen))
    assert sizes == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("observation", "instruction"),
    [
        ("WebShop [SEP] Instruction: [SEP] Find me red shirts [SEP] Search", "Find me red shirts"),
        ("WebShop\nInstruction:\nFind me red shirts\n[button] Search [button_]\n", "Find me red shirts"),
        ("goal red shirts under $40\nsteps 15\nsearch page", "red shirts under $40"),
        ("nothing of the kind", ""),
    ],
)
def test_the_instruction_is_found_in_each_mode(observation: str, instruction: str) -> None:
    assert instruction_in(observation) == instruction


@pytest.mark.parametrize("mode", ["text", "text_rich", "compact"])
def test_the_rule_buys_the_first_result_of_the_whole_instruction(mode: str) -> None:
    from branchwise.envs.web_shop.pages import compact_goal
    from branchwise.envs.web_shop.rules import WebShopSimulator

    simulator = WebShopSimulator(products=60, observation_mode=mode)
    rng = np.random.default_rng(0)
    for seed in range(5):
        state = simulator.reset(seed)
        actions = []
        while simulator.current_player(state) != TERMINAL:
            actions.append(rule_based(simulator, state, rng))
            state = simulator.step(state, actions[-1])
            assert not simulator.info(state)["invalid_action"]
        assert len(actions) == 3
        wanted = simulator.goal(state)
        assert actions[0] == f"search[{compact_goal(wanted) if mode == 'compact' else wanted.instruction}]"
        assert simulator.product(state.item) == simulator.search(actions[0].removeprefix("search[")[:-1])[0]
        assert actions[-1] == "click[buy now]"


def test_the_rule_finds_its_way_back_from_a_sub_page() -> None:
    class Page(Corridor):
        def legal_actions(self, state: Steps) -> Sequence[str]:
            return list(state.said)

    def choose(*legal: str) -> str:
        return rule_based(Page(), Steps(legal), np.random.default_rng(0))

    assert choose("click[back to search]", "click[< prev]") == "click[< prev]"
    assert choose("click[back to search]") == "click[back to search]"
    assert choose("click[back to search]", "click[next >]", "click[#1]", "click[#2]") == "click[#1]"
    assert choose() == ""
