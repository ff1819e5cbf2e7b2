"""Balls, DNA, brackets and grammars against physics, enumeration and arithmetic."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import chisquare

from companion.sequences import (
    FRANCE,
    SKY,
    Frame,
    Grammar,
    bouncing_ball,
    brackets,
    dna,
    gap_sentences,
    mackey_glass,
    negations,
)

# ---- balls ----


@pytest.mark.parametrize("gravity", [0.0, 0.003, 0.05])
def test_balls_stay_inside_and_keep_their_energy(gravity):
    balls = bouncing_ball(20, 500, balls=3, radius=0.15, speed=0.21, gravity=gravity, seed=1)
    x, v = balls.positions, balls.velocities
    assert x.shape == v.shape == (500, 20, 3, 2)
    assert x.min() >= 0.15 and x.max() <= 0.85
    energy = (v**2).sum(-1) / 2 + gravity * x[..., 1]
    np.testing.assert_allclose(energy, np.broadcast_to(energy[0], energy.shape), rtol=1e-9)
    np.testing.assert_allclose(np.abs(v[..., 0]), np.abs(v[:1, ..., 0]).repeat(500, 0))
    speeds = np.sqrt((v[0] ** 2).sum(-1))
    np.testing.assert_allclose(speeds, 0.21)
    # left or right, up or down, near and far: all of the box is visited
    assert (x.max((0, 1, 2)) > 0.8).all() and (x.min((0, 1, 2)) < 0.2).all()


@pytest.mark.parametrize(("speed", "gravity"), [(0.07, 0.0), (0.07, 0.004), (0.9, 0.02), (3.3, 0)])
def test_balls_fly_as_an_integrator_says(speed, gravity):
    """Integrate Newton's law with events at the walls; up to four bounces a step."""
    balls = bouncing_ball(3, 12, radius=0.1, speed=speed, gravity=gravity, seed=2)

    def fall(t, state):
        return [state[2], state[3], 0, -gravity]

    def hits_side(t, state):
        return min(state[0] - 0.1, 0.9 - state[0]) + 1e-13

    def hits_floor(t, state):
        return min(state[1] - 0.1, 0.9 - state[1]) + 1e-13

    for event in (hits_side, hits_floor):
        event.terminal, event.direction = True, -1

    for b in range(3):
        now, state = 0.0, np.r_[balls.positions[0, b, 0], balls.velocities[0, b, 0]]
        for step in range(1, 12):
            while now < step:
                run = solve_ivp(
                    fall, (now, step), state, events=[hits_side, hits_floor],
                    rtol=1e-10, atol=1e-12, max_step=0.02 / speed,
                )  # fmt: skip
                now, state = run.t[-1], run.y[:, -1]
                for axis, times in enumerate(run.t_events):
                    if len(times):
                        state[2 + axis] *= -1
            np.testing.assert_allclose(state[:2], balls.positions[step, b, 0], atol=1e-6)
            np.testing.assert_allclose(state[2:], balls.velocities[step, b, 0], atol=1e-6)


def test_a_step_without_walls_is_a_parabola():
    balls = bouncing_ball(400, 3, speed=0.03, gravity=0.01, seed=3)
    x, v = balls.positions[:, :, 0], balls.velocities[:, :, 0]
    free = ((x[0] > 0.25) & (x[0] < 0.75)).all(-1)
    assert free.sum() > 50
    for t in (1, 2):
        fallen = x[0] + v[0] * t - np.array([0, 0.01]) * t**2 / 2
        np.testing.assert_allclose(x[t][free], fallen[free], atol=1e-13)


def test_each_sequence_has_its_own_speed_and_gravity():
    speed, gravity = np.array([0.02, 0.04]), np.array([0.0, 0.003])
    both = bouncing_ball(2, 30, speed=speed, gravity=gravity, seed=4)
    np.testing.assert_allclose(np.hypot(*both.velocities[0, :, 0].T), speed)
    assert both.gravity.tolist() == [0.0, 0.003]
    energy = (both.velocities[:, :, 0] ** 2).sum(-1) / 2 + gravity * both.positions[:, :, 0, 1]
    np.testing.assert_allclose(energy, np.broadcast_to(energy[0], energy.shape))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("speed", [1e-100, 0.05, 1e100])
@pytest.mark.parametrize("gravity", [0.0, 1e-320, 1e-100, 1e100])
def test_balls_of_extreme_speeds_have_numbers_for_places(speed, gravity):
    balls = bouncing_ball(20, 5, speed=speed, gravity=gravity, seed=0)
    assert np.isfinite(balls.velocities).all()
    assert ((balls.positions >= 0.1) & (balls.positions <= 0.9)).all()


def test_numbers_may_be_tensors_that_require_a_gradient_or_fractions():
    gravity = torch.tensor([0.0, 0.003], dtype=torch.float64, requires_grad=True)
    plain = bouncing_ball(2, 4, gravity=[0.0, 0.003], radius=0.125, seed=7)
    other = bouncing_ball(2, 4, gravity=gravity, radius=Fraction(1, 8), seed=7)
    np.testing.assert_array_equal(other.positions, plain.positions)
    composition = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    drawn = dna(2, 9, composition=composition, share=torch.tensor(0.5), seed=0)
    assert drawn.sequences == dna(2, 9, composition=[0.1, 0.2, 0.3, 0.4], seed=0).sequences
    Grammar({"S": [(("a",), Fraction(1, 3)), (("b",), np.float64(2 / 3))]})


