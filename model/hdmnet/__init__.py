"""HDMNet: hierarchical dense correlation distillation."""
