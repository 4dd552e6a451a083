"""Chest CT by numbers: lungs, density, nodules, consolidation, pleural air and fluid. Classical methods only."""