def test_the_discs_of_small_balls_come_out_too_large_as_documented():
    """The picture is linear in the distance across a pixel: its area is that of all discs with
    radii r - 1/2 to r + 1/2 on average, pi (r² + 1/12) in pixels."""
    for radius in (0.5, 1, 2, 4):  # pixels
        balls = bouncing_ball(500, 4, radius=radius / 32, seed=0)
        area = balls.frames(32).sum((2, 3)).mean()
        assert area / (math.pi * radius**2) == pytest.approx(1 + 1 / (12 * radius**2), abs=0.01)


def test_frames_show_the_balls_where_they_are():
    balls = bouncing_ball(5, 8, radius=0.12, speed=0.1, seed=5)
    frames = balls.frames(40)
    assert frames.shape == (8, 5, 40, 40) and frames.dtype == np.float32
    assert frames.min() == 0 and frames.max() == 1
    area = frames.sum((2, 3)) / 40**2
    np.testing.assert_allclose(area, math.pi * 0.12**2, rtol=0.02)
    row, column = np.mgrid[:40, :40]
    across = (frames * (column + 0.5)).sum((2, 3)) / frames.sum((2, 3)) / 40
    down = (frames * (row + 0.5)).sum((2, 3)) / frames.sum((2, 3)) / 40
    np.testing.assert_allclose(across, balls.positions[:, :, 0, 0], atol=0.002)
    np.testing.assert_allclose(1 - down, balls.positions[:, :, 0, 1], atol=0.002)


def test_balls_overlap_without_adding_up():
    balls = bouncing_ball(1, 1, balls=40, radius=0.3, seed=6)
    frames = balls.frames(16)
    assert frames.max() == 1
    alone = [balls._replace(positions=balls.positions[:, :, [k]]).frames(16) for k in range(40)]
    np.testing.assert_array_equal(frames, np.max(alone, axis=0))


def test_balls_are_a_function_of_the_seed():
    first, again = (bouncing_ball(2, 4, seed=7).positions for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != bouncing_ball(2, 4, seed=8).positions).all()
    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(first, bouncing_ball(2, 4, seed=rng).positions)
    assert (first != bouncing_ball(2, 4, seed=rng).positions).all()  # it went on


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"steps": 2.5}, TypeError, "steps must be a whole number, got 2.5"),
        ({"balls": 0}, ValueError, "balls must be at least 1, got 0"),
        ({"radius": 0.5}, ValueError, "radius must be above 0 and below 0.5, got 0.5"),
        ({"speed": 0}, ValueError, r"speed must be from 1e-100 to 1e\+100, got 0"),
        ({"speed": 1e155}, ValueError, r"speed must be from 1e-100 to 1e\+100, got 1e\+155"),
        ({"speed": 1e-155}, ValueError, r"speed must be from 1e-100 to 1e\+100, got 1e-155"),
        ({"speed": [0.1] * 3}, ValueError, r"speed must be a number or of shape \(2,\), got \(3,"),
        ({"speed": "fast"}, TypeError, "speed must be real numbers, got 'fast'"),
        ({"speed": [[1], [1, 2]]}, TypeError, r"speed must be real .* got \[\[1\], \[1, 2\]\]"),
        ({"speed": True}, TypeError, "speed must be real numbers, got True"),
        ({"radius": [0.1, 0.2]}, TypeError, r"radius must be one number, got \[0.1, 0.2\]"),
        ({"radius": None}, TypeError, "radius must be real numbers, got None"),
        ({"gravity": -1}, ValueError, r"gravity must be from 0 to 1e\+100, got -1"),
        ({"gravity": math.nan}, ValueError, r"gravity must be from 0 to 1e\+100, got nan"),
        (
            {"gravity": np.ma.masked_array([1, 2], [0, 1])},
            ValueError,
            "gravity must have no masked values, got masked_array",
        ),
        ({"seed": None}, TypeError, "seed must be a whole number, got None"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_balls_say_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message):
        bouncing_ball(**({"count": 2, "steps": 3, "seed": 0} | change))


def test_frames_need_pixels():
    with pytest.raises(ValueError, match="size must be at least 2, got 1"):
        bouncing_ball(1, 1, seed=0).frames(1)


# ---- Mackey and Glass ----


def test_mackey_glass_is_the_recurrence_by_hand():
    """With one substep a unit of time every value is given, and the series tells its own past."""
    y = mackey_glass(400, 17, substeps=1, discard=0, seed=0)
    late = np.concatenate([np.full(17, y[0]), y])[:399]  # it stood at y[0] before
    np.testing.assert_allclose(y[1:], y[:-1] + 0.2 * late / (1 + late**10) - 0.1 * y[:-1])


