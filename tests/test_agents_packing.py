import numpy as np

from branchwise.agents.packing import LONGEST_REMEMBERED, batches_by_length, pack, prefix_tree


def test_continuations_that_begin_alike_share_tokens() -> None:
    row = prefix_tree([7, 8], [[1, 2, 9], [1, 3, 9], [4]])
    # Branches: 1 (after 8), 2 and 3 (after 1); the last tokens 9, 9 and 4 predict nothing and are left out.
    assert row.tokens.tolist() == [7, 8, 1, 2, 3]
    assert row.source.tolist() == [1, 2, 3, 1, 2, 4, 1]
    assert row.target.tolist() == [1, 2, 9, 1, 3, 9, 4]
    assert row.places.tolist() == [1, 2, 3, 4]
    assert row.lengths.tolist() == [3, 3, 1]
    batch = pack([row], pad=0)
    assert batch.positions.tolist() == [[0, 1, 2, 3, 3]]
    assert batch.mask[0, 0].astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 1],
    ]


def test_last_tokens_are_kept_on_request() -> None:
    row = prefix_tree([7, 8], [[1, 2], [], [1]], keep_last=True)
    assert row.tokens.tolist() == [7, 8, 1, 2]
    assert row.last.tolist() == [3, 1, 2]


def test_no_row_sees_its_padding() -> None:
    short, long = prefix_tree([1], [[2, 3]]), prefix_tree([1, 2, 3, 4], [[5, 6, 7]])
    batch = pack([short, long], pad=99)
    assert batch.tokens[0].tolist() == [1, 2, 99, 99, 99, 99]
    assert not batch.mask[0, 0, :2, 2:].any()
    assert batch.mask.diagonal(axis1=2, axis2=3).all()


def test_batches_hold_the_budget_and_every_row() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 100).tolist()
    batches = list(batches_by_length([*lengths, 500], budget=120))
    assert sorted(i for batch in batches for i in batch) == list(range(101))
    assert batches[0] == [100]
    assert all(len(batch) * max(lengths[i] for i in batch) <= 120 for batch in batches[1:])


def test_a_batch_fills_its_budget_to_the_last_token() -> None:
    assert list(batches_by_length([3, 5, 4], budget=15)) == [[1, 2, 0]]
    assert list(batches_by_length([3, 5, 4], budget=14)) == [[1, 2], [0]]
    assert list(batches_by_length([5, 5], budget=4)) == [[0], [1]]
    assert list(batches_by_length([], budget=4)) == []


def test_short_continuations_are_grown_once_and_long_ones_afresh() -> None:
    limit = list(range(LONGEST_REMEMBERED - 1))
    assert prefix_tree([7], [limit, [1]]).branches is prefix_tree([8, 9], [limit, [1]]).branches
    assert prefix_tree([7], [limit, [1, 2]]).branches is not prefix_tree([7], [limit, [1, 2]]).branches
    assert prefix_tree([7], [[1, 2]]).branches is not prefix_tree([7], [[1, 2]], keep_last=True).branches


def test_a_branch_token_sees_the_prompt_its_ancestors_and_itself() -> None:
    row = prefix_tree([7], [[1, 2, 3, 4], [1, 5, 3, 4], [6, 2, 3]])
    assert row.tokens.tolist() == [7, 1, 2, 3, 5, 3, 6, 2]
    seen = pack([row], pad=0).mask[0, 0]
    ancestors = {1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 4: {1, 4}, 5: {1, 4, 5}, 6: {6}, 7: {6, 7}}
    for token, others in ancestors.items():
        assert set(seen[token].nonzero()[0].tolist()) == {0, *others}
    assert pack([row], pad=0).positions.tolist() == [[0, 1, 2, 3, 2, 3, 1, 2]]
    assert row.last.tolist() == [3, 5, 7]
