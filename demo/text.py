"""Captions to tokens: a vocabulary of the captions' own words, and batches for training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from demo.captions import UNKNOWN_WORD, caption
from demo.scenes import sample_scenes

PADDING, END, UNKNOWN = "<pad>", "</s>", "<unk>"
LONGEST = 32  # tokens of a training caption


@cache
def build_tokenizer() -> Tokenizer:
    """One token per word, over all words of 40000 captions; the same vocabulary every time."""
    chooser, rng = random.Random(0), np.random.default_rng(0)
    words: set[str] = set()
    for video in (False, True):
        for scene in sample_scenes(20000, rng, video=video):
            text = caption(scene, chooser).replace(",", " , ").replace(".", " . ")
            words.update(text.split())
    words.discard(UNKNOWN_WORD)
    vocabulary = [PADDING, END, UNKNOWN, *sorted(words)]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, numbers[END])]
    )
    return tokenizer


def tokenize(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """Captions to token numbers `b 32`, padded with zeros; at least one zero at the end."""
    tokens = torch.zeros(len(captions), LONGEST, dtype=torch.long)
    for row, encoded in zip(tokens, tokenizer.encode_batch(list(captions)), strict=True):
        numbers = encoded.ids[: LONGEST - 1]
        row[: len(numbers)] = torch.tensor(numbers)
    return tokens