def test_mackey_glass_approaches_the_delay_equation():
    """Against an adaptive integrator, one delay after the other; the error falls with the step."""
    start = mackey_glass(1, discard=0, seed=3)[0]
    exact, past = [], lambda t: np.array([start])
    level = np.array([start])
    for _ in range(3):  # the past of one stretch of 17 is the solution of the one before

        def slope(t, y, past=past):
            late = past(t)[0]
            return [0.2 * late / (1 + late**10) - 0.1 * y[0]]

        run = solve_ivp(slope, (0, 17), level, dense_output=True, rtol=1e-10, atol=1e-12)
        exact.append(run.sol(np.arange(17))[0])
        past, level = run.sol, run.y[:, -1]
    exact = np.concatenate(exact)
    errors = [
        abs(mackey_glass(51, substeps=n, discard=0, seed=3) - exact).max() for n in (10, 20, 100)
    ]
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[0] / errors[2] == pytest.approx(10, rel=0.1)


def test_mackey_glass_rests_or_is_chaotic_by_its_delay():
    """Short delays end at 1, where production and decay agree: 0.2 / 2 = 0.1."""
    np.testing.assert_allclose(mackey_glass(100, 3, seed=0), 1, atol=1e-6)
    squashed = np.tanh(mackey_glass(20_000, 30, seed=0) - 1)
    assert squashed.var() == pytest.approx(0.067, rel=0.06)  # Jaeger 2001, below equation 25


def test_mackey_glass_is_a_function_of_its_seed():
    a, b = mackey_glass(50, seed=1), mackey_glass(50, seed=2)
    np.testing.assert_array_equal(a, mackey_glass(50, seed=1))
    assert abs(a - b).max() > 0.1
    later = mackey_glass(40, discard=1010, seed=1)
    np.testing.assert_array_equal(later, a[10:])
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(mackey_glass(50, seed=rng), a)
    assert abs(mackey_glass(50, seed=rng) - a).max() > 0.01


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"tau": 0}, ValueError, r"tau must be above 0 .*, got 0"),
        ({"tau": 17.05}, ValueError, "tau must be a whole number of substeps of 1/10, got 17.05"),
        ({"tau": "17"}, TypeError, "tau must be real numbers, got '17'"),
        ({"substeps": 0}, ValueError, "substeps must be at least 1, got 0"),
        ({"discard": -1}, ValueError, "discard must be at least 0, got -1"),
        ({"decay": 10}, ValueError, "decay must be above 0 and below 10, got 10"),
        ({"production": 0}, ValueError, "production must be above 0 .*, got 0"),
        ({"exponent": math.nan}, ValueError, "exponent must be above 0 .*, got nan"),
        ({"seed": None}, TypeError, "seed must be a whole number, got None"),
    ],
)
def test_mackey_glass_says_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message):
        mackey_glass(**({"steps": 5, "seed": 0} | change))


# ---- DNA ----

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def test_planted_motifs_stand_where_the_truth_says():
    motifs = ["TATAAT", "GGC"]
    found = dna(300, 40, motifs, reverse_complement=0.5, share=0.7, seed=0)
    assert found.codes.shape == found.labels.shape == (40, 300)
    again = ["".join("ACGT"[c] for c in column) for column in found.codes.T]
    assert again == found.sequences
    labels = np.zeros((40, 300), dtype=int)
    for b, start, k, strand in found.sites:
        piece = found.sequences[b][start : start + len(motifs[k])]
        assert (piece if strand == 1 else piece.translate(COMPLEMENT)[::-1]) == motifs[k]
        stretch = labels[start : start + len(motifs[k]), b]
        assert (stretch == 0).all()  # no overlap
        stretch[:] = k + 1
    np.testing.assert_array_equal(labels, found.labels)
    assert found.sites == sorted(found.sites)
    count = Counter((site.motif, site.strand) for site in found.sites)
    assert len(found.sites) == pytest.approx(0.7 * 600, abs=60)  # five deviations
    assert all(abs(n - 105) < 45 for n in count.values()) and len(count) == 4
    assert {start for _, start, k, _ in found.sites if k == 1} == set(range(38))


def test_all_placements_are_equally_likely():
    """Motifs of 2 and 3 in 7 bases: each order leaves 2 free bases, 6 ways; 12 in all."""
    found = dna(12_000, 7, ["AA", "CCC"], seed=1)
    ways = Counter(map(tuple, found.labels.T.tolist()))
    assert len(ways) == 12
    assert chisquare(list(ways.values())).pvalue > 1e-4


def test_motifs_may_fill_the_sequence():
    assert set(dna(50, 5, ["AC", "GTT"], seed=2).sequences) == {"ACGTT", "GTTAC"}


