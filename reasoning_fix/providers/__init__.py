"""What is known about providers: the table, the user's own rows, what refusals mean and what they taught.

`rows` is the shape of a row, `files` reads rows, `table` answers questions about them.
"""
