"""What the commands do once their options are read: one module per command, with the name of the command.

They import the SDK, so commands import them only when they run.
"""