def test_composition_mutation_and_matrix_show_in_the_letters():
    background = dna(100, 1000, composition=[0.1, 0.2, 0.3, 0.4], seed=3).codes
    shares = np.bincount(background.ravel()) / 1e5
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.01)

    mutated = dna(5000, 10, ["AAAAAAAAAA"], mutation=0.3, seed=4).codes
    shares = np.bincount(mutated.ravel()) / 5e4
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.1, 0.1], atol=0.01)

    matrix = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]])
    drawn = dna(5000, 2, [matrix], seed=5).codes
    for place in range(2):
        shares = np.bincount(drawn[place], minlength=4) / 5000
        np.testing.assert_allclose(shares, matrix[place], atol=0.04)
    backwards = dna(5000, 2, [matrix], reverse_complement=1, seed=6).codes
    shares = np.bincount(backwards[0], minlength=4) / 5000  # G to C, T to A
    np.testing.assert_allclose(shares, [0.75, 0.25, 0, 0], atol=0.04)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"motifs": ["TATAAT", "GGGGG"]}, "motifs must fit into length 10 together, got 11 bases"),
        ({"motifs": ["TANA"]}, r"motifs\[0\] must be letters of ACGT, got 'TANA'"),
        ({"motifs": [""]}, r"motifs\[0\] must be letters of ACGT, got ''"),
        ({"motifs": "TATA"}, "motifs must be a list of motifs, got 'TATA'"),
        ({"motifs": None}, "motifs must be a list of motifs, got None"),
        ({"motifs": [b"TATA"]}, r"motifs\[0\] must be real numbers, got b'TATA'"),
        ({"motifs": [[[1, 0, 0, 0], [1]]]}, r"motifs\[0\] must be real numbers, got \[\[1, 0"),
        ({"composition": "ACGT"}, "composition must be real numbers, got 'ACGT'"),
        ({"share": [0.1, 0.2]}, r"share must be one number, got \[0.1, 0.2\]"),
        ({"mutation": np.array([0.1, 0.2])}, r"mutation must be one number, got array\(\[0.1"),
        ({"mutation": True}, "mutation must be one number, got True"),
        ({"motifs": [np.ones((3, 4))]}, r"motifs\[0\] must be four probabilities with sum 1, in"),
        ({"motifs": [np.eye(4)[:0]]}, r"motifs\[0\] must be four probabilities"),
        ({"composition": [0.5, 0.5]}, "composition must be four probabilities with sum 1, got"),
        ({"composition": [1.5, -0.5, 0, 0]}, "composition must be four probabilities"),
        ({"mutation": 1.1}, "mutation must be from 0 to 1, got 1.1"),
        ({"share": -0.1}, "share must be from 0 to 1, got -0.1"),
        ({"reverse_complement": 2}, "reverse_complement must be from 0 to 1, got 2"),
    ],
)
def test_dna_says_what_is_wrong(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dna(**({"count": 2, "length": 10, "seed": 0} | change))


# ---- gap sentences ----


@pytest.mark.parametrize(("frame", "gap"), [(FRANCE, 3), (FRANCE, 17), (SKY, 3), (SKY, 4)])
def test_the_answer_stands_a_gap_after_its_cue(frame, gap):
    found = gap_sentences(400, gap, seed=0, frame=frame)
    pairs = list(frame.pairs.items())
    for words, answer in zip(found.sentences, found.answers, strict=True):
        cue, ending = pairs[answer]
        assert words[found.cue] == cue and words[found.cue + gap + 1 :] == [ending]
        assert words[: found.cue] == frame.opening.split()
        assert words[-4:-1] == frame.closing.split()
        assert set(words[found.cue + 1 : -4]) <= set(frame.filler.split())
    assert len(pairs) == 4 and np.bincount(found.answers).min() > 60  # 100 expected


def test_what_fills_the_gap_tells_nothing_of_the_answer():
    """Three words, two answers: all six combinations are equally likely."""
    frame = Frame("so", {"a": "A", "b": "B"}, "and", "p q r")
    found = gap_sentences(6000, 2, seed=1, frame=frame)
    counts = Counter((words[2], answer) for words, answer in zip(*found[:2], strict=True))
    assert len(counts) == 6 and chisquare(list(counts.values())).pvalue > 1e-4


def test_gap_sentences_are_a_function_of_the_seed():
    first, again = gap_sentences(9, 8, seed=3), gap_sentences(9, 8, seed=np.random.default_rng(3))
    assert first.sentences == again.sentences
    assert first.sentences != gap_sentences(9, 8, seed=4).sentences


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"gap": 2}, ValueError, "gap must be at least 3, got 2"),
        ({"gap": 2.5}, TypeError, "gap must be a whole number, got 2.5"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"frame": "sky"}, TypeError, "frame must be a Frame, got str"),
        ({"frame": Frame("a", {"b": "c"}, "d")}, ValueError, "frame must have at least two pairs"),
        ({"frame": SKY._replace(filler="")}, ValueError, "frame must have filler for a gap of 4"),
    ],
)
def test_gap_sentences_say_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message):
        gap_sentences(**({"count": 2, "gap": 4, "seed": 0} | change))


# ---- brackets ----


def partners_match(string):
    """Remove adjacent pairs until none is left: no stack, no heights."""
    before = None
    while string != before:
        before = string
        for pair in ("()", "[]", "{}", "<>"):
            string = string.replace(pair, "")
    return not string


def deepest(string):
    return max(itertools.accumulate(1 if c in "([{<" else -1 for c in string))


