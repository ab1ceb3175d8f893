"""How fast candidates are scored: packed rows against the usual ways, in one interleaved run.

Ways: ``packed`` (LanguageModel.score: the prompt once, candidates as branches of one row), ``cache`` (the prompt's
key-value cache, repeated for a batch of candidates), ``padded`` (prompt and candidate as a row, rows padded in
batches), ``single`` (one forward a candidate). ``prompts`` is the floor of any way that reads each prompt once: a
forward over the prompts alone, nothing projected on the vocabulary. All five run in turn, several times; the best
time of each counts, so that a busy machine disturbs them alike. Log-probabilities of the ways are compared, too.

    python benchmarks/scoring.py --prompts 64 --prompt-tokens 150 --candidates 12 --width 64
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import DynamicCache

from branchwise.agents.language_model import LanguageModel
from branchwise.agents.packing import batches_by_length
from branchwise.agents.prompting import completion_ids, prompt_ids
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.transcript import observed

Ids = list[int]


def padded(rows: Sequence[Ids], device: torch.device) -> torch.Tensor:
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return tokens.to(device)


def summed(logits: torch.Tensor, completion: Ids) -> float:
    """``logits`` ``[T, V]`` that predict the ``T`` tokens of ``completion``."""
    targets = torch.tensor(completion, device=logits.device)[:, None]
    return float(torch.log_softmax(logits.float(), dim=-1).gather(1, targets).sum())


def by_single(model: LanguageModel, prompts: list[Ids], completions: list[list[Ids]], budget: int) -> list[list[float]]:
    answers = []
    for prompt, own in zip(prompts, completions, strict=True):
        answers.append([])
        for completion in own:
            logits = model.model(padded([prompt + completion], model.model.device), use_cache=False).logits[0]
            answers[-1].append(summed(logits[len(prompt) - 1 : -1], completion))
    return answers


def by_padding(
    model: LanguageModel, prompts: list[Ids], completions: list[list[Ids]], budget: int
) -> list[list[float]]:
    rows = [(i, j) for i, own in enumerate(completions) for j in range(len(own))]
    answers = [[0.0] * len(own) for own in completions]
    for batch in batches_by_length([len(prompts[i]) + len(completions[i][j]) for i, j in rows], budget):
        tokens = padded([prompts[i] + completions[i][j] for i, j in (rows[r] for r in batch)], model.model.device)
        logits = model.model(tokens, use_cache=False).logits
        for place, (i, j) in enumerate(rows[r] for r in batch):
            start = len(prompts[i]) - 1
            answers[i][j] = summed(logits[place, start : start + len(completions[i][j])], completions[i][j])
    return answers


def by_cache(model: LanguageModel, prompts: list[Ids], completions: list[list[Ids]], budget: int) -> list[list[float]]:
    answers = []
    for prompt, own in zip(prompts, completions, strict=True):
        cache = DynamicCache(config=model.model.config)
        first = model.model(
            padded([prompt], model.model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[0]
        cache.batch_repeat_interleave(len(own))
        later = model.model(
            padded([c[:-1] for c in own], model.model.device), past_key_values=cache, use_cache=True
        ).logits
        answers.append([summed(torch.cat([first, later[j, : len(c) - 1]]), c) for j, c in enumerate(own)])
    return answers


def by_packing(
    model: LanguageModel, prompts: list[Ids], completions: list[list[Ids]], budget: int
) -> list[list[float]]:
    logps = model._continuation_logps(prompts, completions)
    answers = []
    for own in completions:
        answers.append([])
        for completion in own:
            answers[-1].append(float(logps[: len(completion)].sum()))
            logps = logps[len(completion) :]
    return answers


def prompts_alone(model: LanguageModel, prompts: list[Ids], completions: list[list[Ids]], budget: int) -> None:
    for batch in batches_by_length([len(prompt) for prompt in prompts], budget):
        model.model.base_model(padded([prompts[i] for i in batch], model.model.device), use_cache=False)


WAYS: dict[str, Callable[..., list[list[float]] | None]] = {
    "prompts": prompts_alone,
    "packed": by_packing,
    "cache": by_cache,
    "padded": by_padding,
    "single": by_single,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=150, help="mean; lengths vary by a fifth around it")
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--candidate-tokens", type=int, default=4, help="end of turn included")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    rng = np.random.default_rng(0)
    words = [f"w{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}" for i in range(arguments.words)]
    tokenizer = make_tokenizer(words)
    room = 2 * (arguments.prompt_tokens + arguments.candidate_tokens) + 64
    network = make_model(
        tokenizer, width=arguments.width, layers=arguments.layers, heads=arguments.heads, max_tokens=room
    )
    network = network.to(arguments.device, torch.bfloat16 if arguments.bfloat16 else torch.float32)
    model = LanguageModel(network, tokenizer, max_new_tokens=16)
    spread = arguments.prompt_tokens // 5
    prompts = [
        prompt_ids(tokenizer, (observed(" ".join(rng.choice(words, arguments.prompt_tokens + int(extra)))),))
        for extra in rng.integers(-spread, spread + 1, arguments.prompts)
    ]
    completions = [
        [
            completion_ids(tokenizer, " ".join(["click[", *rng.choice(words, max(0, arguments.candidate_tokens - 2))]))
            for _ in range(arguments.candidates)
        ]
        for _ in prompts
    ]
    budget = model._forward.token_budget
    best = dict.fromkeys(WAYS, float("inf"))
    answers: dict[str, np.ndarray] = {}
    with model._forward.inference():
        for _ in range(arguments.repeats):
            for name, way in WAYS.items():
                start = time.perf_counter()
                found = way(model, prompts, completions, budget)
                if arguments.device != "cpu":
                    torch.cuda.synchronize()
                best[name] = min(best[name], time.perf_counter() - start)
                if found is not None:
                    answers[name] = np.array(found)

    size = sum(p.numel() for p in network.parameters())
    print(f"{size / 1e6:.2f} M parameters, {len(prompts)} prompts of about {arguments.prompt_tokens} tokens, ", end="")
    print(f"{arguments.candidates} candidates of {arguments.candidate_tokens}, {network.dtype}, {arguments.device}")
    print(f"{'way':8} {'ms a prompt':>12} {'times packed':>13} {'largest |Δ log-prob|':>21}")
    for name in WAYS:
        difference = f"{np.abs(answers[name] - answers['single']).max():21.1e}" if name in answers else ""
        print(f"{name:8} {1e3 * best[name] / len(prompts):12.2f} {best[name] / best['packed']:13.2f} {difference}")


if __name__ == "__main__":
    main()
