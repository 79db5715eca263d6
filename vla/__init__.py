"""Vision-language-action policies for robot arms.

Trajectories, simulators and arms speak one typed vocabulary::

    training   source ─Episode─▶ Window ─▶ Batch ─▶ model.loss ─▶ checkpoint (weights, config, statistics, embodiment)
    running    Body.observe ─Observation─▶ Policy.act ─ActionChunk─▶ chunking ─▶ safety ─▶ Body.command ─▶ action sent
"""

__version__ = "0.1.0"
