"""Every loader against every kind of damage: one line that names the file, what is wrong and what was expected; and
small files that would become large are refused with their limit."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from branchwise import cli
from branchwise.agents.critics import ValueModel
from branchwise.agents.language_model import LanguageModel, check_model_folder
from branchwise.agents.named import check_model
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.math_tool.files import FileProblems
from branchwise.envs.negotiation import files as negotiation
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import acted, observed
from branchwise.envs.registry import simulator_for
from branchwise.envs.web_shop import files as shop_files
from branchwise.envs.web_shop.files import FileCatalogue
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.extraction import PreferencePair
from branchwise.search.records import load_episodes, load_pairs, save_episodes, save_pairs
from branchwise.search.store import load_trees, save_trees
from branchwise.training.loop.config import load_config
from branchwise.training.loop.recipe import load_recipe
from branchwise.training.settings import MAX_ENTRIES

ROOTS = [Root(TicTacToe().reset(0), task={"seed": 0})]
PAIR = PreferencePair((observed("goal"),), (acted("one"),), (acted("two"),))
PRODUCT = {
    "asin": "B1", "name": "Shirt", "full_description": "Red.", "category": "c", "query": "q", "product_category": "p",
    "small_description": ["soft"], "pricing": "$5", "customization_options": {"size": [{"value": "s"}, {"value": "m"}]},
}  # fmt: skip
WANTED = {"attributes": ["soft"], "instruction": "Find a shirt.", "instruction_attributes": ["soft"]}
CONTEXT = "1 4 4 1 1 2\n1 2 4 8 1 0\n"
HUMAN = (
    "<input> 1 4 4 1 1 2 </input> <dialogue> YOU: hi <eos> </dialogue> <output> item0=1 item1=4 item2=0 item0=0 item1=0"
    " item2=1 </output> <partner_input> 1 2 4 8 1 0 </partner_input>\n"
)

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "binary": lambda whole: bytes([0x93, 0xFF, 0x00, 0x01]) * 50,
    "cut": lambda whole: whole[: len(whole) * 2 // 3],
    "null": lambda whole: b"null\n",
    "a number": lambda whole: b"3\n",
    "a list": lambda whole: b"[1]\n",
    "an object of another kind": lambda whole: b'{"nonsense": 1}\n',
    "200,000 brackets": lambda whole: b"[" * 200_000 + b"\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole file or folder of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    settings = SearchSettings(simulations=30, selection="uct")
    save_trees(
        folder / "trees.parquet", search(TicTacToe(), ROOTS, None, RandomRollout(), settings, np.random.default_rng(0))
    )
    save_pairs(folder / "pairs.jsonl", [PAIR])
    save_pairs(folder / "both.jsonl", [PAIR, PreferencePair(PAIR.prompt, PAIR.chosen)])
    save_episodes(folder / "episodes.jsonl", [Episode({"seed": 0}, (observed("a"), acted("b")), (1.0,), True, 1)])
    tokenizer = make_tokenizer(["goal", "one", "two"])
    model = LanguageModel(make_model(tokenizer, width=16, layers=1, heads=2), tokenizer)
    model.save(folder / "model")
    ValueModel.from_language_model(model).save(folder / "critic")
    (folder / "run.yaml").write_text("env: branchwise/WebShop-v0\nrounds: 1\nrecipes: [step_dpo]\n")
    (folder / "shop").mkdir()
    (folder / "shop" / "items_shuffle.json").write_text(json.dumps([PRODUCT]))
    (folder / "shop" / "items_ins_v2.json").write_text(json.dumps({"B1": WANTED}))
    (folder / "shop" / "items_human_ins.json").write_text(
        json.dumps({"B1": [{"instruction": "A shirt.", "instruction_attributes": ["soft"], "instruction_options": []}]})
    )
    (folder / "problems.jsonl").write_text(json.dumps({"question": "2 + 2?", "answer": "It is 4.\n#### 4"}) + "\n")
    (folder / "contexts.txt").write_text(CONTEXT)
    (folder / "human.txt").write_text(HUMAN)
    (folder / "listings.json").write_text(json.dumps([{"category": "bike", "title": "Bike", "price": 40}]))
    (folder / "domain.json").write_text(json.dumps({"issues": {"price": ["low", "high"]}}))
    (folder / "casino.json").write_text(json.dumps([camp()]))
    return folder


def camp() -> dict[str, Any]:
    person = {
        "value2issue": {"High": "Food", "Medium": "Water", "Low": "Firewood"},
        "value2reason": {"High": "a", "Medium": "b", "Low": "c"},
        "outcomes": {"points_scored": 5},
    }
    return {
        "participant_info": {"mturk_agent_1": person, "mturk_agent_2": person},
        "chat_logs": [{"text": "Walk-Away", "id": "mturk_agent_1"}],
    }


MODEL_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
LOADERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "trees": ("trees.parquet", load_trees),
    "pairs": ("pairs.jsonl", load_pairs),
    "anchors": ("both.anchors.jsonl", lambda path: load_pairs(path.with_name("both.jsonl"))),
    "episodes": ("episodes.jsonl", load_episodes),
    **{
        f"model, {name}": (f"model/{name}", lambda path: LanguageModel.load(path.parent))
        for name in (*MODEL_FILES, "branchwise.json")
    },
    **{
        f"critic, {name}": (f"critic/{name}", lambda path: ValueModel.load(path.parent))
        for name in ("config.json", "model.safetensors", "tokenizer.json", "value_model.json", "value_head.safetensors")
    },
    "run": ("run.yaml", load_config),
    "recipe": ("run.yaml", lambda path: load_recipe(str(path))),
    "products": ("shop/items_shuffle.json", lambda path: FileCatalogue(path.parent)),
    "attributes": ("shop/items_ins_v2.json", lambda path: FileCatalogue(path.parent)),
    "instructions": ("shop/items_human_ins.json", lambda path: FileCatalogue(path.parent, goals="human")),
    "problems": ("problems.jsonl", lambda path: FileProblems(path, "all")),
    "contexts": ("contexts.txt", negotiation.deal_or_no_deal_contexts),
    "human dialogues": ("human.txt", negotiation.human_deals),
    "camp dialogues": ("casino.json", negotiation.casino_deals),
    "listings": ("listings.json", negotiation.listings),
    "domain": ("domain.json", negotiation.issue_domain),
}
HARMLESS = {  # what such a file says is as good as nothing
    *((f"model, {name}", "an object of another kind") for name in ("generation_config.json", "tokenizer_config.json")),
    *((name, "an object of another kind") for name in ("attributes", "instructions")),  # of products, none is there
    ("human dialogues", "empty"),
}
NO_NAME = {"recipe", "run"}  # settings are named by their key: "unknown setting nonsense"


def copied(place: Path, name: str, tmp_path: Path) -> Path:
    """A copy of a file with those beside it."""
    top = name.partition("/")[0]
    if "/" in name:
        shutil.copytree(place / top, tmp_path / top)
    else:
        for path in place.glob(f"{top.partition('.')[0]}.*"):
            shutil.copy(path, tmp_path)
    return tmp_path / name


@pytest.mark.parametrize("kind", LOADERS)
def test_a_whole_file_loads(kind: str, place: Path, tmp_path: Path) -> None:
    name, load = LOADERS[kind]
    if kind != "recipe":
        load(copied(place, name, tmp_path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", LOADERS)
def test_damage_is_one_line_that_names_the_file(kind: str, damage: str, place: Path, tmp_path: Path) -> None:
    name, load = LOADERS[kind]
    path = copied(place, name, tmp_path)
    before = path.read_bytes()
    after = DAMAGES[damage](before)
    path.write_bytes(after)
    if (kind, damage) in HARMLESS:
        load(path)
        return
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        load(path)
    said = " ".join(str(raised.value).split())
    assert cli.exit_code(raised.value) == 2
    assert kind in NO_NAME or path.name in said or str(path.parent) in said
    assert 20 < len(said) < 700 + len(str(path))


# ---- settings that another version saved -------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "name"), [("model", "branchwise.json"), ("critic", "value_model.json")])
def test_a_setting_of_a_newer_version_is_named_with_its_cure(
    folder: str, name: str, place: Path, tmp_path: Path
) -> None:
    path = copied(place, f"{folder}/{name}", tmp_path)
    load = LanguageModel.load if folder == "model" else ValueModel.load
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "stride": 3}))
    with pytest.raises(ValueError, match=rf"{name}: unknown setting 'stride'.*update branchwise, or remove"):
        load(path.parent)
    path.write_text(json.dumps({**saved, "max_prompt_tokens": "many"}))
    with pytest.raises(ValueError, match=rf"{name}: max_prompt_tokens='many' is str"):
        load(path.parent)


def test_weights_of_another_head_are_named(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = copied(place, "critic/value_head.safetensors", tmp_path)
    save_file({"weight": torch.zeros(1, 99), "bias": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"value_head\.safetensors: damaged, cut off, or of another model"):
        ValueModel.load(path.parent)


# ---- code of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["model", "critic"])
def test_a_model_that_brings_code_is_refused_without_a_question(
    command: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked on the terminal"))
    path = copied(place, f"{command}/config.json", tmp_path)
    config = json.loads(path.read_text())
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoModelForCausalLM": "own.Model"}
    path.write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))
    (path.parent / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    load = LanguageModel.load if command == "model" else ValueModel.load
    with pytest.raises(ValueError, match=r"comes with Python code of its own \(auto_map\), which is never run here"):
        load(path.parent)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_a_pickle_with_code_run_none(place: Path, tmp_path: Path) -> None:
    path = copied(place, "model/model.safetensors", tmp_path)

    class Boom:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    path.unlink()
    torch.save({"weight": Boom()}, path.with_name("pytorch_model.bin"))
    with pytest.raises(ValueError, match="is not a causal language model that transformers"):
        LanguageModel.load(path.parent)
    assert not (tmp_path / "ran").exists()


# ---- a model of another kind -------------------------------------------------------------------------------------


@pytest.mark.parametrize("refuse", [LanguageModel.load, check_model_folder, check_model])
def test_a_critic_is_no_language_model(refuse: Callable[[str], Any], place: Path) -> None:
    with pytest.raises(ValueError, match=r"critic is a value model \(critic\), which has no words \(--critic takes it"):
        refuse(str(place / "critic"))


def test_a_reward_model_is_no_language_model(place: Path, tmp_path: Path) -> None:
    """transformers loads its base and leaves the score out."""
    folder = shutil.copytree(place / "model", tmp_path / "rewards")
    transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).save_pretrained(folder)
    with pytest.raises(ValueError, match="saved as LlamaForSequenceClassification, a classifier or reward model"):
        LanguageModel.load(folder)


def test_weights_that_are_missing_are_not_drawn_at_random(place: Path, tmp_path: Path) -> None:
    """transformers loads a model without its head with a head of random numbers."""
    model = LanguageModel.load(place / "model")
    folder = model.save(tmp_path / "model")
    model.model.config.tie_word_embeddings = False
    transformers.AutoModel.from_config(model.model.config).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"no whole causal language model: it lacks the weights lm_head\.weight"):
        LanguageModel.load(folder)


# ---- what becomes large ------------------------------------------------------------------------------------------


def yaml_of_aliases(merged: bool) -> str:
    lines = ["a0: &a0 {x: 1}" if merged else "a0: &a0 [1, 1]"]
    for i in range(1, 40):
        before = f"*a{i - 1}, *a{i - 1}"
        lines.append(f"a{i}: &a{i} {{<<: [{before}]}}" if merged else f"a{i}: &a{i} [{before}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (yaml_of_aliases(False), rf"its aliases \(\*name\) make more than {MAX_ENTRIES:,} entries"),
        (yaml_of_aliases(True), "its aliases"),
        ("rounds: &r [*r]", "its aliases"),
        ("a: " + "[" * 200_000, "nested too deeply"),
        ("a: 2026-13-45", "not readable as YAML"),
        ("? [a]\n: 1", "not readable as YAML"),
        ("a: !!python/object/apply:os.system [echo]", "not readable as YAML"),
        ("a: \x00", "not readable as YAML"),
        ("rounds: 100000000", "rounds=100000000; the limit is 1,000"),
        ("base: {layers: 1000000000}", "layers=1000000000; the limit is 1,000"),
        ("train_goals: 1000000000000", "train_goals=1000000000000; the limit is 100,000,000"),
        ("recipes: [" + ", ".join(["rft"] * 101) + "]\nsearch_recipe: rft", "recipes names 101; the limit is 100"),
    ],
)
def test_settings_that_become_large_or_call_something_are_refused(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=fault):
        load_config(path)


def test_aliases_in_moderation_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("search: &s {simulations: 9}\nacting: {<<: *s, hide_outcome: true}\ncritic_search: *s")
    assert load_config(path).acting.simulations == load_config(path).critic_search.simulations == 9


def test_a_product_with_more_variants_than_a_shop_can_hold_is_named(place: Path, tmp_path: Path) -> None:
    path = copied(place, "shop/items_shuffle.json", tmp_path)
    options = {f"o{i}": [{"value": str(j)} for j in range(10)] for i in range(12)}
    path.write_text(json.dumps([{**PRODUCT, "customization_options": options}]))
    with pytest.raises(shop_files.CatalogueError, match=r"up to B1 make 1,000,000,000,000 goals; the limit of 1"):
        FileCatalogue(path.parent)
    assert len(FileCatalogue(path.parent, goals="human").goals) == 1


def test_a_price_beyond_all_numbers_is_named(place: Path, tmp_path: Path) -> None:
    path = copied(place, "shop/items_shuffle.json", tmp_path)
    path.write_text(json.dumps([{**PRODUCT, "pricing": "$" + "9" * 400}]))
    with pytest.raises(shop_files.CatalogueError, match="field 'pricing' is"):
        FileCatalogue(path.parent)


@pytest.mark.parametrize(
    ("env", "options", "fault"),
    [
        ("WebShop", {"products": 10**9}, "10 to 1,000,000 products"),
        ("Hex", {"size": 10**9}, "expected 2 to 11"),
        ("LiarsDice", {"dice": 10**9}, "from 1 to 5"),
        ("Bargaining", {"money": 10**7, "increments": 10**9}, "from 1 to 10,000"),
        ("BuyerSeller", {"price_order": 10**7, "increments": 10**9}, "from 1 to 10,000"),
        ("Persuasion", {"price": 10**400}, "price is above the limit"),
        ("MathTool", {"largest": 10**9}, "from 10 to 10000"),
        ("OpenSpiel", {"game": "hex", "board_size": 10**5}, "board_size=100000: the limit is 1,000"),
        ("OpenSpiel", {"game": "goofspiel", "num_cards": 10**8}, "num_cards=100000000: the limit is 1,000"),
    ],
)
def test_an_option_that_asks_for_a_world_too_large_is_refused(env: str, options: Any, fault: str) -> None:
    if env == "OpenSpiel":
        pytest.importorskip("pyspiel")
    with pytest.raises(ValueError, match=fault):
        simulator_for(f"branchwise/{env}-v0", **options)


# ---- by the commands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("train", "deep.jsonl", "--model", "model", "--out", "o"), "deep.jsonl, line 1: not JSON that can be read"),
        (("train", "pairs.jsonl", "--model", "cut", "--out", "o"), "model.safetensors: damaged or cut off"),
        (("pairs", "pairs.jsonl", "--out", "p.jsonl"), "pairs.jsonl: expected parquet written by save_trees"),
        (
            ("bench", "branchwise/WebShop-v0", "--agent", "model", "--simulations", "2", "--critic", "headless",
             "--goals", "2", "--option", "products=100"),
            "value_head.safetensors: damaged",
        ),
        (
            ("search", "branchwise/WebShop-v0", "--model", "cut", "--out", "t.parquet", "--option", "products=100"),
            "model.safetensors: damaged",
        ),
        (("loop", "empty.yaml", "--out", "run"), "empty.yaml holds nothing; expected 'key: value' lines"),
    ],
)  # fmt: skip
def test_damaged_files_end_a_command_with_one_line_and_code_2(
    arguments: tuple[str, ...],
    fault: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "model", "model")
    shutil.copytree(place / "model", "cut")
    shutil.copytree(place / "critic", "headless")
    shutil.copy(place / "pairs.jsonl", "pairs.jsonl")
    Path("deep.jsonl").write_bytes(b"[" * 200_000 + b"\n")
    Path("empty.yaml").touch()
    for path in (Path("cut") / "model.safetensors", Path("headless") / "value_head.safetensors"):
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SystemExit) as left:
        cli.app(list(arguments))
    said = capsys.readouterr()
    assert left.value.code == 2
    assert said.err.startswith("branchwise: ")
    assert said.err.count("\n") == 1
    assert fault in said.err


def test_a_file_of_the_right_kind_is_no_error_by_the_command(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        partial(cli.app, ["pairs", str(place / "trees.parquet"), "--out", str(tmp_path / "p.jsonl")])()
    assert left.value.code == 0
