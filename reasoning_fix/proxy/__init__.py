"""The addon inside mitmproxy: hooks, options, pages, what it keeps, and what people see of a flow there."""
