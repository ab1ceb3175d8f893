"""Preference training: the losses against TRL's and closed forms, masks, weights, anchors, references, stops."""

import copy
import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from word_models import SHOP_WORDS

from branchwise.agents.language_model import LanguageModel
from branchwise.agents.prompting import actions_and_last_observation, all_turns
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.transcript import acted, messages, observed
from branchwise.envs.web_shop.rules import WebShopSimulator
from branchwise.search.extraction import PreferencePair
from branchwise.training.batches import LONGEST_PACKED, by_place, collate, learned_tokens, moved, projection, side_logps
from branchwise.training.losses import pair_losses
from branchwise.training.preference import (
    PreferenceSettings,
    action_kind_counts,
    check_logged,
    label_smoothing,
    logged_references,
    model_references,
    preference_objective,
    train_preference,
    train_preference_rows,
)
from branchwise.training.rows import PreferenceRow, Segment, Side, preference_rows
from branchwise.training.trainer import TrainingStopped

PROMPT = (observed("goal red shirt"), acted("search[red shirt]"), observed("results page one two three"))


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(SHOP_WORDS)


def model_of(tokenizer, seed: int = 0):
    return make_model(tokenizer, width=16, layers=2, heads=2, max_tokens=128, seed=seed)


def pairs_of(count: int, **more) -> list[PreferencePair]:
    numbers = ["one", "two", "three"]
    return [
        PreferencePair(
            PROMPT if i % 2 else PROMPT[:1],
            (acted(f"click[{numbers[i % 3]}]"),),
            (acted(f"click[{numbers[(i + 1) % 3]} {numbers[i % 2]}]"),),
            chosen_q=1.0,
            ref_chosen_logp=-8.0 - i % 5,
            ref_rejected_logp=-9.0 + i % 3,
            **more,
        )
        for i in range(count)
    ]


def ratio_tensors(h: float) -> dict[str, torch.Tensor]:
    return {
        "chosen_ratio": torch.tensor([h], requires_grad=True),
        "rejected_ratio": torch.tensor([0.0], requires_grad=True),
        "chosen_tokens": torch.tensor([2.0]),
        "rejected_tokens": torch.tensor([4.0]),
        "margin": torch.tensor([0.0]),
        "epsilon": torch.tensor([0.0]),
    }


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def loss_of(model, rows, references, settings) -> torch.Tensor:
    return preference_objective(model, rows, references, settings)(np.arange(len(rows))).loss


def sides_of(rows: list[PreferenceRow]) -> list[Side]:
    return [row.chosen for row in rows] + [row.rejected for row in rows]


@pytest.mark.parametrize(
    ("loss", "smoothing", "sft_weight"),
    [
        ("sigmoid", 0.0, 0.0),
        ("sigmoid", 0.0, 0.7),
        ("sigmoid_norm", 0.0, 0.0),
        ("ipo", 0.0, 0.0),
        ("hinge", 0.0, 0.0),
        ("robust", 0.1, 0.0),
    ],
)
def test_loss_equals_trls_on_single_turn_pairs(tokenizer, tmp_path, loss, smoothing, sft_weight) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    pairs = [dataclasses.replace(pair, label_smoothing=smoothing) for pair in pairs_of(6)]
    model, reference = model_of(tokenizer, 0), model_of(tokenizer, 1)
    rows, _ = preference_rows(pairs, tokenizer)
    settings = PreferenceSettings(beta=0.4, loss=loss, sft_weight=sft_weight)
    ours = loss_of(model, rows, model_references(reference, rows), settings)

    theirs = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(tmp_path),
            loss_type=[loss, "sft"] if sft_weight else [loss],
            loss_weights=[1.0, sft_weight] if sft_weight else None,
            beta=0.4,
            label_smoothing=smoothing,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": messages(pair.prompt),
                    "chosen": messages(pair.chosen),
                    "rejected": messages(pair.rejected),
                }
                for pair in pairs
            ]
        ),
        processing_class=tokenizer,
    )
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(len(pairs))])
    expected = theirs.compute_loss(theirs.model, batch)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-5)


def test_margin_and_smoothing_have_their_closed_forms() -> None:
    h, beta, margin, epsilon = 1.3, 0.5, 0.4, 0.2
    tensors = {**ratio_tensors(h), "margin": torch.tensor([margin]), "epsilon": torch.tensor([epsilon])}

    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x))

    logit = beta * h - margin
    expected = -(1 - epsilon) * log_sigmoid(logit) - epsilon * log_sigmoid(-logit)
    assert pair_losses("sigmoid", beta, **tensors).item() == pytest.approx(expected, abs=1e-6)