@pytest.mark.parametrize(
    ("length", "kinds", "depth"), [(8, 1, None), (6, 2, None), (8, 1, 2), (6, 2, 2), (4, 3, 1)]
)
def test_brackets_are_uniform_over_all_balanced_strings(length, kinds, depth):
    letters = "()[]{}"[: 2 * kinds]
    every = {
        string
        for string in map("".join, itertools.product(letters, repeat=length))
        if partners_match(string) and deepest(string) <= (depth or length)
    }
    drawn = brackets(200 * len(every), length, kinds=kinds, depth=depth, seed=1)
    assert drawn.balanced.all() and (drawn.corrupted == -1).all()
    seen = Counter(drawn.strings)
    assert set(seen) == every
    assert chisquare(list(seen.values())).pvalue > 1e-4


@pytest.mark.parametrize("kinds", [1, 2, 4])
def test_one_replaced_bracket_spoils_a_string(kinds):
    drawn = brackets(2000, 20, kinds=kinds, depth=4, corrupt=0.4, seed=2)
    assert [partners_match(s) for s in drawn.strings] == drawn.balanced.tolist()
    np.testing.assert_array_equal(drawn.corrupted >= 0, ~drawn.balanced)
    assert drawn.balanced.mean() == pytest.approx(0.6, abs=0.06)
    assert set(drawn.corrupted) == set(range(-1, 20))
    letters = "()[]{}<>"[: 2 * kinds]
    for string, place in zip(drawn.strings, drawn.corrupted, strict=True):
        assert len(string) == 20
        if place >= 0:  # another bracket in that place mends it
            mended = (string[:place] + other + string[place + 1 :] for other in letters)
            assert any(map(partners_match, mended))
        else:
            assert deepest(string) <= 4


def test_long_strings_of_brackets_keep_the_counts_finite():
    drawn = brackets(20, 4000, kinds=3, depth=3, seed=3)
    assert all(partners_match(s) and deepest(s) <= 3 for s in drawn.strings)
    deep = brackets(20, 3000, seed=4).strings
    assert all(partners_match(s) for s in deep)
    # a random walk that returns: the greatest height is about sqrt(pi * length / 2), 69
    assert 50 < np.mean([deepest(s) for s in deep]) < 90


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 5}, "length must be even, got 5"),
        ({"length": 0}, "length must be at least 2, got 0"),
        ({"kinds": 5}, "kinds must be at most 4, got 5"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"corrupt": 1.5}, "corrupt must be from 0 to 1, got 1.5"),
        ({"corrupt": [0.1, 0.2]}, r"corrupt must be one number, got \[0.1, 0.2\]"),
    ],
)
def test_brackets_say_what_is_wrong(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        brackets(**({"count": 2, "length": 6, "seed": 0} | change))


# ---- negations ----

OPINION = {word: sign for sign, words in (
    (1, "good great fine lovely"), (-1, "bad awful dull poor")) for word in words.split()
}  # fmt: skip


def parsed(words):
    """A sentence as (value, negations over the word that decides), read with a stack.

    Written anew from the rules, from left to right: "not (" opens a clause, ")" ends it.
    """
    clauses = [[]]  # of each open clause: its parts and joints
    for word in words:
        if word == "(":
            clauses.append([])
        elif word == ")":
            value, nots = settled(clauses.pop())
            assert clauses[-1].pop() == "not"
            clauses[-1].append((-value, nots + 1))
        else:
            clauses[-1].append((OPINION[word], 0) if word in OPINION else word)
    assert len(clauses) == 1
    return settled(clauses[0])


def settled(clause):
    if len(clause) == 1:
        return clause[0]
    first, joint, second = clause
    return {"but": second, "although": first}[joint]


def leaves_of(tree):
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting += reversed(part)
        else:
            yield part


def value_of(tree):
    if tree in OPINION:
        return OPINION[tree]
    left, right = tree
    if left == "not":
        return -value_of(right)
    return value_of(right[1]) if right[0] == "but" else value_of(left)


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_negations_have_the_truth_that_the_rules_give(depth):
    found = negations(400, depth, seed=depth)
    read = [parsed(words) for words in found.sentences]
    assert [value > 0 for value, _ in read] == found.positive.tolist()
    assert [nots for _, nots in read] == found.negated.tolist()
    assert [value_of(tree) > 0 for tree in found.trees] == found.positive.tolist()
    for words, tree in zip(found.sentences, found.trees, strict=True):
        assert [w for w in words if w not in "()"] == list(leaves_of(tree))
        assert words.count("not") == words.count("(") == words.count(")") == depth


def test_negations_have_the_probabilities_they_are_asked_for():
    found = negations(4000, 3, joined=0.4, aside=0.3, seed=2)
    assert found.positive.mean() == pytest.approx(0.5, abs=0.03)  # 0.008 a standard deviation
    # each of four levels keeps what is nested with probability 1 - 0.4 * 0.3
    keep, shares = 0.88, np.bincount(found.negated, minlength=4) / 4000
    # from outside in, an opinion on a level decides if no level outside it does
    expected = [0.12 * keep**outside for outside in range(4)]
    expected[3] += keep**4  # or the innermost word does
    np.testing.assert_allclose(shares, expected, atol=0.03)
    joints = [w for words in found.sentences for w in words if w in ("but", "although")]
    assert len(joints) == pytest.approx(4000 * 4 * 0.4, rel=0.05)
    assert joints.count("but") == pytest.approx(len(joints) / 2, rel=0.05)
    opinions = Counter(w for words in found.sentences for w in words if w in OPINION)
    assert set(opinions) == set(OPINION)
    assert max(opinions.values()) < 1.2 * min(opinions.values())


def test_negations_at_the_ends_of_the_range():
    plain = negations(3, 2, joined=0, seed=0)
    assert all(words[:4] == ["not", "(", "not", "("] for words in plain.sentences)
    assert plain.negated.tolist() == [2, 2, 2]
    outside = negations(50, 4, joined=1, aside=1, seed=0)
    assert not outside.negated.any()
    inside = negations(50, 4, joined=1, aside=0, seed=0)
    assert (inside.negated == 4).all()
    deep = negations(1, 20_000, seed=0)
    assert deep.sentences[0].count("not") == 20_000  # no recursion, and no quadratic time


def test_negations_are_a_function_of_the_seed():
    first, again, other = (negations(20, 3, seed=seed) for seed in (1, 1, 2))
    assert first.sentences == again.sentences != other.sentences
    assert first.trees == again.trees
    rng = np.random.default_rng(1)
    assert negations(20, 3, seed=rng).sentences == first.sentences
    assert negations(20, 3, seed=rng).sentences != first.sentences


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be at least 1"),
        ({"depth": -1}, ValueError, "depth must be at least 0"),
        ({"depth": 1.5}, TypeError, "depth must be a whole number"),
        ({"joined": 1.5}, ValueError, "joined must be"),
        ({"aside": "often"}, TypeError, "aside must be"),
        ({"seed": None}, TypeError, "seed must be a whole number"),
    ],
)
def test_negations_say_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message):
        negations(**{"count": 2, "depth": 2, "seed": 0} | change)


