"""The embedding table against torch.nn.Embedding, one-hot products and hand arithmetic."""

import copy

import pytest
import torch
from torch import nn

from companion.recurrent import RNNCell, Stack, Unroll
from companion.words import Embedding, one_hot
from tests.helpers import relative_error

V, D = 7, 3
IDS = torch.tensor([[1, 4, 4], [0, 6, 4]])  # row 4 three times; 2, 3 and 5 never


def pair(padding_idx=None, sparse=False):
    """Our table and torch's, with equal weights."""
    theirs = nn.Embedding(V, D, padding_idx, sparse=sparse, dtype=torch.float64)
    ours = Embedding(V, D, padding_idx, sparse=sparse, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradient(table, ids, d_y):
    table.weight.grad = None
    (table(ids) * d_y).sum().backward()
    return table.weight.grad


@pytest.mark.parametrize("ids", [IDS, IDS[0], IDS.int(), IDS[:, :0], IDS[..., None]])
@pytest.mark.parametrize("padding_idx", [None, 4, -1])
@pytest.mark.parametrize("sparse", [False, True])
def test_values_and_gradients_are_torchs(ids, padding_idx, sparse):
    ours, theirs = pair(padding_idx, sparse)
    assert torch.equal(ours(ids), theirs(ids))
    d_y = torch.randn(*ids.shape, D, dtype=torch.float64)
    got, expected = gradient(ours, ids, d_y), gradient(theirs, ids, d_y)
    assert got.is_sparse == expected.is_sparse == sparse
    assert relative_error(got.to_dense(), expected.to_dense()) < 1e-15
    if sparse:
        used = set(got.coalesce().indices()[0].tolist())
        assert used == set(expected.coalesce().indices()[0].tolist())


@pytest.mark.parametrize("padding_idx", [None, 4])
def test_a_single_id_gives_a_single_row(padding_idx):
    ours, theirs = pair(padding_idx)  # torch's own cannot do this with sparse and padding
    ids, d_y = torch.tensor(1), torch.ones(D, dtype=torch.float64)
    expected = gradient(theirs, ids, d_y)
    assert torch.equal(ours(ids), theirs.weight[1])
    for ours.sparse in (False, True):
        assert torch.equal(gradient(ours, ids, d_y).to_dense(), expected)


def test_values_and_gradients_are_those_of_the_one_hot_product():
    ours, _ = pair()
    hot = torch.from_numpy(one_hot(IDS, V))
    d_y = torch.randn(*IDS.shape, D, dtype=torch.float64)
    by_product = ours.weight.detach().clone().requires_grad_()
    assert torch.equal(ours(IDS), hot @ by_product)
    ((hot @ by_product) * d_y).sum().backward()
    assert relative_error(gradient(ours, IDS, d_y), by_product.grad) < 1e-15


def test_uses_of_a_row_add_up_by_hand():
    table = Embedding(4, 2)
    d_y = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    found = gradient(table, torch.tensor([3, 1, 3]), d_y)
    assert found.tolist() == [[0, 0], [2, 20], [0, 0], [5, 50]]  # 1 + 4, 10 + 40


def test_gradients_are_those_of_finite_differences_twice():
    weight = torch.randn(V, D, dtype=torch.float64, requires_grad=True)
    table = Embedding(V, D, padding_idx=0, dtype=torch.float64)

    def energy(weight):  # the padding row is left out: its gradient is blocked on purpose
        rows = torch.func.functional_call(table, {"weight": weight}, (IDS[IDS > 0],))
        return rows.sin().prod(0)

    assert torch.autograd.gradcheck(energy, weight)
    assert torch.autograd.gradgradcheck(energy, weight)


@pytest.mark.parametrize("padding_idx", [None, 4])
def test_a_gradient_for_each_sample_by_vmap(padding_idx):
    ours, theirs = pair(padding_idx)

    def loss(weight, ids, table):
        return torch.func.functional_call(table, {"weight": weight}, (ids,)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, None))
    expected = torch.stack([torch.func.grad(loss)(theirs.weight, row, theirs) for row in IDS])
    assert relative_error(each(ours.weight, IDS, ours), expected) < 1e-15


@pytest.mark.parametrize(
    "make",
    [torch.optim.SparseAdam, lambda p: torch.optim.SGD(p, lr=0.1), torch.optim.Adagrad],
    ids=["SparseAdam", "SGD", "Adagrad"],
)
def test_sparse_gradients_train_the_same_table(make):
    ours, theirs = pair(padding_idx=4, sparse=True)
    optimisers = [(table, make(table.parameters())) for table in (ours, theirs)]
    before = ours.weight.detach().clone()
    for _ in range(3):
        for table, optimiser in optimisers:
            optimiser.zero_grad()
            table(IDS).square().sum().backward()
            optimiser.step()
    assert relative_error(ours.weight, theirs.weight) < 1e-14
    moved = (ours.weight != before).any(1)
    assert moved.tolist() == [True, True, False, False, False, False, True]


def test_a_padding_row_gets_no_gradient_even_from_nan():
    for sparse in (False, True):
        ours, _ = pair(padding_idx=4, sparse=sparse)
        d_y = torch.full((2, 3, D), torch.nan, dtype=torch.float64)
        d_y[IDS != 4] = 1.0
        found = gradient(ours, IDS, d_y).to_dense()
        assert found.sum() == 3 * D and not found[4].any()


