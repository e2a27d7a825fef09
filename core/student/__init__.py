"""The student: its prompts and tokens, the examples it learns, and its training loop.

`tokenizer`, `conversation` and `encoding` turn texts and answers into tokens; `encode_stage` and
`train_stage` declare the stages.
"""