# ---- grammars ----

ENGLISH = {
    "S": [(("NP", "VP"), 1.0)],
    "NP": [(("det", "N"), 0.6), (("NP", "PP"), 0.3), (("she",), 0.1)],
    "VP": [(("V", "NP"), 0.5), (("VP", "PP"), 0.2), (("sleeps",), 0.3)],
    "PP": [(("with", "NP"), 1.0)],
    "det": [(("a",), 0.7), (("the",), 0.3)],
    "N": [(("bird",), 0.5), (("tree",), 0.5)],
    "V": [(("sees",), 1.0)],
}
# chains with a cycle, rules that vanish, long and repeated right sides
TWISTED = {
    "S": [(("A", "x", "B", "A"), 0.4), (("A", "B"), 0.3), (("B",), 0.3)],
    "A": [((), 0.3), (("y",), 0.5), (("B",), 0.2)],
    "B": [(("A",), 0.3), (("x", "x"), 0.3), ((), 0.2), (("A", "B"), 0.2)],
}
DOUBLE = {"S": [(("S", "S"), 0.3), (("a",), 0.5), ((), 0.2)]}


def by_enumeration(rules, longest, rounds):
    """Probability of each short sentence: rewrite all strings of symbols leftmost first.

    What is not finished after the given number of rounds is left out: a lower bound that
    misses at most the returned rest.
    """
    waiting, done = {("S",): 1.0}, Counter()
    for _ in range(rounds):
        after = Counter()
        for form, p in waiting.items():
            at = next((i for i, part in enumerate(form) if part in rules), None)
            if at is None:
                done[form] += p
                continue
            for right, q in rules[form[at]]:
                new = form[:at] + tuple(right) + form[at + 1 :]
                if sum(part not in rules for part in new) <= longest:
                    after[new] += p * q
        waiting = after
    return done, sum(waiting.values())


@pytest.mark.parametrize(
    ("rules", "longest", "rounds"), [(ENGLISH, 8, 40), (TWISTED, 4, 90), (DOUBLE, 3, 90)]
)
def test_log_probability_is_the_sum_over_all_derivations(rules, longest, rounds):
    grammar = Grammar(rules)
    done, rest = by_enumeration(rules, longest, rounds)
    assert len(done) > 3 and rest < 1e-8
    for words, probability in done.items():
        inside = math.exp(grammar.log_probability(list(words)))
        assert inside == pytest.approx(probability, abs=1e-8, rel=1e-6)


def test_probabilities_of_all_short_sentences_sum_to_what_trees_say():
    grammar = Grammar({"S": [(("a", "S", "S"), 0.3), (("b",), 0.7)]})
    total = sum(
        math.exp(grammar.log_probability(words))
        for n in range(1, 10, 2)
        for words in map(list, itertools.product("ab", repeat=n))
    )
    lengths = {n: 0.0 for n in range(1, 10, 2)}
    for n in lengths:  # Catalan numbers count the trees: k splits, k + 1 leaves
        k = (n - 1) // 2
        lengths[n] = math.comb(2 * k, k) / (k + 1) * 0.3**k * 0.7 ** (k + 1)
    assert total == pytest.approx(sum(lengths.values()), rel=1e-12)


def test_ambiguous_sentence_by_hand():
    """a a a has two trees with DOUBLE's rules but without the empty one."""
    grammar = Grammar({"S": [(("S", "S"), 0.4), (("a",), 0.6)]})
    assert grammar.log_probability(["a"] * 3) == pytest.approx(math.log(2 * 0.4**2 * 0.6**3))
    # 60 words: Catalan number 59 many trees
    trees = math.comb(118, 59) // 60
    assert grammar.log_probability(["a"] * 60) == pytest.approx(
        math.log(trees) + 59 * math.log(0.4) + 60 * math.log(0.6)
    )


