"""Recurrent cells and the layers that run them over a sequence (chapter 3).

A *cell* is one step of a recurrence. *Layers* run cells over sequences and compose:
``Unroll`` runs one cell along time, ``Bidirectional`` joins two directions, ``Stack`` puts layers
on top of each other. ``RNN`` is the finished layer with ``torch.nn.RNN``'s interface.
"""

from .cells import JordanCell, JordanState, Leaky, RNNCell, RNNState
from .feedback import free_run
from .language import LanguageModel, Reading, next_probabilities, next_token_loss, streams
from .layers import Bidirectional, BidirectionalState, Stack, Unroll
from .rnn import RNN
from .trees import Recursive, TreeCell, Trees, TreeState

__all__ = [
    "RNN",
    "Bidirectional",
    "BidirectionalState",
    "JordanCell",
    "JordanState",
    "LanguageModel",
    "Leaky",
    "RNNCell",
    "RNNState",
    "Reading",
    "Recursive",
    "Stack",
    "TreeCell",
    "TreeState",
    "Trees",
    "Unroll",
    "free_run",
    "next_probabilities",
    "next_token_loss",
    "streams",
]
