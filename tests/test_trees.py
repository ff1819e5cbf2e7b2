"""Recursive networks against a recursion node by node, an RNN, and gradients by differences."""

import math
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from companion.recurrent import Recursive, RNNCell, TreeCell, Trees, TreeState, Unroll
from tests.helpers import relative_error

H = 5


def random_tree(leaves, rng):
    """A tree over so many leaves, split at random places; leaves are rows of a table of 10."""
    if leaves == 1:
        return int(rng.integers(10))
    left = int(rng.integers(1, leaves))
    return random_tree(left, rng), random_tree(leaves - left, rng)


def forest(count, most, seed):
    rng = np.random.default_rng(seed)
    return [random_tree(int(rng.integers(1, most + 1)), rng) for _ in range(count)]


def leaning(leaves):
    tree = leaves[0]
    for leaf in leaves[1:]:
        tree = (tree, leaf)
    return tree


def cell(dtype=torch.float64, **options):
    made = TreeCell(H, dtype=dtype, **options)
    with torch.no_grad():
        for i, weight in enumerate(made.parameters()):
            weight += 0.1 * (i + 1)  # a bias that is not near zero
    return made


def node_by_node(tree, table, weight, bias, outputs):
    """The definition: a node from its two children, in the order root, left, right."""
    here = len(outputs)
    outputs.append(None)
    if isinstance(tree, tuple):
        left = node_by_node(tree[0], table, weight, bias, outputs)
        right = node_by_node(tree[1], table, weight, bias, outputs)
        outputs[here] = torch.tanh(weight @ torch.cat([left, right]) + bias)
    else:
        outputs[here] = table[tree]
    return outputs[here]


def table(dtype=torch.float64, rows=10):
    return torch.randn(rows, H, dtype=dtype).requires_grad_()


# ---- values and gradients ----


@pytest.mark.parametrize("most", [1, 2, 7, 40])
def test_every_node_and_gradient_equals_the_recursion(most):
    nested, made, x = forest(30, most, seed=most), cell(), table()
    expected = []
    roots = [node_by_node(t, x, made.weight, made.bias, expected) for t in nested]
    expected, roots = torch.stack(expected), torch.stack(roots)
    y, state = Recursive(made)(x, Trees.nested(nested))
    assert relative_error(y, expected) < 1e-13
    assert relative_error(state.h, roots) < 1e-13

    weights = torch.randn_like(y), torch.randn_like(roots)  # each node has a share in the loss
    inputs = [x, *made.parameters()]
    both = (y, state.h), (expected, roots)
    losses = [(nodes * weights[0]).sum() + (ends * weights[1]).sum() for nodes, ends in both]
    if most == 1:
        inputs = [x]  # leaves alone: no product
    got, wanted = (torch.autograd.grad(loss, inputs) for loss in losses)
    for g, w in zip(got, wanted, strict=True):
        assert relative_error(g, w) < 1e-12


def test_gradcheck():
    made, x, trees = cell(), table(rows=10), Trees.nested(forest(3, 5, seed=1))
    layer = Recursive(made)

    def run(x, weight, bias):
        y, state = torch.func.functional_call(
            layer, {"cell.weight": weight, "cell.bias": bias}, (x, trees)
        )
        return y, state.h

    assert torch.autograd.gradcheck(run, (x, *made.parameters()))
    assert torch.autograd.gradgradcheck(run, (x, *made.parameters()))


def test_a_tree_that_leans_to_the_left_is_an_rnn():
    rnn = RNNCell(H, H, dtype=torch.float64)
    made = cell()
    with torch.no_grad():
        made.weight.copy_(torch.cat([rnn.weight_hh, rnn.weight_ih], 1))
        made.bias.copy_(rnn.b_h)
    x = torch.randn(30, 1, H, dtype=torch.float64)
    y, state = Unroll(rnn, loop=True)(x)
    leaves = torch.cat([torch.zeros(1, H, dtype=torch.float64), x[:, 0]])
    all_nodes, root = Recursive(made)(leaves, Trees.nested([leaning(range(31))]))
    assert relative_error(root.h, state.h) < 1e-14
    # nodes are numbered from the root: the inner ones are the RNN's steps, last first
    assert relative_error(all_nodes[:30], y[:, 0].flip(0)) < 1e-14


