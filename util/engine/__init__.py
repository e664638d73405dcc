"""How a run goes: devices, processes, training, evaluation, metrics, checkpoints."""
