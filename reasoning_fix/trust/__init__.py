"""The CA that signs for provider hosts, and the files that make programs trust it."""
