"""What happened, in numbers per day, provider, model and client: no text, no credential, no scope.

`counts` says what is counted and what for, `counting` follows a request to its answer, `book` keeps the
numbers in a file beside the store, `tables` shows them to a person.
"""
