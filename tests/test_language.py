"""Language models: measured in bounded memory, sampled, and carried on from call to call."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.metrics import log_loss
from torch import nn
from torch.nn import functional as F

from companion.recurrent import (
    RNN,
    Bidirectional,
    LanguageModel,
    Leaky,
    Reading,
    RNNCell,
    Stack,
    Unroll,
    language,
    next_probabilities,
    next_token_loss,
    streams,
)
from companion.sequences import Characters, MarkovChain, Vocabulary
from companion.training import fit
from companion.words import BytePairEncoding

LETTERS = Characters("abcde ")
TEXTS = ["a bad cab", "ad", "decade a bee", "dad"]


def rnn(size, units=7):
    torch.manual_seed(1)
    layer = Stack(nn.Embedding(size, 5), RNN(5, units), nn.Linear(units, size)).double()
    with torch.no_grad():
        for weight in layer.parameters():  # far from zero, so that tokens differ
            weight.copy_(torch.randn_like(weight))
    return layer


@pytest.fixture
def model():
    return LanguageModel(rnn(len(LETTERS)), LETTERS)


def bigrams(P, symbols):
    """A Markov chain as a language model: its table of log probabilities is the whole layer."""
    table = nn.Embedding.from_pretrained(torch.tensor(P, dtype=torch.float64).log())
    return LanguageModel(Stack(table), Characters(symbols))


def one_by_one(model, text):
    """Each token's log probability by reading the whole past again, without a carried state."""
    ids = torch.tensor(model.tokeniser.encode(text))
    found = []
    for n in range(1, len(ids)):
        logits = model.layer(ids[:n, None])[0][-1, 0].detach().numpy()
        found.append(special.log_softmax(logits)[ids[n]])
    return np.array(found)


# ---- measuring ----


def test_log_probabilities_are_those_of_torch_step_by_step(model):
    table, recurrent, linear = model.layer
    text = "a bad decade"
    ids, theirs = LETTERS.encode(text), recurrent.to_torch()
    x = table(torch.tensor(ids)[:-1, None])
    logits = linear(theirs(x)[0])[:, 0]
    expected = torch.distributions.Categorical(logits=logits).log_prob(torch.tensor(ids[1:]))
    found = model.log_probabilities(text)
    assert found.shape == (len(text) - 1,) and found.dtype == np.float64
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(found, one_by_one(model, text), rtol=1e-12)
    assert model.log_probability(text) == pytest.approx(found.sum(), rel=1e-12)


def test_a_chain_of_letters_has_the_probabilities_of_its_table():
    P = np.array([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [0.3, 0.3, 0.4]])
    chain, text = MarkovChain(P, states="abc"), "abcabbaaccb"
    expected = chain.log_probability(text) - math.log(chain.initial[0])
    assert bigrams(P, "abc").log_probability(text) == pytest.approx(expected, rel=1e-12)


def test_perplexity_is_the_exponential_of_total_loss_over_tokens(model):
    losses = [-one_by_one(model, text) for text in TEXTS]
    right = np.exp(np.concatenate(losses).mean())
    assert model.perplexity(TEXTS) == pytest.approx(right, rel=1e-12)
    assert model.perplexity(iter(TEXTS)) == pytest.approx(right, rel=1e-12)
    assert model.perplexity(TEXTS[:1]) == pytest.approx(np.exp(losses[0].mean()), rel=1e-12)
    # neither of the two wrong ways
    assert abs(np.mean([np.exp(loss.mean()) for loss in losses]) / right - 1) > 0.02
    assert abs(np.exp(np.mean([loss.mean() for loss in losses])) / right - 1) > 0.02


def test_perplexity_agrees_with_scikit_learn(model):
    text, V = "a bad decade", len(LETTERS)
    ids = LETTERS.encode(text)
    p = special.softmax(model(torch.tensor(ids)[:-1, None])[0][:, 0].detach().numpy(), axis=1)
    loss = log_loss(ids[1:], p, labels=range(V))
    assert model.perplexity([text]) == pytest.approx(math.exp(loss), rel=1e-9)