def test_long_sentences_do_not_underflow():
    grammar = Grammar({"S": [(("w", "S"), 1e-6), (("w",), 1 - 1e-6)]})
    assert grammar.log_probability(["w"] * 80) == pytest.approx(79 * math.log(1e-6), rel=1e-6)


def test_sentences_of_nearly_endless_grammars():
    """S becomes nothing with probability 1, by rules whose spectral radius is almost 1."""
    rest = 1e-7
    grammar = Grammar({"S": [(("S", "S"), (1 - rest) / 2), ((), (1 + rest) / 2)]})
    assert grammar.log_probability([]) == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_has_no_probability_by_rounding():
    """a is never alone: A, which alone ends in a, comes with a b; and no S comes to an end."""
    never = Grammar({
        "S": [(("A", "b"), 0.1), (("S",), 0.2), ((), 0.7)],
        "A": [(("S",), 0.9), (("a",), 0.1)],
    })  # fmt: skip
    assert never.log_probability(["a"]) == -math.inf
    assert never.log_probability(["b"]) > -math.inf
    full = Grammar({
        "S": [(("a",), 0.05), (("A", "S"), 0.05), (("S",), 0.9)],
        "A": [(("A",), 0.1), ((), 0.2), (("S",), 0.7)],
    })  # fmt: skip
    assert full.log_probability([]) == -math.inf


def short_sentences(rules, longest):
    """What each symbol can become, by growing sets of strings until they grow no more."""
    made, before = {symbol: set() for symbol in rules}, None
    while made != before:
        before = {symbol: set(strings) for symbol, strings in made.items()}
        for symbol, listed in rules.items():
            for right, _ in listed:
                parts = [before.get(part, {(part,)}) for part in right]
                joined = (sum(choice, ()) for choice in itertools.product(*parts))
                made[symbol] |= {words for words in joined if len(words) <= longest}
    return made


def test_impossible_is_what_the_rules_cannot_make():
    """Random grammars full of chains; with an inverse by subtraction, 2 of these 135 fail."""
    symbols, tried = ["S", "A", "B", "C"], 0
    ends = [(), ("a",), ("A", "b"), ("C", "S"), ("B", "a"), ("B", "C")]
    for seed in range(300):
        rng, rules = np.random.default_rng(seed), {}
        for symbol in symbols:
            rights = [(str(other),) for other in rng.choice(symbols, size=2)]
            rights.append(ends[rng.integers(6)])
            rules[symbol] = list(zip(rights, rng.dirichlet(np.ones(3)).tolist(), strict=True))
        try:
            grammar = Grammar(rules)
        except ValueError:  # no finite length
            continue
        possible, tried = short_sentences(rules, 2)["S"], tried + 1
        for n in range(3):
            for words in itertools.product("ab", repeat=n):
                assert (grammar.log_probability(list(words)) > -math.inf) == (words in possible)
    assert tried == 135


def test_empty_sentence_and_foreign_words():
    # e = .3 e² + .2, the smaller root
    nothing = (1 - math.sqrt(1 - 4 * 0.3 * 0.2)) / (2 * 0.3)
    assert Grammar(DOUBLE).log_probability([]) == pytest.approx(math.log(nothing))
    assert Grammar(ENGLISH).log_probability([]) == -math.inf
    assert Grammar(ENGLISH).log_probability(["she", "snores"]) == -math.inf
    assert Grammar(ENGLISH).log_probability(["sleeps", "she"]) == -math.inf
    for words in ("she sleeps", b"ab", None, 5):
        with pytest.raises(TypeError, match=f"words must be a list of words, got {words!r}"):
            Grammar(ENGLISH).log_probability(words)


@pytest.mark.parametrize("rules", [ENGLISH, TWISTED, DOUBLE], ids=["english", "twisted", "double"])
def test_samples_have_the_probabilities(rules):
    grammar = Grammar(rules)
    sentences = grammar.sample(20_000, seed=1)
    seen = Counter(map(tuple, sentences))
    for words, count in seen.most_common(5):
        expected = 20_000 * math.exp(grammar.log_probability(list(words)))
        assert abs(count - expected) < 5 * math.sqrt(expected)
    lengths = np.array([len(words) for words in sentences])
    error = lengths.std() / math.sqrt(len(lengths))
    assert abs(lengths.mean() - grammar.expected_length()) < 5 * error


