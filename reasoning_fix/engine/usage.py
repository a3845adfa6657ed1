"""What an answer says it cost: the figures of its `usage`, in every provider's spelling.

Cached input has five names: `prompt_cache_hit_tokens` (https://api-docs.deepseek.com/guides/kv_cache),
`prompt_tokens_details.cached_tokens` (OpenAI's, and most others'), `cached_tokens` (Kimi, also inside a
choice), `cache_read_input_tokens` (Anthropic's, not counted in its `input_tokens`:
https://docs.claude.com/en/docs/build-with-claude/prompt-caching) and `input_tokens_details.cached_tokens`
(the Responses API).
"""

import re

import msgspec

# Most events of a stream have no figures, or `"usage": null`: those cost one search (0.2 microseconds).
# Nothing without it holds figures.
NAME = b"usage"
_FIGURES = re.compile(rb'"usage"\s*:\s*\{')


class Usage(msgspec.Struct, frozen=True):
    """Tokens: of the prompt, of these from the provider's cache; of the answer, of these thought."""

    prompt: int = 0
    cached: int = 0
    answer: int = 0
    thought: int = 0

    def with_later(self, later: "Usage") -> "Usage":
        """The figures of a stream that says them piece by piece, or again and again: the highest of each."""
        return Usage(
            max(self.prompt, later.prompt),
            max(self.cached, later.cached),
            max(self.answer, later.answer),
            max(self.thought, later.thought),
        )

    def plus(self, other: "Usage") -> "Usage":
        """The figures of two answers together."""
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.answer + other.answer,
            self.thought + other.thought,
        )


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    thinking_tokens: int | None = None


class _Figures(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Inside(msgspec.Struct):
    usage: _Figures | None = None


class _Payload(msgspec.Struct):
    usage: _Figures | None = None
    message: _Inside | None = None
    response: _Inside | None = None
    choices: list[_Inside] | None = None


_decode = msgspec.json.Decoder(_Payload).decode


def read(payload: bytes) -> Usage | None:
    """The figures in one JSON payload of an answer, streamed or whole; None if there are none."""
    if _FIGURES.search(payload) is None:
        return None
    try:
        found = _decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    inside = [found.message, found.response, *(found.choices or ())]
    usage = Usage()
    for figures in (found.usage, *(part.usage for part in inside if part is not None)):
        if figures is not None:
            usage = usage.with_later(_usage(figures))
    return usage


def _usage(figures: _Figures) -> Usage:
    details = [
        part
        for part in (
            figures.prompt_tokens_details,
            figures.input_tokens_details,
            figures.completion_tokens_details,
            figures.output_tokens_details,
        )
        if part is not None
    ]
    cached = _most(
        figures.prompt_cache_hit_tokens,
        figures.cached_tokens,
        figures.cache_read_input_tokens,
        *(part.cached_tokens for part in details),
    )
    prompt = _most(figures.prompt_tokens, figures.input_tokens)
    if figures.cache_read_input_tokens is not None and figures.prompt_tokens is None:
        prompt += _most(figures.cache_read_input_tokens) + _most(figures.cache_creation_input_tokens)
    return Usage(
        prompt,
        cached,
        _most(figures.completion_tokens, figures.output_tokens),
        _most(*(part.reasoning_tokens for part in details), *(part.thinking_tokens for part in details)),
    )


def _most(*figures: int | None) -> int:
    return max((figure for figure in figures if figure is not None and figure > 0), default=0)