def test_smoothing_of_a_half_gives_no_gradient_at_the_reference() -> None:
    tensors = {**ratio_tensors(0.0), "epsilon": torch.tensor([0.5])}
    pair_losses("sigmoid", 0.5, **tensors).sum().backward()
    assert tensors["chosen_ratio"].grad.item() == 0.0
    tensors = ratio_tensors(0.0)
    pair_losses("sigmoid", 0.5, **tensors).sum().backward()
    assert tensors["chosen_ratio"].grad.item() == pytest.approx(-0.25)


def test_soft_labels_from_q_have_the_optimum_of_agent_qs_theorem() -> None:
    """Minimising over all pairs of actions of one state gives π ∝ π_ref · exp(Q/β)."""
    q, reference, beta = torch.tensor([0.9, 0.1, 0.5, -0.4]), torch.tensor([0.1, 0.5, 0.2, 0.2]).log(), 0.7
    logits = torch.zeros(4, requires_grad=True)
    chosen, rejected = torch.tensor([(i, j) for i in range(4) for j in range(4) if q[i] > q[j]]).T
    blank = (Segment((1,), (2,), (1,)),)
    epsilon = torch.tensor(
        [
            label_smoothing(PreferenceRow(blank, blank, chosen_q=float(q[i]), rejected_q=float(q[j])), "q")
            for i, j in zip(chosen, rejected, strict=True)
        ]
    )
    ones, zeros = torch.ones(len(chosen)), torch.zeros(len(chosen))
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        ratio = torch.log_softmax(logits, 0) - reference
        loss = pair_losses("sigmoid", beta, ratio[chosen], ratio[rejected], ones, ones, zeros, epsilon).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = torch.softmax(reference + q / beta, 0)
    assert torch.allclose(torch.softmax(logits, 0), expected, atol=1e-4)


@pytest.mark.parametrize(("won", "lost", "epsilon"), [(5, 5, 0.5), (1000, 0, 0.0), (3, 1, 0.25), (1, 3, 0.5)])
def test_smoothing_from_visits_is_mcts_dpos(won: int, lost: int, epsilon: float) -> None:
    side = (Segment((1,), (2,), (1,)),)
    assert label_smoothing(PreferenceRow(side, side, chosen_visits=won, rejected_visits=lost), "visits") == epsilon


def test_smoothing_has_its_ends_where_nobody_visited_and_where_values_lie_far_apart() -> None:
    side = (Segment((1,), (2,), (1,)),)
    assert label_smoothing(PreferenceRow(side, side), "visits") == 0.0
    assert label_smoothing(PreferenceRow(side, side, chosen_visits=1, rejected_visits=1), "visits") == 0.5
    assert label_smoothing(PreferenceRow(side, side, chosen_visits=0, rejected_visits=1), "visits") == 0.5
    for q, epsilon in ((0.0, 0.5), (1e6, 0.0), (-1e6, 1.0), (800.0, 0.0), (math.log(3), 0.25)):
        row = PreferenceRow(side, side, chosen_q=q + 1, rejected_q=1.0, label_smoothing=0.125)
        assert label_smoothing(row, "q") == pytest.approx(epsilon, abs=1e-12)
        assert label_smoothing(row, "pair") == 0.125


def pair_row(prompt: int, chosen: int, rejected: int, shared: bool = True) -> PreferenceRow:
    """A row whose prompts and answers have so many tokens."""
    sides = [
        (Segment((first,) * prompt, tuple(range(10, 10 + size)), (1,) * size),)
        for first, size in ((1, chosen), (1 if shared else 2, rejected))
    ]
    return PreferenceRow(*sides)


@pytest.mark.parametrize(
    ("row", "packed"),
    [
        (pair_row(4, 2, 3), True),
        (pair_row(4, 2, 3, shared=False), False),  # nothing to share
        (pair_row(LONGEST_PACKED - 5, 2, 3), True),
        (pair_row(LONGEST_PACKED - 4, 2, 3), False),
        (pair_row(2, 4, LONGEST_PACKED - 6), True),
        (pair_row(2, 4, LONGEST_PACKED - 5), False),
    ],
)
def test_a_batch_is_packed_where_a_prompt_is_shared_and_its_row_is_short_enough(row, packed) -> None:
    for rows in ([row], [row, pair_row(1, 2, 2, shared=False)]):
        batch = collate(sides_of(rows), packed=True)
        assert bool(batch.reading) is packed
        assert not collate(sides_of(rows), packed=False).reading
        assert batch.tokens.tolist() == [sum(row.chosen[0].mask) for row in rows] + [
            sum(row.rejected[0].mask) for row in rows
        ]


