"""Generation and reading with a transformers model: many prompts at once, a shared prefix computed once, and the
likeliest tokens captured with their log-probabilities as they are chosen.

Legend: B rows of a batch, V vocabulary, K captured candidates, T response tokens.

An answer depends on its prompt, the settings and the batch it is computed in (the last bits of a matrix product
depend on its shape), and on nothing else: sampling draws from a generator seeded by the settings and the row's own
key. Who needs the same bits twice plans the same batches twice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InvalidInput
from limbeck.inference.memory import Memory, PlainMemory, Prefix, read_prefix, shares_well
from limbeck.inference.telling import Telling
from limbeck.models.loading import LoadedModel
from limbeck.models.packing import (
    Tokens,
    pack,
    packs_of,
    packs_well,
    plain_logits,
    response_hidden,
    response_logits,
)
from limbeck.records import Answer, GenerationSettings, SoftLabels

__all__ = ["Engine", "common_prefix", "drawn_labels_of", "soft_labels_of"]

COMPACT_BELOW = 0.75
"""Finished rows are taken out of a batch when fewer than this share of its rows still run."""

HEAD_POSITIONS = 512
"""Logits held at once where responses are read: of a 49,152-token vocabulary they are 100 MB in fp32."""


class Engine:
    """Answers prompts, and reads given answers, with one loaded model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.renderer = loaded.renderer
        self._prefix: tuple[tuple[int, ...], Prefix] = ((), ())
        self._shares_well: bool | None = None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        keys: Sequence[str] | None = None,
        prefix: Sequence[int] = (),
        check: Callable[[], None] = lambda: None,
    ) -> list[Answer]:
        """Answer token prompts as one batch; answers come in the same order.

        ``keys`` seed each row's sampling. ``prefix``, if every prompt begins with it, is computed once and kept
        for the next call. ``check`` is called at every token and may raise to stop. Raises `InvalidInput` for a
        prompt that leaves no room in the model's context.
        """
        for prompt in prompts:
            self._check_room(len(prompt))
        with torch.inference_mode():
            run = _Run(self, prompts, settings, keys or [""] * len(prompts), tuple(prefix))
            while run.step():
                check()
            return run.answers()

    def read(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        top_k: int,
        pack_tokens: int = 2048,
        temperature: float = 1.0,
        draws: int = 0,
        seed: int = 0,
    ) -> list[Answer]:
        """The distributions with which the model reads given responses, by one teacher-forced pass.

        Of each the ``top_k`` likeliest tokens are kept, or ``draws`` tokens drawn from it.
        """
        sequences = [Tokens((*p, *r), len(p)) for p, r in zip(prompts, responses, strict=True)]
        self._check_read(sequences)
        soft: list[list[SoftLabels]] = [[] for _ in sequences]
        keys = (" ".join(map(str, (*p, "|", *r))) for p, r in zip(prompts, responses, strict=True))
        drawing = [_seeded(seed, f"draws {key}") for key in keys]
        with torch.inference_mode():
            packs = packs_of(sequences, pack_tokens) if self.packs_well else [[i] for i in range(len(sequences))]
            for chosen in packs:
                for i, logits_TV in self._read_pack(chosen, sequences):
                    if draws:
                        soft[i].append(drawn_labels_of(logits_TV, draws, temperature, drawing[i]))
                    elif top_k:
                        soft[i].append(soft_labels_of(logits_TV, top_k, temperature))
        answers = []
        for prompt, ids, parts in zip(prompts, map(tuple, responses), soft, strict=True):
            stopped = bool(ids) and ids[-1] in self.renderer.stop_ids
            reason: Literal["stop", "length"] = "stop" if stopped else "length"
            answers.append(Answer(self.renderer.text(ids), ids, reason, len(prompt), _joined(parts)))
        return answers

    def _read_pack(self, chosen: Sequence[int], sequences: Sequence[Tokens]) -> Iterator[tuple[int, Tensor]]:
        """The logits of the ``chosen`` sequences' responses, each with its index, some of its positions at a time."""
        logits = self.score([sequences[i] for i in chosen])
        ends = list(accumulate(len(sequences[i].response) for i in chosen))
        for at in range(0, ends[-1], HEAD_POSITIONS):
            logits_CV = logits(slice(at, at + HEAD_POSITIONS))
            for i, start, end in zip(chosen, (0, *ends), ends, strict=False):
                yield i, logits_CV[max(0, start - at) : max(0, end - at)]

    def score(self, sequences: Sequence[Tokens]) -> Callable[[slice], Tensor]:
        """Read sequences; gives a function from a slice of their response positions, end to end, to logits_CV there.

        What is kept is the hidden states: the whole vocabulary's logits are computed for each slice.
        """
        self._check_read(sequences)
        with torch.no_grad():  # not inference mode: a loss is computed with these
            if not self.packs_well:
                logits_RV = torch.cat([plain_logits(self.model, tokens) for tokens in sequences])
                return logits_RV.__getitem__
            hidden_RD = response_hidden(self.model, pack(sequences).on(self.model.device))

        def logits(chunk: slice) -> Tensor:
            with torch.no_grad():
                return response_logits(self.model, hidden_RD[chunk])

        return logits

    @cached_property
    def packs_well(self) -> bool:
        """Whether the model may read several sequences as one pack."""
        return packs_well(self.model)

    def _check_read(self, sequences: Sequence[Tokens]) -> None:
        longest = max((len(tokens.inputs) for tokens in sequences), default=0)
        if longest > self.loaded.context_tokens:
            raise InvalidInput(
                f"a prompt with its response of {longest:,} tokens; {self.loaded.id} reads at most"
                f" {self.loaded.context_tokens:,}"
            )

    def stream(self, prompt: Sequence[int], settings: GenerationSettings) -> Iterator[str]:
        """One answer, piece by piece as its text grows."""
        telling = Telling(self.renderer.text)
        for token, _ in self.steps(prompt, settings):
            yield telling.add(token)
        yield telling.rest()

    def steps(self, prompt: Sequence[int], settings: GenerationSettings) -> Iterator[tuple[int, Tensor]]:
        """One answer, token by token, each with the logits_V it was chosen from; the token that ends the turn is last.

        Several answers may be under way, step by step in turn.
        """
        self._check_room(len(prompt))
        with torch.inference_mode():  # never across a yield: whoever asks goes on in between
            run = _Run(self, [prompt], settings, [""], ())
        running = True
        while running:
            logits_V = run.logits_BV[0]
            with torch.inference_mode():
                running = run.step()
            yield run.rows[0].tokens[-1], logits_V

    def memory(self, prompts: Sequence[Sequence[int]], prefix: tuple[int, ...], room: int) -> Memory | PlainMemory:
        """Room for a batch's prompts, without ``prefix``, and ``room`` more tokens each; the prefix is read once."""
        if self._shares_well is None:
            self._shares_well = shares_well(self.model)
        shared = len(prefix) if self._shares_well else 0
        longest = max(map(len, prompts)) - shared
        starts = [longest - (len(prompt) - shared) for prompt in prompts]
        if not self._shares_well:
            return PlainMemory(starts, longest, self.model)
        if self._prefix[0] != prefix:
            self._prefix = (prefix, read_prefix(self.model, prefix) if prefix else ())
        return Memory(starts, longest, longest + room, self.model.device, self._prefix[1])

    def _check_room(self, length: int) -> None:
        if length >= self.loaded.context_tokens:
            raise InvalidInput(
                f"a prompt of {length:,} tokens; {self.loaded.id} reads at most {self.loaded.context_tokens - 1:,}"
            )