def test_texts_of_any_length_are_measured_as_if_alone(model, monkeypatch):
    texts = TEXTS * 5
    alone = [one_by_one(model, text) for text in texts]
    for together, budget in ((64, 2**22), (3, 2**22), (7, 7 * 1024 * 2), (1, 1)):
        monkeypatch.setattr(language, "TOGETHER", together)
        monkeypatch.setattr(language, "BUDGET", budget)
        for found, expected in zip(model._measured(texts), alone, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_memory_does_not_grow_with_the_text(monkeypatch):
    seen = []

    class Spy(nn.Embedding):
        def forward(self, x):
            seen.append(x.numel())
            return super().forward(x)

    monkeypatch.setattr(language, "BUDGET", 1024 * 50)
    model = LanguageModel(Stack(Spy(6, 6)), LETTERS)
    model.perplexity(["ab" * 1000])
    assert max(seen) == 50 and sum(seen) == 1999
    seen.clear()
    model.perplexity(["ab" * 1000] * 5)
    assert max(seen) == 50 and sum(seen) == 5 * 1999


def test_bits_per_character():
    uniform = [[0.25] * 4] * 4
    for texts in (["abba", "dad"], ["ab" * 100]):
        assert bigrams(uniform, "abcd").bits_per_character(texts) == pytest.approx(2, rel=1e-12)
    model = LanguageModel(rnn(len(LETTERS)), LETTERS)
    expected = math.log2(model.perplexity(TEXTS))
    assert model.bits_per_character(TEXTS) == pytest.approx(expected, rel=1e-12)


def test_bits_per_character_count_characters_and_not_tokens():
    pieces = BytePairEncoding([(97, 98), (256, 256)])  # ab, abab
    zero = nn.Embedding.from_pretrained(torch.zeros(258, 258, dtype=torch.float64))
    model = LanguageModel(Stack(zero), pieces)
    # a | abab abab ab: one token is read, of the other three each costs log2(258) bits
    assert pieces.encode("aababababab").tolist() == [97, 257, 257, 256]
    found = model.bits_per_character(["aababababab"])
    assert found == pytest.approx(3 * math.log2(258) / 10, rel=1e-12)
    # abab | é: two bytes, one character
    assert model.bits_per_character(["ababé"]) == pytest.approx(2 * math.log2(258), rel=1e-12)


def test_what_cannot_be_measured_is_named(model):
    with pytest.raises(ValueError, match="two tokens at least, .* got 1"):
        model.log_probability("a")
    with pytest.raises(ValueError, match="two tokens at least, .* got 0"):
        model.perplexity(["ab", ""])
    for measure in (model.perplexity, model.bits_per_character):
        with pytest.raises(TypeError, match="texts must be a list of texts, got the string 'ab"):
            measure("abc")
        with pytest.raises(ValueError, match="at least one text, got none"):
            measure([])
    with pytest.raises(ValueError, match="no other characters .* got 'x' at index 1"):
        model.log_probability("axe")
    words = LanguageModel(rnn(6), Vocabulary([["the", "cat"]]))
    with pytest.raises(TypeError, match="must be a string to have characters, got list"):
        words.bits_per_character([["the", "cat"]])


def test_dropout_is_off_where_a_model_is_measured_or_writes(model):
    noisy = LanguageModel(Stack(model.layer[0], nn.Dropout(0.5), *model.layer[1:]), LETTERS)
    noisy.layer[3].eval()  # a part that was frozen stays so
    assert noisy.log_probability("a bad cab") == pytest.approx(model.log_probability("a bad cab"))
    written = [m.generate("a", 20, seed=0, temperature=0)[0] for m in (model, noisy)]
    assert written[0] == written[1]
    with pytest.raises(ValueError, match="top_k"):
        noisy.generate("a", 1, seed=0, top_k=0)
    modes = [part.training for part in noisy.layer]
    assert noisy.training and modes == [True, True, True, False]


# ---- from scores to probabilities ----


def test_temperature_divides_the_scores():
    scores = torch.randn(4, 9, dtype=torch.float64)
    for temperature in (0.1, 1, 3.5):
        found = next_probabilities(scores, temperature)
        np.testing.assert_allclose(found, special.softmax(scores / temperature, -1), rtol=1e-12)
    everything = next_probabilities(scores, top_k=9, top_p=1)
    np.testing.assert_allclose(everything, next_probabilities(scores), rtol=1e-12)


def test_temperature_zero_is_the_limit():
    scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0]])
    at_zero = next_probabilities(scores, 0)
    assert at_zero.tolist() == [[0, 1, 0], [0.5, 0.5, 0]]  # two highest share it
    assert torch.equal(at_zero, next_probabilities(scores, 1e-3))
    assert torch.equal(at_zero, next_probabilities(scores, 1e-320))
    assert torch.equal(at_zero, next_probabilities(scores, top_k=1))


