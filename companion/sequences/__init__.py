"""Sequences: real series, windows over them, parts in time order, batches, baselines."""

from companion.sequences.baselines import Autoregression, Climatology, outcomes, persistence
from companion.sequences.batches import MaskedLoss, batches, mask, pad
from companion.sequences.corpora import chorales, digits, news, nottingham, shakespeare
from companion.sequences.fetch import FILES, Source, cache_folder, fetch
from companion.sequences.generators import (
    DNA,
    Balls,
    Brackets,
    Grammar,
    Site,
    bouncing_ball,
    brackets,
    dna,
)
from companion.sequences.markov import (
    Additive,
    Interpolated,
    KneserNey,
    MarkovChain,
    MaximumLikelihood,
    NGram,
    WittenBell,
)
from companion.sequences.series import Series, co2, elnino, sunspots
from companion.sequences.vocabulary import Vocabulary, tokenise
from companion.sequences.windows import Scaler, Split, Windows, split, split_slices, windows

__all__ = [
    "Additive",
    "Autoregression",
    "Balls",
    "Brackets",
    "Climatology",
    "DNA",
    "FILES",
    "Grammar",
    "Interpolated",
    "KneserNey",
    "MarkovChain",
    "MaximumLikelihood",
    "NGram",
    "MaskedLoss",
    "Scaler",
    "Series",
    "Site",
    "Source",
    "Split",
    "Vocabulary",
    "Windows",
    "WittenBell",
    "batches",
    "bouncing_ball",
    "brackets",
    "cache_folder",
    "chorales",
    "co2",
    "digits",
    "dna",
    "elnino",
    "fetch",
    "mask",
    "news",
    "nottingham",
    "outcomes",
    "pad",
    "persistence",
    "shakespeare",
    "split",
    "split_slices",
    "sunspots",
    "tokenise",
    "windows",
]
