"""The tests mirror the house; the end-to-end ones run a real proxy against a simulated provider."""
