"""Our environments as TRL's GRPO environments: what TRL asks of one, and one step of its real trainer over an episode
whose actions are scripted."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from branchwise import simulator_for
from branchwise.envs.grpo import GRPOEnvironment, episodes, grpo_environment

ENV = "branchwise/KuhnPoker-v0"


def test_an_episode_is_that_of_the_simulator() -> None:
    factory = grpo_environment(ENV, player=1)
    rules = simulator_for(ENV, player=1)
    environment = factory()
    for row in episodes(20):
        state = rules.reset(row["seed"])
        seen = environment.reset(**row)
        assert seen.startswith(rules.observation(state))
        assert environment.get_reward() == 0.0
        while "The episode is over." not in seen:
            action = rules.legal_actions(state)[0]
            assert action in seen
            seen, state = environment.act(action=action), rules.step(state, action)
        assert environment.get_reward() == rules.rewards(state)[0] != 0.0
        assert environment.act("anything").startswith("The episode is over.")
        assert environment.get_reward() == rules.rewards(state)[0]


def test_acting_before_a_reset_is_an_error_and_not_an_end() -> None:
    with pytest.raises(RuntimeError, match="call reset"):
        grpo_environment(ENV)().act("pass")


def test_a_simulator_of_several_players_has_to_be_seen_from_one_side() -> None:
    with pytest.raises(ValueError, match=r"2 players.*SinglePlayerView"):
        GRPOEnvironment(simulator_for(ENV))


def test_invalid_actions_are_answered_and_anything_is_text() -> None:
    environment = grpo_environment(ENV)()
    environment.reset(seed=0)
    for action in ("\x00 nothing of the kind", 3, None):
        assert isinstance(environment.act(action), str)  # type: ignore[arg-type]


def test_rollouts_of_a_row_are_one_episode_and_a_row_without_a_seed_is_refused() -> None:
    factory = grpo_environment(ENV)
    first, second = factory(), factory()
    assert first.reset(seed=5, prompt="x") == second.reset(seed=5, prompt="x")
    with pytest.raises(ValueError, match="column seed"):
        first.reset(prompt="x")


def test_reset_options_come_from_the_row() -> None:
    environment = grpo_environment("branchwise/WebShop-v0", products=100, observation_mode="compact")()
    rules = simulator_for("branchwise/WebShop-v0", products=100, observation_mode="compact")
    seen = environment.reset(seed=0, options={"goal": 7})
    assert seen.startswith(rules.observation(rules.reset(0, {"goal": 7})))
    assert seen.endswith("Actions: search[…]")


def test_the_only_tool_is_act_and_transformers_can_describe_it() -> None:
    from transformers.utils import get_json_schema

    public = {
        name
        for name, _ in inspect.getmembers(GRPOEnvironment, predicate=inspect.isfunction)
        if not name.startswith("_") and name not in ("reset", "get_reward")
    }
    assert public == {"act"}
    schema = get_json_schema(GRPOEnvironment.act)["function"]
    assert schema["parameters"]["required"] == ["action"]
    assert "exactly as it is written" in schema["parameters"]["properties"]["action"]["description"]


def qwen_like_tokenizer() -> Any:
    """A byte-level tokenizer with the chat template of Qwen 3, whose tool calls TRL can read."""
    import trl
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"])
    templates = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (templates / "qwen3.jinja").read_text(encoding="utf-8")
    return tokenizer


def rewards_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: Any, rows: list[dict[str, Any]] | None, steps: int = 1
) -> list[float]:
    """The rewards that TRL's real trainer takes from rollouts in which the first action is always taken, two a row."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = qwen_like_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8192,
        )
    )
    played: list[float] = []

    class Scripted(GRPOTrainer):
        """The model's answers are scripted: a tool call with the first action, while the episode lasts, then a word."""

        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
            answers = []
            for ids in prompt_ids:
                text = tokenizer.decode(ids)
                assert "Reach the goal by calling the tool act" in text
                seen = text.rpartition("Actions: ")
                over = "The episode is over." in seen[2]
                call = {
                    "name": "act",
                    "arguments": {"action": seen[2].split("<|im_end|>")[0].split(", ")[0].split("\n")[0]},
                }
                text = "Done." if over else f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
                answers.append(tokenizer(f"{text}<|im_end|>")["input_ids"])
            return answers, None

        def _calculate_rewards(self, *arguments: Any, **named: Any) -> Any:
            rewards = super()._calculate_rewards(*arguments, **named)
            played.extend(rewards[:, 0].tolist())
            return rewards

    trainer = Scripted(
        model=model,
        args=GRPOConfig(
            str(tmp_path),
            max_steps=steps,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=4000,
            report_to="none",
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            save_strategy="no",
            shuffle_dataset=False,
        ),
        processing_class=tokenizer,
        train_dataset=None if rows is None else Dataset.from_list(rows),
        environment_factory=factory,
    )
    trainer.train()
    return played


def reward_of(env_id: str, seed: int) -> float:
    """What the first action, taken throughout, earns in the episode of ``seed``."""
    rules = simulator_for(env_id, opponents="random")
    state, earned = rules.reset(seed), 0.0
    while rules.current_player(state) == 0:
        state = rules.step(state, rules.legal_actions(state)[0])
        earned += rules.rewards(state)[0]
    return earned


@pytest.mark.slow
def test_a_step_of_trl_s_trainer_plays_episodes_and_takes_their_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = rewards_of_training(tmp_path, monkeypatch, grpo_environment(ENV), episodes(2))
    assert played == [reward_of(ENV, seed) for seed in (0, 0, 1, 1)]
    assert any(played)


@pytest.mark.slow
def test_a_trainer_without_a_data_set_plays_the_environment_s_own_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = grpo_environment(ENV, num_generations=2, first_seed=5)
    played = rewards_of_training(tmp_path, monkeypatch, factory, None, steps=2)
    assert played == [reward_of(ENV, seed) for seed in (5, 5, 6, 6, 7, 7, 8, 8)]
    assert len(set(played)) > 1


@pytest.mark.slow
def test_one_trainer_mixes_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "branchwise/TicTacToe-v0"
    rows = [{**row, "environment": name} for row, name in zip(episodes(2), ("kuhn", "tic-tac-toe"), strict=True)]
    factories = {"kuhn": grpo_environment(ENV), "tic-tac-toe": grpo_environment(other)}
    played = rewards_of_training(tmp_path, monkeypatch, factories, rows)
    assert played == [reward_of(ENV, 0)] * 2 + [reward_of(other, 1)] * 2


def test_environments_that_own_the_data_count_episodes_together() -> None:
    factory = grpo_environment(ENV, num_generations=3, first_seed=10)
    empty = [{"role": "user", "content": ""}]
    rules = simulator_for(ENV, opponents="random")
    pages = [factory().reset(prompt=empty) for _ in range(7)]
    for page, seed in zip(pages, (10, 10, 10, 11, 11, 11, 12), strict=True):
        assert page.startswith("Reach the goal by calling the tool act")
        assert rules.observation(rules.reset(seed)) in page
    assert factory().reset(seed=3, prompt="Play.").startswith(rules.observation(rules.reset(3)))
    with pytest.raises(ValueError, match="num_generations=0"):
        grpo_environment(ENV, num_generations=0)