def common_prefix(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens with which all prompts begin, short of any prompt's last token."""
    if not prompts:
        return ()
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    length = 0
    limit = min(map(len, prompts)) - 1
    while length < limit and first[length] == last[length]:
        length += 1
    return tuple(first[:length])


def soft_labels_of(logits_TV: Tensor, k: int, temperature: float = 1.0) -> SoftLabels:
    """Top-k log-probabilities of each row and the log of the mass left over, of the softened distribution.

    The tail is summed over the tokens outside the k, not taken as 1 minus their sum: where the k hold nearly
    everything, the difference would be rounding error. Exponentials are taken once over the vocabulary.
    """
    logits_TV = logits_TV.to(torch.promote_types(logits_TV.dtype, torch.float32))  # half precision is widened
    if temperature != 1.0:
        logits_TV = logits_TV / temperature
    k = min(k, logits_TV.shape[-1])
    top_TK, ids_TK = logits_TV.topk(k, dim=-1)
    highest_T1 = top_TK[:, :1]
    shares_TV = (logits_TV - highest_T1).exp_()
    top_T1 = shares_TV.gather(-1, ids_TK).sum(-1, keepdim=True)
    rest_T1 = shares_TV.scatter_(-1, ids_TK, 0.0).sum(-1, keepdim=True)
    if k < logits_TV.shape[-1] and not bool((rest_T1 > 0).all()):
        # Everything outside is below what fp32 holds beside the likeliest; its logarithm is not.
        outside_T1 = logits_TV.scatter(-1, ids_TK, float("-inf")).logsumexp(-1, keepdim=True) - highest_T1
        log_rest_T1 = torch.where(rest_T1 > 0, rest_T1.log(), outside_T1)
    else:
        log_rest_T1 = rest_T1.log()
    log_total_T1 = (top_T1 + rest_T1).log()
    top_TK = top_TK - highest_T1 - log_total_T1
    tail_T = (log_rest_T1 - log_total_T1)[:, 0]
    return SoftLabels(ids_TK.to(torch.int32).cpu().numpy(), top_TK.cpu().numpy(), tail_T.cpu().numpy())


def drawn_labels_of(logits_TV: Tensor, draws: int, temperature: float, generator: torch.Generator) -> SoftLabels:
    """Tokens drawn from each row's softened distribution, with repetition, each standing for its share of the draws.

    They are drawn by the processor, wherever the logits are: the same seed draws the same.

    Random sampling distillation (arXiv:2503.16870) with the distribution itself as the proposal, for which all
    importance weights are equal. The expected distribution is the teacher's own, which that of its top k is not.
    """
    probabilities_TV = (logits_TV.cpu().double() / temperature).softmax(-1)
    ids_TN = torch.multinomial(probabilities_TV, draws, replacement=True, generator=generator).sort(-1).values
    share_TN = np.full(tuple(ids_TN.shape), -math.log(draws), np.float32)
    return SoftLabels(ids_TN.to(torch.int32).numpy(), share_TN, np.full(len(ids_TN), -np.inf, np.float32))


@dataclass
class _RowState:
    tokens: list[int]
    soft: list[SoftLabels]
    generator: torch.Generator | None
    drawing: torch.Generator
    room: int
    done: bool = False


class _Run:
    """One batch under way: prompts padded on the left, one token a step, finished rows taken out in bulk."""

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        keys: Sequence[str],
        prefix: tuple[int, ...],
    ) -> None:
        self.engine, self.settings = engine, settings
        self.lengths = [len(p) for p in prompts]
        room = engine.loaded.context_tokens
        self.rows = [
            _RowState(
                [],
                [],
                _generator(settings, key),
                _seeded(settings.seed, f"draws {key}"),
                min(settings.max_tokens, room - len(p)),
            )
            for p, key in zip(prompts, keys, strict=True)
        ]
        self.alive = list(range(len(prompts)))
        self.memory = engine.memory(prompts, prefix, max(row.room for row in self.rows))
        ids_BL = torch.zeros(len(prompts), self.memory.longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            own = prompt[len(prompt) - (self.memory.longest - self.memory.starts[row]) :]
            ids_BL[row, self.memory.starts[row] :] = torch.tensor(own)
        self.logits_BV = self.memory.forward(engine.model, ids_BL.to(engine.model.device))

    def step(self) -> bool:
        """Choose one token for every running row; False when none runs any more."""
        chosen = self._choose()
        for row, token in zip(self.alive, chosen.tolist(), strict=True):
            state = self.rows[row]
            if state.done:
                continue
            state.tokens.append(token)
            state.done = token in self.engine.renderer.stop_ids or len(state.tokens) >= state.room
        running = [place for place, row in enumerate(self.alive) if not self.rows[row].done]
        if not running:
            return False
        # A row that has ended is computed on with the others, but never past the context.
        length = max(self.lengths[row] for row in self.alive) + len(self.rows[self.alive[running[0]]].tokens)
        if length > self.engine.loaded.context_tokens or len(running) <= COMPACT_BELOW * len(self.alive):
            keep = torch.tensor(running, device=chosen.device)
            self.memory.select(keep)
            chosen = chosen[keep]
            self.alive = [self.alive[place] for place in running]
        self.logits_BV = self.memory.forward(self.engine.model, chosen[:, None])
        return True

    def answers(self) -> list[Answer]:
        made = []
        for state, length in zip(self.rows, self.lengths, strict=True):
            stopped = state.tokens[-1] in self.engine.renderer.stop_ids
            text = self.engine.renderer.text(state.tokens)
            reason: Literal["stop", "length"] = "stop" if stopped else "length"
            made.append(Answer(text, tuple(state.tokens), reason, length, _joined(state.soft)))
        return made

    def _choose(self) -> Tensor:
        captured, draws = self.settings.top_k_captured, self.settings.draws_captured
        softened = self.settings.captured_temperature
        soft = soft_labels_of(self.logits_BV, captured, softened) if captured and not draws else None
        chosen = self.logits_BV.argmax(-1)
        for place, row in enumerate(self.alive):
            state = self.rows[row]
            if state.done:  # still in the batch, no longer asked
                continue
            if state.generator is not None:
                chosen[place] = _sample(self.logits_BV[place], self.settings, state.generator)
            if draws:
                state.soft.append(drawn_labels_of(self.logits_BV[place : place + 1], draws, softened, state.drawing))
            elif soft is not None:
                at = slice(place, place + 1)
                state.soft.append(SoftLabels(soft.top_ids_TK[at], soft.top_logprobs_TK[at], soft.tail_logprob_T[at]))
        return chosen


def _joined(parts: Sequence[SoftLabels]) -> SoftLabels | None:
    """Labels of positions one after another as one; None where none were kept."""
    if not parts:
        return None
    return SoftLabels(
        np.concatenate([part.top_ids_TK for part in parts]),
        np.concatenate([part.top_logprobs_TK for part in parts]),
        np.concatenate([part.tail_logprob_T for part in parts]),
    )


def _generator(settings: GenerationSettings, key: str) -> torch.Generator | None:
    if settings.temperature == 0:
        return None
    return _seeded(settings.seed, key)


def _seeded(seed: int, key: str) -> torch.Generator:
    """A generator of its own for each seed and key."""
    hashed = hashlib.sha256(f"{seed} {key}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(hashed, "little") >> 1)


def _sample(logits_V: Tensor, settings: GenerationSettings, generator: torch.Generator) -> Tensor:
    """Draw one token: temperature, then the smallest set of tokens that holds ``top_p`` of the mass."""
    probabilities_V = (logits_V.cpu().double() / settings.temperature).softmax(-1)
    if settings.top_p < 1.0:
        sorted_V, order_V = probabilities_V.sort(descending=True)
        outside_V = sorted_V.cumsum(0) - sorted_V >= settings.top_p
        outside_V[0] = False  # the likeliest stays, also where nothing is small enough
        probabilities_V = probabilities_V.index_fill(0, order_V[outside_V], 0.0)
    return torch.multinomial(probabilities_V, 1, generator=generator)[0]