def test_a_batch_is_moved_field_by_field() -> None:
    batch = collate(sides_of([pair_row(4, 2, 3), pair_row(4, 3, 5)]), packed=True)
    for name, value in dataclasses.asdict(moved(batch, torch.device("meta"))).items():
        kept = getattr(batch, name)
        for key in kept if name == "reading" else (None,):
            tensor, expected = (value, kept) if key is None else (value[key], kept[key])
            assert tensor.device.type == "meta"
            assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
    same = moved(batch, torch.device("cpu"))
    for name in ("ids", "flat", "target", "side", "place", "tokens"):
        assert torch.equal(getattr(same, name), getattr(batch, name))
    assert same.reading.keys() == batch.reading.keys() == {"position_ids", "attention_mask"}


def test_observation_tokens_are_read_and_never_learned(tokenizer) -> None:
    model = model_of(tokenizer)
    long = (*PROMPT[1:], acted("click[one]"))
    (row,), _ = preference_rows([PreferencePair(PROMPT[:1], long, (acted("click[two]"),))], tokenizer, all_turns)
    batch = collate(sides_of([row]), packed=False)
    logits = model(input_ids=batch.ids).logits.detach().requires_grad_()
    sums, _ = side_logps(lambda _, flat: logits.reshape(-1, logits.shape[-1])[flat], batch)
    (sums[0] - sums[1]).backward()
    moved = (logits.grad.abs().sum(-1) > 0)[0, : len(row.chosen[0].input_ids) - 1]
    assert moved.tolist() == [bool(learned) for learned in row.chosen[0].input_mask[1:]]
    # Their prediction does not count, though what follows is conditioned on them.
    expected = 0.0
    with torch.no_grad():
        logps = torch.log_softmax(model(torch.tensor([row.chosen[0].input_ids])).logits[0], -1)
    for place, (token, mask) in enumerate(zip(row.chosen[0].input_ids, row.chosen[0].input_mask, strict=True)):
        expected += mask * logps[place - 1, token].item()
    assert sums[0].item() == pytest.approx(expected, abs=1e-4)


def test_packed_sides_have_the_log_probabilities_and_gradients_of_plain_ones(tokenizer) -> None:
    rows, _ = preference_rows(pairs_of(7), tokenizer)
    trajectory = PreferencePair(PROMPT[:1], (*PROMPT[1:], acted("click[one]")), (acted("click[two]"),))
    rows += preference_rows([trajectory], tokenizer, actions_and_last_observation)[0]
    results = []
    for packed in (False, True):
        model = model_of(tokenizer)
        batch = collate(sides_of(rows), packed)
        assert bool(batch.reading) is packed
        assert batch.ids.shape[0] == (3 if packed else 17)  # three prompts; two sides a pair and a second step
        sums, logps = side_logps(projection(model), batch)
        (sums * torch.linspace(-1, 1, len(sums))).sum().backward()
        results.append((sums.detach(), logps.sum(), [p.grad for p in model.parameters()]))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    for plain, packed_gradient in zip(results[0][2], results[1][2], strict=True):
        assert torch.allclose(plain, packed_gradient, atol=1e-4)


def test_a_side_sums_over_its_segments(tokenizer) -> None:
    """Under a forgetful history a trajectory's log-probability is the sum of its steps' (Agent Q, Eq. 6)."""
    model = model_of(tokenizer)
    steps = [(PROMPT[:1], PROMPT[1]), (PROMPT, acted("click[one]"))]
    whole = PreferencePair(PROMPT[:1], (*PROMPT[1:], acted("click[one]")))
    single = [PreferencePair(prompt, (turn,)) for prompt, turn in steps]
    history = actions_and_last_observation
    together = model_references(model, preference_rows([whole], tokenizer, history)[0])[0, 0]
    apart = model_references(model, preference_rows(single, tokenizer, history)[0])[:, 0]
    assert together == pytest.approx(apart.sum(), abs=1e-4)


