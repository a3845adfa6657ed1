"""Requests in, requests with their reasoning out; answers in, records out. No mitmproxy, no I/O of its own.

`restoring` is the way of a request, `tap` and `recording` that of its answer. `matching` says which recorded
turn a message is, `policy` what this model demands, `decisions` what is done to each turn; `prefix_cache`
knows what need not be done again. `repairs` says what goes in place of a refused request, `explaining` why.
"""
