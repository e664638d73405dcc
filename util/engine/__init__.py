"""The parts of a run: devices, processes, training, evaluation, metrics, checkpoints."""
