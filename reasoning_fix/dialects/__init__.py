"""One wire format per file: read a history, read an answer, write reasoning back. No I/O, no clock."""

from reasoning_fix.dialects import chat_completions, messages, responses
from reasoning_fix.dialects.wire import Dialect

# By the name that endpoints in the provider table give.
DIALECTS: dict[str, Dialect] = {
    "chat_completions": chat_completions,
    "messages": messages,
    "responses": responses,
}
