# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prompts of an exact length that no cache knows: no two are alike, in one run or in two.

The words are from texts without copyright: Confucius, Laozi, the Declaration of Independence, Lewis Carroll, Melville.
Tokens are those that the engine itself makes of them, in a new order for each request.
"""

from __future__ import annotations

import math
import random
from typing import List, Optional, Sequence, Union

TEXTS = (
    "子曰：「學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？人不知而不慍，不亦君子乎？」",
    "子曰：「吾十有五而志于學，三十而立，四十而不惑，五十而知天命，六十而耳順，七十而從心所欲，不踰矩。」",
    "子曰：「溫故而知新，可以為師矣。」子曰：「學而不思則罔，思而不學則殆。」子曰：「三人行，必有我師焉。」",
    "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。故常無欲，以觀其妙；常有欲，以觀其徼。",
    "上善若水。水善利萬物而不爭，處眾人之所惡，故幾於道。居善地，心善淵，與善仁，言善信，正善治，事善能，動善時。",
    "合抱之木，生於毫末；九層之臺，起於累土；千里之行，始於足下。為者敗之，執者失之。",
    "When in the Course of human events, it becomes necessary for one people to dissolve the political "
    "bands which have connected them with another, and to assume among the powers of the earth, the "
    "separate and equal station to which the Laws of Nature and of Nature's God entitle them, a decent "
    "respect to the opinions of mankind requires that they should declare the causes which impel them to "
    "the separation.",
    "We hold these truths to be self-evident, that all men are created equal, that they are endowed by "
    "their Creator with certain unalienable Rights, that among these are Life, Liberty and the pursuit of"
    " Happiness.",
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to"
    " do: once or twice she had peeped into the book her sister was reading, but it had no pictures or "
    "conversations in it, and what is the use of a book, thought Alice, without pictures or "
    "conversations?",
    "There was nothing so very remarkable in that; nor did Alice think it so very much out of the way to "
    "hear the Rabbit say to itself, Oh dear! Oh dear! I shall be late! But when the Rabbit actually took "
    "a watch out of its waistcoat-pocket, and looked at it, and then hurried on, Alice started to her "
    "feet.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my "
    "purse, and nothing particular to interest me on shore, I thought I would sail about a little and see"
    " the watery part of the world. It is a way I have of driving off the spleen, and regulating the "
    "circulation.",
    "There is nothing surprising in this. If they but knew it, almost all men in their degree, some time "
    "or other, cherish very nearly the same feelings towards the ocean with me.",
)
TEXT = "\n".join(TEXTS)
_WORDS = tuple(word for text in TEXTS[6:] for word in text.split())
TOKENS_A_WORD = 1.3  # of English, until the engine has counted once

Prompt = Union[List[int], str]


def longest(tokens: int, range_ratio: float) -> int:
    """The longest of `Prompts.around`."""
    return math.ceil(tokens * (1 + range_ratio))


class Prompts:
    """An endless supply of prompts of `tokens` tokens; the first `shared` of them are the same in all.

    :param pool: token ids that the engine makes of `TEXT`; without them prompts are text of about that length, and
        `learn` brings it closer.
    :param seed: for tests; else the system's own randomness, so that no run repeats another.
    """

    def __init__(
        self, tokens: int, pool: Optional[Sequence[int]] = None, shared: int = 0, seed: Optional[int] = None
    ) -> None:
        self._random = random.Random(seed)  # without a seed: from the system
        self._tokens, self._shared = tokens, min(shared, tokens)
        self._pool = list(dict.fromkeys(pool)) if pool else []
        self._ratio = TOKENS_A_WORD
        self._prefix = self._some(self._shared)

    def reseed(self) -> None:
        """In a process that was forked: other prompts than its siblings', with the same shared part."""
        self._random = random.Random()

    @property
    def exact(self) -> bool:
        """Whether the prompts are tokens, and so of exactly the length that was asked for."""
        return bool(self._pool)

    def _some(self, tokens: int) -> Prompt:
        if self._pool:
            return self._random.choices(self._pool, k=tokens)
        return " ".join(self._random.choices(_WORDS, k=max(1, round(tokens / self._ratio)) if tokens else 0))

    def learn_ratio(self, counted: int) -> None:
        """The engine counted so many tokens in a prompt of text that was made to have `tokens`."""
        if not self._pool and counted > 0:
            self._ratio = max(0.2, self._ratio * counted / self._tokens)
            self._prefix = self._some(self._shared)

    def around(self, tokens: int, range_ratio: float) -> int:
        """A length in tokens, at random: each of (1 - range_ratio) to (1 + range_ratio) times `tokens` is as likely.

        As ``--random-range-ratio`` of `vllm bench serve`.
        """
        if not range_ratio:
            return tokens
        return self._random.randint(max(1, math.floor(tokens * (1 - range_ratio))), longest(tokens, range_ratio))

    def take(self, range_ratio: float = 0.0) -> Prompt:
        """The next one. `range_ratio`: how far its length may be from `tokens`; the shared part is always whole."""
        rest = self._some(max(0, self.around(self._tokens, range_ratio) - self._shared))
        if not self._shared:
            return rest
        return self._prefix + rest if self._pool else "%s %s" % (self._prefix, rest)  # type: ignore[operator]