def test_a_trajectory_of_one_step_is_a_step_pair(tokenizer) -> None:
    step = pairs_of(1)[0]
    (row,), _ = preference_rows([step], tokenizer, all_turns)
    episode = dataclasses.replace(step, prompt=PROMPT[:1], kind="trajectory")
    for history in (all_turns, actions_and_last_observation):
        assert preference_rows([episode], tokenizer, history)[0][0] == row


def test_rows_of_weight_zero_do_not_contribute(tokenizer) -> None:
    rows, _ = preference_rows(pairs_of(4), tokenizer)
    idle = [dataclasses.replace(row, weight=0.0) for row in preference_rows(pairs_of(6)[4:], tokenizer)[0]]
    model, settings = model_of(tokenizer), PreferenceSettings()
    without = loss_of(model, rows, logged_references(rows), settings)
    beside = loss_of(model, rows + idle, logged_references(rows + idle), settings)
    assert beside.item() == pytest.approx(without.item(), abs=1e-6)


def test_weights_are_a_weighted_mean_over_pairs(tokenizer) -> None:
    rows, _ = preference_rows(pairs_of(2), tokenizer)
    model, settings = model_of(tokenizer), PreferenceSettings(sft_weight=0.0)
    single = [loss_of(model, [r], logged_references([r]), settings).item() for r in rows]
    weighted = [dataclasses.replace(r, weight=w) for r, w in zip(rows, (1.0, 3.0), strict=True)]
    both = loss_of(model, weighted, logged_references(weighted), settings)
    assert both.item() == pytest.approx((single[0] + 3 * single[1]) / 4, abs=1e-5)


def test_anchors_alone_are_pure_supervised_training(tokenizer) -> None:
    pairs = [dataclasses.replace(pair, rejected=(), ref_chosen_logp=None) for pair in pairs_of(4)]
    rows, _ = preference_rows(pairs, tokenizer)
    model = model_of(tokenizer)
    ours = loss_of(model, rows, logged_references(rows), PreferenceSettings(sft_weight=0.5))
    sums = model_references(model, rows)[:, 0]
    expected = -0.5 * sums.sum() / sum(learned_tokens(row.chosen) for row in rows)
    assert ours.item() == pytest.approx(expected, abs=1e-5)


def test_training_is_the_same_for_the_same_seed_and_raises_the_chosen(tokenizer) -> None:
    reference, trained, reports = model_of(tokenizer), [], []
    for _ in range(2):
        model = copy.deepcopy(reference)
        torch.rand(2)
        settings = PreferenceSettings(learning_rate=5e-3, epochs=8, batch_size=4, log_every=10)
        reports.append(train_preference(model, tokenizer, pairs_of(24), settings, reference=reference, seed=3))
        trained.append(model)
    assert same_weights(*trained)
    assert not same_weights(trained[0], reference)
    history = reports[0].history
    assert [record["step"] for record in history] == [10, 20, 30, 40, 48]
    assert history[-1]["accuracy"] == 1.0
    assert history[-1]["margin"] > history[0]["margin"]
    assert reports[0].rows.rows == 24


def test_a_trained_model_is_left_as_a_plain_model(tokenizer) -> None:
    """TRL binds ``forward`` to the model that it trains; a deep copy must compute with its own weights all the same."""
    model = model_of(tokenizer)
    config, generation = model.config.to_dict(), model.generation_config.to_dict()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    settings, reference = PreferenceSettings(batch_size=4), copy.deepcopy(model)
    train_preference(model, tokenizer, pairs_of(4), settings, reference=reference, seed=0)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert "forward" not in vars(model)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.config.to_dict() == config
    assert model.generation_config.to_dict() == generation
    copied, ids = copy.deepcopy(model), torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        before = copied(ids).logits
        for parameter in copied.parameters():
            parameter.mul_(0.5)
        assert not torch.allclose(copied(ids).logits, before)
        assert torch.allclose(model(ids).logits, before)


