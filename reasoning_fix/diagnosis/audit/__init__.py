"""What does a provider want of reasoning? Asked with a few requests, each changed in one thing only.

`targets` says where to ask and with what key, `spelling` writes histories on each wire, `asking` sends them
(a bounded number), `checklist` is the questions in their order, `verdict` makes a rule of the answers.
"""