@pytest.mark.parametrize(("nonlinearity", "function"), [("tanh", torch.tanh), ("relu", torch.relu)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_cell_is_a_linear_layer_and_an_activation(nonlinearity, function, bias):
    made = TreeCell(H, bias=bias, nonlinearity=nonlinearity)
    linear = nn.Linear(2 * H, H, bias=bias)
    made.load_state_dict(linear.state_dict())
    left, right = torch.randn(2, 3, H)
    got = made(TreeState(left), TreeState(right)).h
    torch.testing.assert_close(got, function(linear(torch.cat([left, right], 1))))
    b = made.bias if bias else 0
    torch.testing.assert_close(got, function(left @ made.W_lh + right @ made.W_rh + b))
    torch.testing.assert_close(got, function(torch.cat([left, right], 1) @ made.W + b))
    assert ("bias=False" in repr(made)) is not bias and ("relu" in repr(made)) == (
        nonlinearity == "relu"
    )


def test_generator_is_the_only_source_of_weights():
    def drawn(seed):
        torch.manual_seed(len(str(seed)))
        return TreeCell(200, generator=torch.Generator().manual_seed(seed)).weight

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    bound = 1 / math.sqrt(400)
    assert drawn(1).abs().max() <= bound and drawn(1).std().item() == pytest.approx(
        bound / math.sqrt(3), rel=0.02
    )
    torch.manual_seed(3)
    ours = TreeCell(H)
    torch.manual_seed(3)
    assert torch.equal(ours.weight, nn.Linear(2 * H, H).weight)


class Pair(NamedTuple):
    h: torch.Tensor
    total: torch.Tensor


class Counting(nn.Module):
    """A cell of a user's own, whose state has a second field of another width and meaning."""

    def leaf_state(self, x):
        return Pair(2 * x, x[:, :2])

    def forward(self, left, right):
        return Pair(left.h - right.h, left.total + right.total)


def test_any_cell_and_every_field_of_its_state_goes_up():
    nested, x = forest(12, 9, seed=5), table()

    def by_hand(tree):
        if not isinstance(tree, tuple):
            return 2 * x[tree], x[tree, :2]
        (h_l, total_l), (h_r, total_r) = map(by_hand, tree)
        return h_l - h_r, total_l + total_r

    y, state = Recursive(Counting())(x, Trees.nested(nested))
    expected = [torch.stack(field) for field in zip(*map(by_hand, nested), strict=True)]
    assert type(state) is Pair
    torch.testing.assert_close(state.h, expected[0])
    torch.testing.assert_close(state.total, expected[1])
    torch.testing.assert_close(y[Trees.nested(nested).roots], expected[0])


def test_nodes_of_one_height_share_one_call_whatever_their_tree():
    made, calls = cell(), []
    made.register_forward_hook(lambda _, inputs, output: calls.append(len(output.h)))
    trees = Trees.nested(forest(50, 20, seed=3))
    Recursive(made)(table(), trees)
    assert calls == np.bincount(trees.heights)[1:].tolist()


def test_trees_of_a_batch_never_meet():
    nested, x = forest(6, 8, seed=8), table(rows=20).detach()
    both = [nested[0], _shifted(nested[1], 10)]
    before = Recursive(cell())
    _, first = before(x, Trees.nested(both))
    x[10:] = float("nan")  # the second tree's leaves
    _, after = before(x, Trees.nested(both))
    assert torch.equal(first.h[0], after.h[0]) and after.h[1].isnan().all()


def _shifted(tree, by):
    return tuple(_shifted(t, by) for t in tree) if isinstance(tree, tuple) else tree + by


def test_a_batch_may_mix_dtypes_of_a_module_and_move():
    layer, trees = Recursive(TreeCell(H)), Trees.nested(forest(5, 6, seed=2))
    y, _ = layer.double()(table(), trees)
    assert y.dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer.float()(table(torch.float32), trees)
    assert y.isfinite().all() and state.h.shape == (5, H)
    on_meta = Recursive(TreeCell(H, device="meta"))(torch.ones(10, H, device="meta"), trees)
    assert on_meta[0].shape == y.shape and on_meta[0].device.type == "meta"


# ---- the arrays ----


def test_arrays_of_a_small_forest_by_hand():
    trees = Trees.nested([((4, 1), 2), 3, (0, (5, 6))])
    assert len(trees) == 3 and repr(trees) == "Trees(3 trees, 11 nodes, height 2)"
    assert trees.children.tolist() == [
        [1, 4], [2, 3], [-1, -1], [-1, -1], [-1, -1],
        [-1, -1],
        [7, 8], [-1, -1], [9, 10], [-1, -1], [-1, -1],
    ]  # fmt: skip
    assert trees.leaves.tolist() == [-1, -1, 4, 1, 2, 3, -1, 0, -1, 5, 6]
    assert trees.sizes.tolist() == [5, 1, 5] and trees.roots.tolist() == [0, 5, 6]
    assert trees.heights.tolist() == [2, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_any_numbering_of_the_nodes_gives_the_same(seed):
    trees, x, layer = Trees.nested(forest(9, 12, seed=seed)), table(), Recursive(cell())
    # shuffle each tree's nodes, so that children may come before parents and the root anywhere
    rng = np.random.default_rng(seed)
    starts = np.cumsum(trees.sizes) - trees.sizes
    new = np.concatenate([s + rng.permutation(n) for s, n in zip(starts, trees.sizes, strict=True)])
    children, leaves = np.empty_like(trees.children), np.empty_like(trees.leaves)
    children[new] = np.where(trees.children < 0, -1, new[trees.children])
    leaves[new] = trees.leaves
    shuffled = Trees(children.tolist(), torch.tensor(leaves), trees.sizes)
    (y, state), (expected, roots) = layer(x, shuffled), layer(x, trees)
    assert torch.equal(state.h, roots.h)
    assert torch.equal(y[new], expected)
    np.testing.assert_array_equal(shuffled.roots, new[trees.roots])


def test_words_are_encoded():
    words = ["good", "not"]
    trees = Trees.nested([("not", "good")], encode=words.index)
    assert trees.leaves.tolist() == [-1, 1, 0]


@pytest.mark.parametrize("lean", ["left", "right"])
def test_a_chain_of_5000_does_not_recurse(lean):
    tree = 0
    for i in range(5000):
        tree = (tree, i % 10) if lean == "left" else (i % 10, tree)
    trees = Trees.nested([tree, (1, 2)])
    assert trees.heights.max() == 5000 and len(trees.leaves) == 10_001 + 3
    made, x = cell(dtype=torch.float32), table(torch.float32)
    _, state = Recursive(made)(x, trees)
    state.h.sum().backward()
    assert state.h.isfinite().all() and x.grad.isfinite().all() and x.grad.abs().max() > 0
    assert pickle.loads(pickle.dumps(trees)).roots.tolist() == trees.roots.tolist()


def test_work_is_proportional_to_the_nodes():
    """Autograd saves no array as long as the forest at every level of a deep one."""
    trees = Trees.nested([leaning([0] * 2000), *forest(50, 40, seed=1)])
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        Recursive(TreeCell(H))(table(torch.float32), trees)
    assert sum(sizes) < 40 * H * len(trees.leaves)


# ---- bad input ----

NONE = [-1, -1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Trees([[1, -1], NONE], [-1, 0]), ValueError, "got 1, -1 at node 0"),
        (lambda: Trees([[1, 2], NONE], [-1, 0]), ValueError, "same tree, got 2 at node 0"),
        (lambda: Trees([[1, -5], NONE], [-1, 0]), ValueError, "same tree, got -5 at node 0"),
        (lambda: Trees([[1, 1], NONE], [-1, 0]), ValueError, "got node 1 as a child of 0, 0"),
        (
            lambda: Trees([[1, 2], [2, 3], NONE, NONE], [-1, -1, 0, 0]),
            ValueError, "got node 2 as a child of 0, 1",
        ),
        (lambda: Trees([NONE, NONE], [0, 0]), ValueError, "one root to a tree, got 0, 1 in tree 0"),
        (lambda: Trees([[0, 1], NONE], [-1, 0]), ValueError, "no cycle, got no root in tree 0"),
        (
            lambda: Trees([NONE, [2, 3], [1, 4], NONE, NONE], [0, -1, -1, 1, 2]),
            ValueError, "no cycle, got one that node 1 leads to",
        ),
        (
            lambda: Trees([[1, 3], NONE, NONE, NONE], [-1, 0, 0, 0], sizes=[3, 1]),
            ValueError, "same tree, got 3 at node 0",
        ),
        (lambda: Trees([[1, 2], NONE, NONE], [0, 0, 0]), ValueError, "got 0 at node 0"),
        (lambda: Trees([[1, 2], NONE, NONE], [-1, 0, -1]), ValueError, "got -1 at node 2"),
        (lambda: Trees([[1, 2], NONE, NONE], [-1, 0]), ValueError, r"leaves must be \(3,\)"),
        (lambda: Trees([1, 2, 3], [-1, 0, 0]), ValueError, r"children must be \(N, 2\)"),
        (lambda: Trees([[1.0, 2.0]], [-1]), TypeError, "children must be whole numbers"),
        (lambda: Trees([NONE], [0], sizes=[2]), ValueError, "add up to the 1 nodes, got 2"),
        (lambda: Trees([NONE], [0], sizes=[1, 0]), ValueError, "must be positive"),
        (lambda: Trees(np.empty((0, 2), int), [], []), ValueError, "must be positive"),
        (lambda: Trees.nested([]), ValueError, "at least one tree"),
        (lambda: Trees.nested((0, 1)), TypeError, "trees must be a list of trees"),
        (lambda: Trees.nested("not good"), TypeError, "trees must be a list of trees"),
        (lambda: Trees.nested(3), TypeError, "trees must be a list of trees"),
        (lambda: Trees.nested([0, (0, 1, 2)]), ValueError, r"trees\[1\] must have two .* got 3"),
        (lambda: Trees.nested([(0, ())]), ValueError, "two children .* got 0"),
        (lambda: Trees.nested([(0, None)]), ValueError, "no child missing, got None"),
        (lambda: Trees.nested([(0, -1)]), ValueError, r"leaf -1 of trees\[0\] must be at least 0"),
        (lambda: Trees.nested([("a", 0)]), TypeError, "leaf 'a' .* whole number"),
        (lambda: Trees.nested([[0, 1]]), TypeError, "whole number"),
        (lambda: TreeCell(0), ValueError, "size must be at least 1"),
        (lambda: TreeCell(2, nonlinearity="sine"), ValueError, "nonlinearity must be one of"),
        (lambda: Recursive(nn.Linear(2, 2)), TypeError, "cell must be a module with"),
        (
            lambda: Recursive(TreeCell(2))(torch.zeros(2, 2), Trees.nested([(0, 2)])),
            ValueError, r"rows 0 to 2, got \(2, 2\)",
        ),
        (
            lambda: Recursive(TreeCell(2))(torch.zeros(3, 4), Trees.nested([(0, 2)])),
            ValueError, r"x must be \(n, 2\), got \(2, 4\)",
        ),
        (
            lambda: Recursive(TreeCell(2))(torch.zeros(3, 2).double(), Trees.nested([(0, 2)])),
            TypeError, "x must have the weights' dtype",
        ),
        (lambda: Recursive(TreeCell(2))(torch.zeros(3, 2), [(0, 2)]), TypeError, "must be Trees"),
        (
            lambda: Recursive(TreeCell(2))([[0.0, 0.0]], Trees.nested([0])),
            TypeError, "x must be a torch.Tensor",
        ),
        (
            lambda: TreeCell(2)(TreeState(torch.zeros(3, 2)), TreeState(torch.zeros(3, 3))),
            ValueError, r"right.h must be \(n, 2\), got \(3, 3\)",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_table_of_children_is_a_forest_or_a_named_error(data):
    count = data.draw(st.integers(1, 7))
    child = st.integers(-2, count)
    children = data.draw(st.lists(st.tuples(child, child), min_size=count, max_size=count))
    leaves = [0 if pair == (-1, -1) else -1 for pair in children]
    try:
        trees = Trees(children, leaves)
    except ValueError as error:
        assert str(error).startswith("children must")
        return
    # a tree by another count: n leaves, n - 1 inner nodes, all reached from the root
    reached, waiting = [], list(trees.roots)
    while waiting:
        reached.append(waiting.pop())
        waiting += [c for c in children[reached[-1]] if c >= 0]
    assert sorted(reached) == list(range(count)) and len(trees.roots) == 1
    assert leaves.count(0) == leaves.count(-1) + 1


def test_inference_first_and_training_later():
    trees, layer = Trees.nested([((0, 1), 2)]), Recursive(TreeCell(4))
    x = torch.randn(3, 4, requires_grad=True)
    with torch.inference_mode():
        layer(x, trees)
    layer(x, trees)[0].sum().backward()
    assert x.grad.abs().sum() > 0


def test_arrays_that_plans_are_made_of_are_read_only():
    trees = Trees.nested([(0, 1)])
    with pytest.raises(ValueError, match="read-only"):
        trees.leaves[1] = 2


def test_sizes_whose_sum_wraps_round_are_refused():
    with pytest.raises(ValueError, match="sizes must be positive and add up to the 1 nodes"):
        Trees([[-1, -1]], [0], [2**63 - 1, 2**63 - 1, 3])


def test_children_that_do_not_fit_are_named():
    cell, ones = TreeCell(4), torch.ones(2, 4)
    with pytest.raises(TypeError, match="left must be a TreeState, got Tensor"):
        cell(ones, ones)
    with pytest.raises(ValueError, match="right.h must have 2 rows"):
        cell(TreeState(ones), TreeState(torch.ones(3, 4)))