def test_anchors_keep_alive_an_action_that_contrasts_only_ever_reject(tokenizer) -> None:
    """Buying is wrong on the first page and right on the second, where nothing else was tried."""
    early, late = (observed("goal red shirt results page"),), (observed("goal red shirt item one"),)
    buy, look = acted("click[buy now]"), acted("click[one]")
    pairs = [PreferencePair(early, (look,), (buy,))] * 32
    anchors = [PreferencePair(late, (buy,))] * 32
    reference, log_odds = model_of(tokenizer), {}
    for name, rows in {"pairs": pairs, "pairs and anchors": pairs + anchors}.items():
        model = copy.deepcopy(reference)
        settings = PreferenceSettings(learning_rate=3e-3, epochs=4, batch_size=8, max_chosen_drop=20.0)
        train_preference(model, tokenizer, rows, settings, reference=reference, seed=0)
        (found,) = LanguageModel(model, tokenizer).score([late], [[buy.text, look.text]])
        log_odds[name] = found[0] - found[1]
    assert log_odds["pairs"] < 0 < log_odds["pairs and anchors"]


def test_collapse_stops_and_gives_back_the_last_good_state(tokenizer) -> None:
    pairs = pairs_of(40)
    model = model_of(tokenizer)
    before = copy.deepcopy(model)
    settings = PreferenceSettings(learning_rate=0.3, sft_weight=0.0, batch_size=4, log_every=2, max_chosen_drop=0.5)
    with pytest.raises(TrainingStopped, match="max_chosen_drop") as stopped:
        train_preference(model, tokenizer, pairs, settings, reference=before, seed=0)
    assert stopped.value.history[-1]["chosen_drop"] > 0.5
    assert "forward" not in vars(model)
    if stopped.value.step == 2:
        assert same_weights(model, before)


def test_a_loss_that_is_not_a_number_stops(tokenizer) -> None:
    pairs = pairs_of(8)
    model = model_of(tokenizer)
    before, broken = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(TrainingStopped, match="the loss was nan"):
        train_preference(model, tokenizer, pairs, PreferenceSettings(batch_size=8), reference=broken, seed=0)
    assert same_weights(model, before)


@pytest.mark.parametrize("logp", [math.nan, math.inf, -math.inf, -1e300, 5.0])
def test_a_logged_reference_that_is_no_log_probability_is_refused_with_its_pair(logp: float, tokenizer) -> None:
    pairs = pairs_of(8)
    pairs[5] = dataclasses.replace(pairs[5], ref_chosen_logp=logp)
    with pytest.raises(ValueError, match=r"pair 5 has ref_chosen_logp=.*a log-probability is at most 0.*--reference"):
        train_preference(model_of(tokenizer), tokenizer, pairs, PreferenceSettings(batch_size=8), seed=0)


def test_errors_name_the_pair_and_the_cure(tokenizer) -> None:
    model, settings = model_of(tokenizer), PreferenceSettings()

    def train(pairs: list[PreferencePair], reference: object = "logged", **more: object) -> None:
        train_preference(
            model,
            tokenizer,
            pairs,
            dataclasses.replace(settings, **more),
            reference=reference,
            seed=0,
        )

    with pytest.raises(ValueError, match="no pairs to train on"):
        train([])
    broken = [*pairs_of(2), dataclasses.replace(pairs_of(1)[0], ref_rejected_logp=None)]
    with pytest.raises(ValueError, match=r"pair 2 has ref_chosen_logp=-8\.0 and ref_rejected_logp=None"):
        train(broken)
    with pytest.raises(ValueError, match="frozen copy"):
        train(pairs_of(2), reference=model)
    with pytest.raises(ValueError, match=r"pair 0 has margin=0\.1.*loss='ipo'"):
        train(pairs_of(2, margin=0.1), loss="ipo")
    with pytest.raises(ValueError, match="every row is an anchor"):
        train([dataclasses.replace(pair, rejected=()) for pair in pairs_of(2)], sft_weight=0.0)
    with pytest.raises(ValueError, match="expected one of sigmoid"):
        PreferenceSettings(loss="dpo")  # type: ignore[arg-type]


def test_logged_references_are_checked_against_recomputed_ones(tokenizer) -> None:
    model = model_of(tokenizer)
    rows, _ = preference_rows(pairs_of(5), tokenizer)
    references = model_references(model, rows)
    logged = [
        dataclasses.replace(row, ref_chosen_logp=float(c), ref_rejected_logp=float(r))
        for row, (c, r) in zip(rows, references, strict=True)
    ]
    assert check_logged(model, logged) < 1e-6
    off = [dataclasses.replace(row, ref_chosen_logp=row.ref_chosen_logp - 1.0) for row in logged]
    with pytest.raises(ValueError, match="nats a token"):
        check_logged(model, off)
    assert math.isnan(
        check_logged(model, [dataclasses.replace(r, ref_chosen_logp=None, ref_rejected_logp=None) for r in rows])
    )


