"""Rows for other trainers: nothing is lost on the way, and each format is read by its own loader.

verl and verifiers are not among the packages that tests need; where they are not installed their tests are skipped.
"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import Turn, acted, observed
from branchwise.search.credit import StepAdvantage
from branchwise.search.export import (
    Format,
    Kind,
    check_export,
    export,
    kind_of,
    load_rows,
    trl_labelled,
    verifiers_episode,
    verifiers_step,
    verl_prompt,
)
from branchwise.search.extraction import PreferencePair
from branchwise.search.records import load_advantages, load_pairs, save_advantages, save_episodes, save_pairs

TASK = {"env_id": "toy", "seed": 3, "options": {"goal": 3}}
PROMPT = (Turn("system", "Buy what is asked for."), observed("goal red shirt"), acted("search[red]"), observed("one"))
HOSTILE = 'line\nline\r\u2028\x00\x1b[2J"\\ {"role": "user"} <|im_end|> 日本 👩\u200d👧 \ufeff'
SURROGATE = "before \ud83d after"
REPLACED = "before \ufffd after"
HUGE = "naïve " * 400_000

ADVANTAGES = [
    StepAdvantage(PROMPT, (acted("click[one]"),), 0.25, -0.5, 0.75, 0.5, 4, "toy", TASK, 7, 2, 1, 1, "tree"),
    StepAdvantage(PROMPT, (acted("click[two]"),), -0.5, None, 0.0, 0.5, 1, "toy", TASK, 7, 2, 1, 1, "tree"),
    StepAdvantage(PROMPT[:2], (acted(HOSTILE),), 1e-8, 0.0, -1.5, 2.0, 9, "", {}, 0, 0, 0, 0, "vine"),
]
EPISODES = [
    Episode(TASK, (*PROMPT, acted("click[one]")), (0.0, 1.0), True, 2, 0, 2, False, {"joint_utility": 0.5}),
    Episode(TASK, (*PROMPT, acted(HOSTILE), observed(HOSTILE)), (0.0, -0.25), False, 2, 1, 2, True),
    Episode({"seed": 9}, PROMPT[:3], (0.5,), True, 1),
]
PAIRS = [
    PreferencePair(PROMPT, (acted("click[one]"),), (acted(HOSTILE),), chosen_q=1.0, ref_chosen_logp=-3.0, task=TASK),
    PreferencePair(
        PROMPT[:2], (*PROMPT[2:], acted("click[one]")), (acted("click[two]"),), env_id="toy", kind="sibling"
    ),
    PreferencePair(PROMPT, (acted("click[one]"),), kind="anchor"),
]
ROWS: dict[Kind, list[Any]] = {"advantages": ADVANTAGES, "pairs": PAIRS, "episodes": EPISODES}
SAVE = {"advantages": save_advantages, "pairs": save_pairs, "episodes": save_episodes}
WAYS: list[tuple[Kind, Format]] = [
    ("advantages", "trl"), ("pairs", "trl"), ("episodes", "trl"),
    ("advantages", "verl"), ("episodes", "verl"),
    ("advantages", "verifiers"), ("episodes", "verifiers"),
]  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def messages_of(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def written(folder: Path, kind: Kind, to: Format, rows: list[Any] | None = None) -> Path:
    """The export of rows that have been through a file of ours, as the command makes it."""
    SAVE[kind](folder / f"{kind}.jsonl", ROWS[kind] if rows is None else rows)
    assert kind_of(folder / f"{kind}.jsonl") == kind
    out = folder / f"{to}_{kind}.{'parquet' if to == 'verl' else 'jsonl'}"
    export(out, load_rows(folder / f"{kind}.jsonl", kind), kind, to)
    return out


# ---- nothing is lost ------------------------------------------------------------------------------------------------


def test_advantages_for_trl_are_labelled_by_their_sign_and_read_back_whole(tmp_path: Path) -> None:
    out = written(tmp_path, "advantages", "trl")
    rows = lines(out)
    assert [row["label"] for row in rows] == [True, False, True]
    assert list(rows[0])[:4] == ["prompt", "completion", "label", "advantage"]
    assert load_advantages(out) == ADVANTAGES


def test_pairs_for_trl_are_the_rows_of_our_own_files(tmp_path: Path) -> None:
    out = written(tmp_path, "pairs", "trl")
    assert load_pairs(out) == load_pairs(tmp_path / "pairs.jsonl")
    assert out.read_bytes() == (tmp_path / "pairs.jsonl").read_bytes()
    assert (tmp_path / "trl_pairs.anchors.jsonl").is_file()


def conversation(episode: Episode) -> dict[str, Any]:
    """What both SFT formats keep of an episode."""
    return {
        "messages": messages_of(episode.transcript),
        "success": episode.success,
        "reward": episode.total_reward,
        "steps": episode.steps,
        "invalid_actions": episode.invalid_actions,
        "truncated": episode.truncated,
        "env_id": episode.task.get("env_id", ""),
        "task": json.dumps(episode.task),
    }


@pytest.mark.parametrize("to", ["trl", "verl"])
def test_episodes_for_supervised_training_keep_all_turns_and_what_became_of_them(to: Format, tmp_path: Path) -> None:
    out = written(tmp_path, "episodes", to)
    rows = pq.read_table(out).to_pylist() if to == "verl" else lines(out)
    assert rows == [conversation(episode) for episode in EPISODES]


def test_advantages_for_verl_are_prompts_with_everything_else_beside(tmp_path: Path) -> None:
    rows = pq.read_table(written(tmp_path, "advantages", "verl")).to_pylist()
    for index, (row, own) in enumerate(zip(rows, ADVANTAGES, strict=True)):
        action = own.action[0].text
        assert row == {
            "data_source": own.env_id or "branchwise",
            "prompt": messages_of(own.prompt),
            "ability": "agent",
            "reward_model": {"style": "rule", "ground_truth": action},
            "extra_info": {
                "index": index, "action": action, "advantage": own.advantage, "q": own.q, "baseline": own.baseline,
                "visits": own.visits, "logp": own.logp or 0.0, "logged": own.logp is not None, "env_id": own.env_id,
                "kind": own.kind, "tree": own.tree, "node": own.node, "depth": own.depth, "round": own.round,
                "task": json.dumps(own.task),
            },
        }  # fmt: skip


def test_a_parquet_file_of_several_groups_has_each_row_once(tmp_path: Path) -> None:
    rows = [replace(ADVANTAGES[0], node=number) for number in range(2_001)]
    export(tmp_path / "rows.parquet", rows, "advantages", "verl")
    found = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in found] == list(range(2_001))
    assert [row["extra_info"]["node"] for row in found] == list(range(2_001))


def test_episodes_for_verifiers_are_one_branch_with_its_reward(tmp_path: Path) -> None:
    for row, own in zip(lines(written(tmp_path, "episodes", "verifiers")), EPISODES, strict=True):
        (trace,) = row["traces"]
        assert [node["message"] for node in trace["nodes"]] == messages_of(own.transcript)
        assert [node["sampled"] for node in trace["nodes"]] == [turn.is_agent for turn in own.transcript]
        assert [node["parent"] for node in trace["nodes"]] == [None, *range(len(own.transcript) - 1)]
        assert trace["rewards"] == {"reward": {"score": own.total_reward, "weight": 1.0}}
        assert trace["info"] == {"rewards": list(own.rewards)}
        numbers = {name: float(getattr(own, name)) for name in ("success", "steps", "invalid_actions", "model_calls")}
        assert trace["metrics"] == {**own.figures, **numbers}
        assert trace["stop_condition"] == ("max_turns" if own.truncated else "agent_completed")
        assert row["task"]["data"]["branchwise"] == own.task
        assert row["task"]["data"]["prompt"] == messages_of(own.transcript[:2])


def test_advantages_for_verifiers_are_single_steps_and_those_of_a_state_a_group(tmp_path: Path) -> None:
    rows = lines(written(tmp_path, "advantages", "verifiers"))
    for row, own in zip(rows, ADVANTAGES, strict=True):
        (trace,) = row["traces"]
        assert [node["message"] for node in trace["nodes"]] == messages_of((*own.prompt, *own.action))
        assert [node["sampled"] for node in trace["nodes"]] == [False] * len(own.prompt) + [True]
        assert trace["rewards"] == {"q": {"score": own.q, "weight": 1.0}}
        assert trace["metrics"] == {
            "advantage": own.advantage, "baseline": own.baseline, "visits": own.visits, "depth": own.depth
        }  # fmt: skip
        logged = {} if own.logp is None else {"logp": own.logp}
        about = {"kind": own.kind, "tree": own.tree, "node": own.node, "round": own.round}
        assert trace["info"] == {**about, **logged}
        assert row["task"]["data"]["branchwise"] == own.task
    groups = [row["group"]["id"] for row in rows]
    assert groups[0] == groups[1] != groups[2]
    assert len({row["id"] for row in rows}) == 3


@pytest.mark.parametrize(("kind", "to"), WAYS)
def test_the_same_rows_give_the_same_file_and_replace_it(kind: Kind, to: Format, tmp_path: Path) -> None:
    first = written(tmp_path, kind, to).read_bytes()
    assert written(tmp_path, kind, to).read_bytes() == first


def test_the_page_names_every_column() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    section = page.split("## For other trainers")[1].split("\n## ")[0]
    fields = page.split("## Advantages: JSONL")[1].split("\n## ")[0]
    prompt, episode = verl_prompt(ADVANTAGES[0], 0), verifiers_episode(EPISODES[0], 0)
    names = {*prompt, *prompt["reward_model"], "index", "action", "label", *conversation(EPISODES[0])}
    names |= {*verifiers_step(ADVANTAGES[0], 0)["traces"][0]["metrics"], "success", "invalid_actions", "model_calls"}
    assert [name for name in sorted(names) if f"`{name}`" not in section] == []
    assert [name for name in prompt["extra_info"] if f"`{name}`" not in section + fields] == []
    for name in ("nodes", "rewards", "metrics", "info", "stop_condition"):
        assert name in episode["traces"][0]
        assert f"`traces[0].{name}`" in section


def test_the_page_s_reward_function_pays_the_advantage_for_the_row_s_action() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(def compute_score.+?)```", page, re.S)
    found: dict[str, Any] = {}
    exec(block, found)
    row = verl_prompt(ADVANTAGES[1], 0)
    given = {"ground_truth": row["reward_model"]["ground_truth"], "extra_info": row["extra_info"]}
    score = found["compute_score"]
    assert score(data_source="toy", solution_str=" click[two]\n", reward_router_address="", **given) == -0.5
    assert score(data_source="toy", solution_str="click[one]", **given) == 0.0


# ---- hostile texts --------------------------------------------------------------------------------------------------


def with_text(kind: Kind, text: str) -> list[Any]:
    if kind == "advantages":
        return [replace(ADVANTAGES[0], prompt=(observed(text),), action=(acted(text),), env_id=text, task={"a": text})]
    if kind == "pairs":
        return [replace(PAIRS[0], prompt=(observed(text),), chosen=(acted(text),), task={"a": text})]
    return [replace(EPISODES[0], transcript=(observed(text), acted(text)), task={"env_id": text, "a": text})]


@pytest.mark.parametrize(("kind", "to"), WAYS)
@pytest.mark.parametrize(
    ("text", "expected"), [(SURROGATE, REPLACED), (HUGE, HUGE), ("", ""), (HOSTILE, HOSTILE)],
    ids=["surrogate", "huge", "empty", "hostile"],
)  # fmt: skip
def test_any_text_is_written_as_it_is_but_for_lone_surrogates(
    kind: Kind, to: Format, text: str, expected: str, tmp_path: Path
) -> None:
    out = tmp_path / ("rows.parquet" if to == "verl" else "rows.jsonl")
    export(out, with_text(kind, text), kind, to)
    (row,) = pq.read_table(out).to_pylist() if to == "verl" else lines(out)
    turns = row.get("messages") or row.get("prompt") or [node["message"] for node in row["traces"][0]["nodes"]]
    assert turns[0] == {"role": "user", "content": expected}
    answer = row.get("completion") or row.get("chosen") or turns[1:]
    assert (
        row["extra_info"]["action"] == expected
        if to == "verl" and kind == "advantages"
        else answer[-1:] == [{"role": "assistant", "content": expected}]
    )


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["verl", "verifiers"])
def test_pairs_are_refused_where_no_trainer_reads_them(to: Format, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{to} takes advantages and episodes; pairs are for the format trl"):
        export(tmp_path / "rows.parquet", PAIRS, "pairs", to)


def test_a_file_for_verl_has_the_ending_that_verl_asks_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it rows\.parquet"):
        export(tmp_path / "rows.jsonl", ADVANTAGES, "advantages", "verl")


@pytest.mark.parametrize(("kind", "to"), WAYS)
def test_no_rows_are_no_file(kind: Kind, to: Format, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no {kind} to export"):
        export(tmp_path / "rows.parquet", [], kind, to)


@pytest.mark.parametrize(("kind", "to"), WAYS)
def test_a_file_of_another_kind_is_never_replaced(kind: Kind, to: Format, tmp_path: Path) -> None:
    ending = "parquet" if to == "verl" else "jsonl"
    others = [written(tmp_path, *other) for other in WAYS if other != (kind, to)]
    own = tmp_path / f"theirs.{ending}"
    contents = [b"my notes\n", b"PAR1", b"{", b"[1]\n", b"{}\n", *(path.read_bytes() for path in others)]
    for content in contents:
        own.write_bytes(content)
        with pytest.raises(ValueError, match=f"is no export of {kind} for {to}; it is not overwritten"):
            check_export(own, kind, to)
    table = pa.table({"prompt": ["theirs"]})
    pq.write_table(table, own)
    with pytest.raises(ValueError, match="not overwritten"):
        check_export(own, kind, to)
    own.write_bytes(b"")
    check_export(own, kind, to)


def test_anchors_never_replace_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "pairs.anchors.jsonl").write_text("my notes\n")
    with pytest.raises(ValueError, match=r"pairs.anchors.jsonl exists"):
        export(tmp_path / "pairs.jsonl", PAIRS, "pairs", "trl")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "the file is empty"),
        ("[1]\n", "list where an object is expected"),
        ('{"messages": []}\n', "a row with messages"),
        ('{"prompt": "a", "completion": "b", "label": true}\n', "a row with prompt, completion, label"),
        ("PAR1", "a parquet file"),
        ("nothing\n", "not JSON"),
    ],
)
def test_a_file_of_other_rows_is_named_with_what_is_expected(content: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(ValueError, match="expected advantages, pairs or episodes") as error:
        kind_of(tmp_path / "rows.jsonl")
    assert word in str(error.value)


def test_a_turn_whose_role_does_not_say_whose_it_is_is_refused(tmp_path: Path) -> None:
    episode = replace(EPISODES[0], transcript=(observed("a"), Turn("assistant", "not the agent's")))
    for convert in (verifiers_episode, lambda row, _: export(tmp_path / "a.jsonl", [row], "episodes", "trl")):
        with pytest.raises(ValueError, match="is_agent=False"):
            convert(episode, 0)
    wrong = replace(ADVANTAGES[0], action=(Turn("user", "a", True),))
    for make in (lambda row: verl_prompt(row, 0), lambda row: verifiers_step(row, 0), trl_labelled):
        with pytest.raises(ValueError, match="role 'user' and is_agent=True"):
            make(wrong)
    assert not (tmp_path / "a.jsonl").exists()


# ---- TRL ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def loaded(path: Path, builder: str = "json") -> Any:
    import datasets

    cache = str(path.parent / "cache")
    return datasets.load_dataset(builder, data_files=str(path), split="train", cache_dir=cache)


def small_model() -> tuple[Any, Any]:
    from branchwise.agents.small_model import make_model, make_tokenizer

    tokenizer = make_tokenizer(["goal", "red", "shirt", "one", "two", "search", "click"])
    return make_model(tokenizer, width=16, layers=1, heads=2, max_tokens=512), tokenizer


def trained(trainer: Any) -> bool:
    before = [weights.detach().clone() for weights in trainer.model.parameters()]
    trainer.train()
    return any(not old.equal(new) for old, new in zip(before, trainer.model.parameters(), strict=True))


SETTINGS = {"max_steps": 1, "learning_rate": 1e-2, "bf16": False, "use_cpu": True, "report_to": "none"}


def test_trl_s_kto_trainer_trains_on_advantages(tmp_path: Path, offline: None) -> None:
    from trl import KTOConfig, KTOTrainer

    data = loaded(written(tmp_path, "advantages", "trl"))
    model, tokenizer = small_model()
    model.save_pretrained(tmp_path / "model")
    config = KTOConfig(str(tmp_path / "out"), per_device_train_batch_size=3, **SETTINGS)
    trainer = KTOTrainer(str(tmp_path / "model"), args=config, train_dataset=data, processing_class=tokenizer)
    first = trainer.train_dataset[0]
    prompt = tokenizer.apply_chat_template(messages_of(PROMPT), add_generation_prompt=True)["input_ids"]
    assert first["prompt_ids"] == list(prompt)
    assert tokenizer.decode(first["completion_ids"]).replace(" ", "") == "click[one]<end>"
    assert trainer.train_dataset["label"] == [True, False, True]
    assert trained(trainer)


def test_trl_s_sft_trainer_learns_the_agent_s_turns_of_episodes(tmp_path: Path, offline: None) -> None:
    from trl import SFTConfig, SFTTrainer

    data = loaded(written(tmp_path, "episodes", "trl"))
    model, tokenizer = small_model()
    tokenizer.chat_template = (  # with TRL's marks around what the agent says
        "{% for m in messages %}{% if m['role'] == 'assistant' %}<act>{% generation %}{{ m['content'] }}<end>"
        "{% endgeneration %}{% else %}{{ m['content'] }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<act>{% endif %}"
    )
    config = SFTConfig(str(tmp_path / "out"), per_device_train_batch_size=3, assistant_only_loss=True, **SETTINGS)
    trainer = SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer)
    row = trainer.train_dataset[0]
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned).replace(" ", "") == "search[red]<end>click[one]<end>"
    assert trained(trainer)


def test_trl_takes_exported_pairs_for_preferences(tmp_path: Path, offline: None) -> None:
    """``trl dpo`` trains on the same file in ``test_training_trl_file.py``."""
    from trl.data_utils import is_conversational, unpair_preference_dataset

    data = loaded(written(tmp_path, "pairs", "trl"))
    assert is_conversational(data[0])
    unpaired = unpair_preference_dataset(data.select_columns(["prompt", "chosen", "rejected"]))
    assert unpaired["label"] == [True, True, False, False]


@pytest.mark.parametrize(("kind", "to"), [way for way in WAYS if way[1] != "verifiers"])
def test_the_loader_of_datasets_reads_hostile_and_huge_rows(
    kind: Kind, to: Format, tmp_path: Path, offline: None
) -> None:
    out = tmp_path / ("rows.parquet" if to == "verl" else "rows.jsonl")
    rows = [*with_text(kind, HUGE), *with_text(kind, HOSTILE), *with_text(kind, SURROGATE), *ROWS[kind]]
    export(out, rows, kind, to)
    data = loaded(out, "parquet" if to == "verl" else "json")
    column = "messages" if "messages" in data.column_names else "prompt"
    texts = [row[column][0]["content"] for row in data]
    assert texts[:3] == [HUGE, HOSTILE, REPLACED]
    assert len(texts) == len(rows) - (kind == "pairs")  # one has no rejected side


# ---- verl -----------------------------------------------------------------------------------------------------------


def test_verl_s_rl_data_set_gives_prompt_ground_truth_and_our_advantage(tmp_path: Path, offline: None) -> None:
    module = pytest.importorskip("verl.utils.dataset.rl_dataset", reason="verl is not installed", exc_type=ImportError)
    from omegaconf import OmegaConf

    _, tokenizer = small_model()
    config = OmegaConf.create({"max_prompt_length": 512, "cache_dir": str(tmp_path), "filter_overlong_prompts": True})
    data = module.RLHFDataset(str(written(tmp_path, "advantages", "verl")), tokenizer, config)
    assert len(data) == len(ADVANTAGES)
    for index, own in enumerate(ADVANTAGES):
        row = data[index]
        assert row["raw_prompt"] == messages_of(own.prompt)
        assert row["index"] == index
        assert row["reward_model"]["ground_truth"] == own.action[0].text
        assert row["extra_info"]["advantage"] == own.advantage
    batch = module.collate_fn([data[0], data[1]])
    assert [one["advantage"] for one in batch["extra_info"]] == [0.25, -0.5]


def test_verl_s_sft_data_set_learns_the_agent_s_turns(tmp_path: Path, offline: None) -> None:
    module = pytest.importorskip(
        "verl.utils.dataset.multiturn_sft_dataset", reason="verl is not installed", exc_type=ImportError
    )
    from omegaconf import OmegaConf

    _, tokenizer = small_model()
    config = OmegaConf.create({"max_length": 512, "truncation": "error", "pad_mode": "no_padding"})
    data = module.MultiTurnSFTDataset(str(written(tmp_path, "episodes", "verl")), tokenizer, config)
    assert len(data) == len(EPISODES)
    row = data[0]
    learned = row["input_ids"][row["loss_mask"] == 1].tolist()
    assert tokenizer.decode(learned).replace(" ", "") == "search[red]<end>click[one]<end>"


# ---- verifiers ------------------------------------------------------------------------------------------------------


def test_verifiers_reads_episodes_and_steps_as_a_run_s_traces(tmp_path: Path) -> None:
    pytest.importorskip("verifiers.v1", reason="verifiers is not installed", exc_type=ImportError)
    from verifiers.v1.trace import WireTrace
    from verifiers.v1.utils.trace_store import read_episodes

    os.replace(written(tmp_path, "episodes", "verifiers"), tmp_path / "traces.jsonl")
    for read, own in zip(read_episodes(tmp_path, WireTrace), EPISODES, strict=True):
        (trace,) = read.traces
        assert (read.ok, trace.ok, trace.reward) == (True, True, own.total_reward)
        assert [message.content for message in trace.messages] == [turn.text for turn in own.transcript]
        actions = [turn.text for turn in own.transcript if turn.is_agent]
        assert [message.content for message in trace.assistant_messages] == actions
        assert (trace.num_turns, trace.num_branches, trace.is_truncated) == (len(actions), 1, own.truncated)
        assert trace.task.data.model_extra == {"branchwise": own.task}
    os.replace(written(tmp_path, "advantages", "verifiers"), tmp_path / "traces.jsonl")
    for read, step in zip(read_episodes(tmp_path, WireTrace), ADVANTAGES, strict=True):
        (trace,) = read.traces
        assert [message.content for message in trace.assistant_messages] == [step.action[0].text]
        assert (trace.reward, trace.metrics["advantage"]) == (step.q, step.advantage)
        assert trace.branches[0].advantages is None  # those are by token, and we have none