def test_only_the_gradient_of_the_padding_row_is_blocked():
    table = Embedding(V, D, padding_idx=2)
    assert not table.weight[2].any() and (table.weight[[0, 1, 3, 4, 5, 6]] != 0).all()
    nn.init.normal_(table.weight)
    assert table.weight[2].all()  # nobody guards it
    before = table.weight[2].detach().clone()
    optimiser = torch.optim.SGD(table.parameters(), lr=0.1, weight_decay=0.5)
    table(IDS).sum().backward()
    optimiser.step()
    torch.testing.assert_close(table.weight[2].detach(), before * (1 - 0.1 * 0.5))
    table.reset_parameters()
    assert not table.weight[2].any()


def test_the_start_is_normal_and_of_the_generator():
    def draw(seed):
        return Embedding(2000, 50, generator=torch.Generator().manual_seed(seed)).weight.detach()

    weight = draw(0)
    assert torch.equal(weight, draw(0)) and not torch.equal(weight, draw(1))
    # 100,000 draws: mean within 5 / sqrt(1e5), variance within 5 * sqrt(2 / 1e5)
    assert abs(weight.mean()) < 0.016 and abs(weight.var() - 1) < 0.023
    assert weight.numel() == 2000 * 50  # V * D parameters


def test_from_pretrained():
    vectors = torch.randn(V, D, dtype=torch.float64)
    frozen = Embedding.from_pretrained(vectors, padding_idx=1)
    theirs = nn.Embedding.from_pretrained(vectors, padding_idx=1)
    assert torch.equal(frozen(IDS), theirs(IDS)) and not frozen.weight.requires_grad
    assert torch.equal(frozen.weight[1], vectors[1])  # left as it is, as torch does
    assert frozen.weight.data_ptr() == vectors.data_ptr() and frozen.weight.dtype == torch.float64
    free = Embedding.from_pretrained(vectors, freeze=False, sparse=True)
    assert gradient(free, IDS, torch.ones(2, 3, D, dtype=torch.float64)).is_sparse
    with pytest.raises(ValueError, match=r"embeddings must be \(V, D\), got shape \(3,\)"):
        Embedding.from_pretrained(vectors[0])
    for wrong in (vectors.long(), vectors.numpy()):
        with pytest.raises(TypeError, match="embeddings must be a tensor of floating-point"):
            Embedding.from_pretrained(wrong)


def test_it_goes_into_a_stack_with_padding_and_trains():
    torch.manual_seed(1)
    ours = Stack(Embedding(V, D, padding_idx=0), Unroll(RNNCell(D, 4)), nn.Linear(4, 2))
    theirs = Stack(nn.Embedding(V, D, padding_idx=0), *copy.deepcopy(ours.layers)[1:])
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[1, 5], [4, 2], [6, 0], [3, 0]])  # (T, B), the second of two steps
    for net in (ours, theirs):
        y, _ = net(ids, lengths=[4, 2])
        y.square().sum().backward()
    assert torch.equal(ours(ids, lengths=[4, 2])[0], theirs(ids, lengths=[4, 2])[0])
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert relative_error(mine.grad, other.grad) < 1e-6


def test_copies_and_text():
    table = Embedding(V, D, padding_idx=-1, sparse=True)
    assert repr(table) == "Embedding(7, 3, padding_idx=6, sparse=True)"
    assert repr(Embedding(V, D)) == "Embedding(7, 3)"
    again = copy.deepcopy(table)
    assert torch.equal(again(IDS), table(IDS)) and again.weight is not table.weight


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Embedding(V, D)(IDS + 1), ValueError, "num_embeddings - 1 = 6, got 7"),
        (lambda: Embedding(V, D)(IDS - 1), ValueError, "num_embeddings - 1 = 6, got -1"),
        (lambda: Embedding(V, D)(IDS.float()), TypeError, "int64 or int32, got torch.float32"),
        (lambda: Embedding(V, D)(IDS.bool()), TypeError, "got torch.bool"),
        (lambda: Embedding(V, D)([1, 2]), TypeError, "got list"),
        (lambda: Embedding(0, D), ValueError, "num_embeddings must be at least 1, got 0"),
        (lambda: Embedding(V, 0), ValueError, "embedding_dim must be at least 1, got 0"),
        (lambda: Embedding(V, 2.5), TypeError, "embedding_dim must be a whole number, got 2.5"),
        (lambda: Embedding(V, D, 7), ValueError, "padding_idx must be below.*7, got 7"),
        (lambda: Embedding(V, D, -8), ValueError, "padding_idx must be at least -7, got -8"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("sparse", [False, True])
def test_on_a_gpu(sparse):
    ours, theirs = pair(padding_idx=4, sparse=sparse)
    ours, theirs, ids = ours.cuda(), theirs.cuda(), IDS.cuda()
    d_y = torch.randn(2, 3, D, dtype=torch.float64, device="cuda")
    assert torch.equal(ours(ids), theirs(ids))
    got, expected = gradient(ours, ids, d_y).to_dense(), gradient(theirs, ids, d_y).to_dense()
    assert relative_error(got, expected) < 1e-15


@pytest.mark.parametrize("derivative", [torch.func.jacfwd, torch.func.jacrev, torch.func.hessian])
def test_derivatives_of_every_mode_are_torchs(derivative):
    ids, weight = torch.tensor([[0, 2], [2, 4]]), torch.randn(5, 3, dtype=torch.float64)

    def cubes(table):
        return lambda w: torch.func.functional_call(table, {"weight": w}, (ids,)).pow(3).sum()

    ours, theirs = (derivative(cubes(kind(5, 3)))(weight) for kind in (Embedding, nn.Embedding))
    torch.testing.assert_close(ours, theirs)
