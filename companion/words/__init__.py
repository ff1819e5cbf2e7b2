"""Words as numbers: counts, subwords, embedding tables, and vectors learned from context."""

from companion.words.context import (
    Contexts,
    Pairs,
    contexts,
    keep_probability,
    noise_distribution,
    pairs,
    subsample,
)
from companion.words.embedding import Embedding
from companion.words.encoding import TfIdf, bag_of_words, one_hot
from companion.words.losses import FullSoftmax, NegativeSampling, NoiseContrastive
from companion.words.models import CBOW, SkipGram
from companion.words.subword import BytePairEncoding
from companion.words.vectors import AnalogyScore, SimilarityScore, WordVectors
from companion.words.word2vec import Word2Vec
from companion.words.world import Analogy, World

__all__ = [
    "CBOW",
    "Analogy",
    "AnalogyScore",
    "BytePairEncoding",
    "Contexts",
    "Embedding",
    "FullSoftmax",
    "NegativeSampling",
    "NoiseContrastive",
    "Pairs",
    "SimilarityScore",
    "SkipGram",
    "TfIdf",
    "Word2Vec",
    "WordVectors",
    "World",
    "bag_of_words",
    "contexts",
    "keep_probability",
    "noise_distribution",
    "one_hot",
    "pairs",
    "subsample",
]
