import numpy as np

from branchwise.agents.packing import batches_by_length, pack, prefix_tree


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