def test_entropy_is_the_mean_surprise_of_unambiguous_sentences():
    """ENGLISH without the ambiguous attachments: one derivation a sentence."""
    rules = ENGLISH | {
        "NP": [(("det", "N"), 0.5), (("det", "N", "PP"), 0.3), (("she",), 0.2)],
        "VP": [(("V", "NP"), 0.5), (("sleeps",), 0.5)],
    }
    grammar = Grammar(rules)
    surprise = np.array([-grammar.log_probability(s) for s in grammar.sample(3000, seed=2)])
    error = surprise.std() / math.sqrt(len(surprise))
    assert abs(surprise.mean() - grammar.entropy()) < 5 * error
    # geometric length: (h(p)) / (1 - p)
    chain = Grammar({"S": [(("a", "S"), 0.75), ((), 0.25)]})
    assert chain.entropy() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 0.25)
    assert chain.expected_length() == pytest.approx(3)
    # two derivations of one sentence: one bit of derivation, none of sentence
    twice = Grammar({"S": [(("A",), 0.5), (("B",), 0.5)], "A": [(("a",), 1)], "B": [(("a",), 1)]})
    assert twice.entropy() == pytest.approx(math.log(2))
    assert twice.log_probability(["a"]) == pytest.approx(0)


def test_deep_sentences_need_no_deep_recursion():
    deep = Grammar({"S": [(("(", "S", ")"), 0.9999), ((), 0.0001)]})
    words = max(deep.sample(5, seed=3), key=len)
    half = len(words) // 2
    assert half > 5000 and words == ["("] * half + [")"] * half


def test_sampling_is_a_function_of_the_seed():
    grammar = Grammar(ENGLISH)
    assert grammar.sample(5, seed=4) == grammar.sample(5, seed=4)
    assert grammar.sample(5, seed=4) != grammar.sample(5, seed=5)
    assert grammar.sample(5, np.random.default_rng(4)) == grammar.sample(5, seed=4)
    assert grammar.sample(0, seed=4) == []


def test_rules_that_are_never_reached_do_no_harm():
    runaway = {"S": [(("a",), 1.0)], "Q": [(("Q", "Q"), 1.0)]}
    assert Grammar(runaway).sample(1, seed=0) == [["a"]]
    with pytest.raises(ValueError, match="finite expected length"):
        Grammar(runaway, start="Q")


def test_a_long_chain_of_symbols_is_consistent():
    """Its matrix is nilpotent, where eigenvalues are most inexact."""
    names = np.random.default_rng(0).permutation(300).astype(str).tolist()
    rules = {a: [((b, "w"), 0.5), ((b,), 0.5)] for a, b in itertools.pairwise(names)}
    grammar = Grammar(rules | {names[-1]: [(("w",), 1)]}, start=names[0])
    assert grammar.expected_length() == pytest.approx(1 + 299 / 2)
    assert grammar.entropy() == pytest.approx(299 * math.log(2))


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({}, ValueError, "rules must hold at least one symbol, got {}"),
        ({"A": [(("a",), 1)]}, ValueError, "start must be a symbol with rules, got 'S'"),
        ({"S": []}, ValueError, r"rules\['S'\] must hold at least one rule, got none"),
        ({"S": [(("a",), 0.5), (("b",), 0.4)]}, ValueError, "positive probabilities with sum 1"),
        ({"S": [(("a",), 1.5), (("b",), -0.5)]}, ValueError, "positive probabilities with sum 1"),
        ({"S": [(("a",), math.nan)]}, ValueError, "positive probabilities with sum 1"),
        ({"S": [("NP", 1.0)]}, TypeError, "tuples of strings as right sides, got 'NP'"),
        ({"S": [(("a", 3), 1.0)]}, TypeError, "tuples of strings as right sides"),
        ({"S": [({"a", "b"}, 1.0)]}, TypeError, "tuples of strings as right sides, got {'"),
        ({"S": [(5, 1.0)]}, TypeError, "tuples of strings as right sides, got 5"),
        ({"S": [("a", "b", "c")]}, ValueError, "must hold pairs"),
        ({"S": None}, TypeError, r"rules\['S'\] must be a list of rules, got None"),
        ({"S": [(("a",), "x")]}, TypeError, r"\['S'\]'s probability must be real .* got 'x'"),
        ({"S": [(("a",), None)]}, TypeError, r"\['S'\]'s probability must be .* got None"),
        ({"S": [(("a",), True)]}, TypeError, r"\['S'\]'s probability must be one .* got True"),
        ([("S", "a")], TypeError, r"rules must be a dict, got \[\('S', 'a'\)\]"),
        ({"S": [(("S",), 1.0)]}, ValueError, "spectral radius below 1, got 1"),
        ({"S": [(("S", "S"), 0.5), (("a",), 0.5)]}, ValueError, "below 1, got 1"),
        # ten tenths are less than 1 by rounding alone
        ({"S": [(("S", "a"), 0.1)] * 10}, ValueError, "below 1, got 1"),
        ({"S": [(("S", "S"), 0.7), (("a",), 0.3)]}, ValueError, "below 1, got 1.4"),
        (
            {"S": [(("A", "A"), 0.9), ((), 0.1)], "A": [(("S",), 0.6), (("a",), 0.4)]},
            ValueError,
            "below 1, got 1.03923",  # the root of 2 * .9 * .6
        ),
    ],
)
def test_grammar_says_what_is_wrong(rules, error, message):
    with pytest.raises(error, match=message):
        Grammar(rules)


def test_the_start_must_be_a_symbol():
    with pytest.raises(ValueError, match=r"start must be a symbol with rules, got \['S'\]"):
        Grammar({"S": [(("a",), 1)]}, start=["S"])
