"""How runs are carried out: their rows, what models say to them, the grades, and the counts."""
