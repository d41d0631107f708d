"""The commands: one module per command, with its options and help texts. `groups.COMMANDS` lists them.

They import nothing heavy at their top, so that `--help` is fast. What a command does is in `actions`.
"""