def test_scores_of_any_size_will_do():
    huge = torch.tensor([1e38, -1e38, 9.9e37])
    assert next_probabilities(huge).tolist() == [1, 0, 0]
    barred = torch.tensor([0.0, -math.inf, 0.0])
    assert next_probabilities(barred, temperature=2).tolist() == [0.5, 0, 0.5]
    assert next_probabilities(barred, top_k=3, top_p=0.9).tolist() == [0.5, 0, 0.5]


P = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(top_k=1), [0, 1, 0, 0]),
        (dict(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (dict(top_k=99), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_p=0.3), [0, 1, 0, 0]),
        (dict(top_p=0.41), [0, 4 / 7, 0, 3 / 7]),  # the fewest that reach it
        (dict(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (dict(top_p=1e-300), [0, 1, 0, 0]),
        # top_k first: 4/7 reaches a half of what it left
        (dict(top_k=2, top_p=0.5), [0, 1, 0, 0]),
        # squares 1, 16, 4, 9 of 30: the temperature comes first
        (dict(temperature=0.5, top_p=0.53), [0, 1, 0, 0]),
        (dict(temperature=0.5, top_k=3), [0, 16 / 29, 4 / 29, 9 / 29]),
    ],
)
def test_what_is_kept(options, expected):
    found = next_probabilities(P.log(), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    rows = next_probabilities(torch.stack([P.log(), P.flip(0).log() + 7]), **options)
    np.testing.assert_allclose(rows, [expected, expected[::-1]], rtol=1e-12, atol=0)


def test_a_nucleus_that_has_just_the_probability_is_large_enough():
    halves = torch.tensor([0.25, 0.5, 0.125, 0.125], dtype=torch.float64).log()
    assert next_probabilities(halves, top_p=0.5).tolist() == [0, 1, 0, 0]


def test_equals_are_kept_together():
    even = torch.tensor([2.0, 2.0, 2.0, 0.0])
    for options in (dict(top_k=1), dict(top_k=2), dict(top_p=0.1), dict(temperature=0)):
        np.testing.assert_allclose(next_probabilities(even, **options), [1 / 3] * 3 + [0])


@pytest.mark.parametrize(
    ("error", "options", "match"),
    [
        (ValueError, dict(top_k=0), "top_k must be at least 1, got 0"),
        (TypeError, dict(top_k=1.5), "top_k must be a whole number, got 1.5"),
        (ValueError, dict(top_p=0), "top_p must be above 0 and at most 1, got 0"),
        (ValueError, dict(top_p=1.1), "top_p must be above 0 and at most 1, got 1.1"),
        (ValueError, dict(top_p=math.nan), "top_p must be above 0 and at most 1, got nan"),
        (ValueError, dict(temperature=-1), "temperature must be from 0 .* got -1"),
        (ValueError, dict(temperature=math.inf), "temperature must be from 0 .* got inf"),
        (TypeError, dict(temperature="hot"), "temperature must be a number, got 'hot'"),
    ],
)
def test_nothing_left_is_an_error(model, error, options, match):
    with pytest.raises(error, match=match):
        next_probabilities(torch.zeros(3), **options)
    with pytest.raises(error, match=match):
        model.generate("a", 1, seed=0, **options)


def test_scores_without_a_highest_are_an_error():
    for bad in ([math.nan, 0.0], [-math.inf, -math.inf], [math.inf, 0.0]):
        for temperature in (0, 1):
            with pytest.raises(ValueError, match="logits must have a finite highest score, got"):
                next_probabilities(torch.tensor(bad), temperature)
    with pytest.raises(TypeError, match=r"logits must be a torch.Tensor, got list"):
        next_probabilities([0.0, 1.0])


# ---- writing ----


def test_what_has_no_probability_is_never_drawn():
    class Lowest:
        def random(self):
            return 0.0

    assert language._draw(Lowest(), np.array([0.0, 0.0, 0.4, 0.6])) == 2


def test_a_chain_of_letters_writes_with_the_frequencies_of_its_table():
    P = np.array([[0.7, 0.2, 0.1], [0.05, 0.0, 0.95], [0.3, 0.3, 0.4]])
    model = bigrams(P, "abc")
    for seed in range(3):
        text, _ = model.generate("a", 3000, seed=seed)
        pairs = np.zeros((3, 3))
        ids = model.tokeniser.encode("a" + text)
        np.add.at(pairs, (ids[:-1], ids[1:]), 1)
        assert pairs[1, 1] == 0
        for row, p in zip(pairs, P, strict=True):
            row, p = row[p > 0], p[p > 0]
            assert stats.chisquare(row, p * row.sum()).pvalue > 1e-5


def test_arg_max_is_the_choice_of_one_who_reads_the_whole_past_again(model):
    text = "a bad"
    for _ in range(15):
        ids = torch.tensor(LETTERS.encode(text))
        text += LETTERS.decode([int(model.layer(ids[:, None])[0][-1, 0].argmax())])
    assert len(set(text[5:])) > 1  # it does depend on the past
    found, _ = model.generate("a bad", 15, seed=0, temperature=0)
    assert found == text[5:]


def test_two_calls_write_what_one_does(model):
    whole, end = model.generate("a bad", 30, seed=np.random.default_rng(3))
    rng = np.random.default_rng(3)
    first, state = model.generate("a bad", 12, seed=rng)
    second, state = model.generate("", 18, seed=rng, state=state)
    assert first + second == whole and state.last == end.last == LETTERS.encode(whole[-1])[0]
    assert all(torch.equal(a, b) for a, b in zip(state.state[1], end.state[1], strict=True))
    assert model.generate("a bad", 30, seed=3)[0] == whole != model.generate("a bad", 30, seed=4)[0]


def test_a_prompt_follows_on_what_was_written(model):
    first, state = model.generate("bad", 5, seed=0)
    answer, _ = model.generate(" cab", 8, seed=1, state=state)
    assert answer == model.generate("bad" + first + " cab", 8, seed=1)[0]


def test_a_long_prompt_is_read_in_windows(model, monkeypatch):
    prompt = "a bad decade " * 9
    expected, _ = model.generate(prompt, 10, seed=0, temperature=0)
    monkeypatch.setattr(language, "BUDGET", 7 * 1024)
    assert model.generate(prompt, 10, seed=0, temperature=0)[0] == expected


def test_words_and_pieces_of_words_are_tokens_too():
    vocabulary = Vocabulary([["the", "cat", "sat"]])
    text, state = LanguageModel(rnn(len(vocabulary)), vocabulary).generate(["the"], 4, seed=0)
    assert len(text) == 4 and set(text) <= set(vocabulary.words)
    assert vocabulary.word(state.last) == text[-1]
    pieces = BytePairEncoding.learn(["low lower lowest"], vocab_size=260)
    text, _ = LanguageModel(rnn(len(pieces)), pieces).generate("low", 9, seed=0)
    assert isinstance(text, str)


def test_any_layer_over_any_cell_goes_in():
    cell = Leaky(RNNCell(5, 7), 0.5)
    layer = Stack(nn.Embedding(6, 5), Unroll(cell), RNN(7, 4, num_layers=2), nn.Linear(4, 6))
    model = LanguageModel(layer.double(), LETTERS)
    np.testing.assert_allclose(
        model.log_probabilities("a bad decade"), one_by_one(model, "a bad decade"), rtol=1e-10
    )
    rng = np.random.default_rng(0)
    first, state = model.generate("dad", 9, seed=rng)
    second, _ = model.generate("", 9, seed=rng, state=state)
    assert first + second == model.generate("dad", 18, seed=0)[0]


def test_what_cannot_go_on_is_named(model):
    with pytest.raises(ValueError, match="prompt must hold at least one token, got none"):
        model.generate("", 3, seed=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        model.generate("a", 0, seed=0)
    with pytest.raises(TypeError, match="state must be a Reading or None, got tuple"):
        model.generate("a", 1, seed=0, state=model.initial_state(1))
    with pytest.raises(TypeError, match="seed must be a whole number, got None"):
        model.generate("a", 1, seed=None)
    assert isinstance(model.generate("a", 1, seed=0)[1], Reading)


def test_what_is_no_language_model_is_named():
    back = Unroll(RNNCell(5, 7), reverse=True)
    both = Bidirectional(Unroll(RNNCell(5, 7)), back)
    for layer in (back, both, RNN(5, 7, bidirectional=True)):
        with pytest.raises(ValueError, match="read ahead only, .* that reads backwards"):
            LanguageModel(Stack(nn.Embedding(6, 5), layer), LETTERS)
    with pytest.raises(TypeError, match="layer must be a recurrent layer .* got Linear"):
        LanguageModel(nn.Linear(5, 6), LETTERS)
    with pytest.raises(TypeError, match="tokeniser must have .* got str without decode"):
        LanguageModel(rnn(6), "abc")
    with pytest.raises(ValueError, match=r"scores \(3, 1, 6\), got \(3, 1, 4\)"):
        LanguageModel(rnn(4), LETTERS)(torch.zeros(3, 1, dtype=torch.int64))


# ---- training ----


def test_the_loss_is_the_mean_over_all_tokens():
    logits = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    target = torch.randint(8, (5, 3))
    p = special.softmax(logits.detach().numpy(), -1)
    expected = -np.log(np.take_along_axis(p, target.numpy()[..., None], -1)).mean()
    loss = next_token_loss(logits, target)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()  # softmax less one-hot, divided by the number of tokens
    d_logits = (p - np.eye(8)[target]) / 15
    np.testing.assert_allclose(logits.grad, d_logits, rtol=1e-10, atol=1e-14)


def test_the_loss_refuses_axes_that_were_swapped():
    """With B = V, cross_entropy takes (T, B, V) and (T, V) and answers."""
    logits = torch.randn(5, 8, 8)
    F.cross_entropy(logits, torch.randint(8, (5, 8)))
    with pytest.raises(ValueError, match=r"\(T, B\) and logits \(T, B, V\), got \(8, 5\)"):
        next_token_loss(logits, torch.randint(8, (8, 5)))
    with pytest.raises(ValueError, match=r"got \(5, 8\) and \(8, 8\)"):
        next_token_loss(logits[0], torch.randint(8, (5, 8)))
    with pytest.raises(TypeError, match=r"target must be a torch.Tensor, got list"):
        next_token_loss(logits, [1])


def test_streams_go_on_where_they_stopped():
    ids = np.random.default_rng(0).integers(50, size=103)
    x, target = streams(ids, 4)
    assert x.shape == target.shape == (25, 4) and x.dtype == torch.int64
    assert x.T.flatten().tolist() == ids[:100].tolist()
    assert target.T.flatten().tolist() == ids[1:101].tolist()
    one, _ = streams(torch.tensor(ids), 1)
    assert one.shape == (102, 1)
    assert streams([7, 8], 1)[1].tolist() == [[8]]


def test_streams_need_more_tokens_than_streams():
    for ids, count in (([1, 2, 3], 3), ([], 1), ([[1, 2], [3, 4]], 1)):
        with pytest.raises(ValueError, match=r"ids must be \(N,\) with N above count"):
            streams(ids, count)
    with pytest.raises(TypeError, match="ids must be whole numbers, got dtype float64"):
        streams([1.0, 2.0], 1)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        streams([1, 2], 0)


@pytest.mark.parametrize("seed", range(3))
def test_fit_trains_it_with_a_carried_state(seed):
    torch.manual_seed(seed)
    text = "a bad cab " * 80
    layer = Stack(nn.Embedding(6, 8), RNN(8, 24), nn.Linear(24, 6))
    model = LanguageModel(layer, LETTERS)
    data = [streams(LETTERS.encode(text), 8)]
    before = model.perplexity([text])
    fit(model, data, next_token_loss, epochs=15, learning_rate=0.02, truncate=10, progress=False)
    assert model.perplexity([text]) < 1.3 < before
    assert model.generate("a bad c", 12, seed=0, temperature=0)[0] == "ab a bad cab"


def test_ids_of_any_whole_type_are_read():
    class Bytes:
        def encode(self, text):
            return np.frombuffer(text.encode(), np.uint8)

        def decode(self, ids):
            return bytes(ids).decode("latin1")

        def __len__(self):
            return 256

    layer = Stack(nn.Embedding(256, 8), RNN(8, 8), nn.Linear(8, 256))
    text, _ = LanguageModel(layer, Bytes()).generate("abc", 3, seed=0)
    assert len(text) == 3


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (torch.tensor([[0, -100]]), ValueError, "target must be ids from 0 to 3, got -100 to 0"),
        (torch.tensor([[0, 4]]), ValueError, "target must be ids from 0 to 3, got 0 to 4"),
        (torch.zeros(1, 2), TypeError, "target must hold whole numbers, got dtype torch.float32"),
    ],
)
def test_targets_that_are_no_tokens_are_named(target, error, message):
    with pytest.raises(error, match=message):
        next_token_loss(torch.zeros(1, 2, 4), target)


def test_targets_of_another_whole_type_count():
    logits, target = torch.randn(3, 2, 4), torch.randint(4, (3, 2))
    assert next_token_loss(logits, target.int()) == next_token_loss(logits, target)