@pytest.mark.parametrize("history", [all_turns, actions_and_last_observation])
@pytest.mark.parametrize("limit", [None, 8])
def test_what_the_policy_logs_is_what_training_recomputes(tokenizer, history, limit) -> None:
    model = model_of(tokenizer)
    policy = LanguageModel(model, tokenizer, history=history, max_prompt_tokens=limit)
    pairs = []
    for pair in pairs_of(6):
        (scores,) = policy.score([pair.prompt], [[pair.chosen[0].text, pair.rejected[0].text]])
        pairs.append(dataclasses.replace(pair, ref_chosen_logp=float(scores[0]), ref_rejected_logp=float(scores[1])))
    rows, counts = preference_rows(pairs, tokenizer, history, policy.max_prompt_tokens)
    assert bool(counts.truncated_prompts) is (limit is not None)
    assert check_logged(model, rows) < 1e-5


def test_reference_of_a_batch_does_not_depend_on_its_company(tokenizer) -> None:
    model = model_of(tokenizer)
    rows, _ = preference_rows(pairs_of(9), tokenizer)
    alone = np.concatenate([model_references(model, [row]) for row in rows])
    assert np.allclose(model_references(model, rows), alone, atol=1e-5)


def test_kinds_of_action_are_counted_on_both_sides() -> None:
    kind = WebShopSimulator(products=60).action_kind
    assert kind("search[Red shirt]") == "search"
    assert kind("Click[Buy Now]") == "click[buy now]"
    assert kind("click[b000x]") == "click"
    assert kind("buy") == "malformed"
    pairs = [
        PreferencePair(PROMPT, (acted("click[one]"),), (acted("click[buy now]"),)),
        PreferencePair(PROMPT, (acted("click[two]"), observed("click[buy now]"), acted("search[a]")), ()),
    ]
    assert action_kind_counts(pairs, kind) == {"click": (2, 0), "click[buy now]": (0, 1), "search": (1, 0)}


def test_rows_can_be_trained_without_pairs(tokenizer) -> None:
    rows, _ = preference_rows(pairs_of(4), tokenizer)
    seen: list[dict] = []
    settings = PreferenceSettings(epochs=2, max_chosen_drop=10.0)
    history = train_preference_rows(model_of(tokenizer), rows, settings, "logged", 0, seen.append)
    assert history == seen
    assert history[-1]["step"] == 2


def dropping(seed: int, dropout: float) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 400, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128}
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    return GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=3, eos_token_id=3))


def test_a_model_with_dropout_trains_without_it_as_its_reference_is_read(tokenizer) -> None:
    settings = PreferenceSettings(learning_rate=1e-2, batch_size=4, max_chosen_drop=50.0)
    trained = []
    for dropout in (0.5, 0.0):
        model = dropping(0, dropout).train()
        train_preference(model, tokenizer, pairs_of(8), settings, reference="start", seed=0)
        assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [dropout] * 4
        assert model.training
        trained.append(model)
    assert same_weights(*trained)


def test_the_start_as_reference_is_a_frozen_copy_of_the_model(tokenizer) -> None:
    settings, models = PreferenceSettings(learning_rate=1e-2, batch_size=4), [model_of(tokenizer) for _ in range(2)]
    train_preference(models[0], tokenizer, pairs_of(8), settings, reference="start", seed=0)
    train_preference(models[1], tokenizer, pairs_of(8), settings, reference=model_of(tokenizer), seed=0)
    assert same_weights(*models)
    with pytest.raises(ValueError, match="reference='begin'; expected 'logged', 'start'"):
        train_preference(models[0], tokenizer, pairs_of(8), settings, reference="begin", seed=0)


def test_the_learned_tokens_of_a_side_are_numbered_in_their_order(tokenizer) -> None:
    """Packed or not, and though one prompt is first in one side and second in the other."""
    first, second = (Segment((1, 2), (5, 6, 7, 8), (1, 0, 1, 1)),), (Segment((1, 3), (9, 4), (1, 1)),)
    sides = [first + second, second + first, ()]
    expected = [[5, 7, 8, 9, 4], [9, 4, 5, 7, 8], [0] * 5]
    for packed in (True, False):
        batch = collate(sides, packed)
        assert bool(batch.reading) is packed
        assert by_place(batch, batch.target).tolist() == expected
        assert batch.tokens.tolist() == [5, 5, 0]
