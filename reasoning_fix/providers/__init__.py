"""What is known of providers: the table, a person's own rows, what refusals say and what they taught.

`rows` is what a row may say, `files` reads them, `table` answers questions about them.
"""
