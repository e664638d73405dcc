"""Operations on tensors that know of no method: windows and positions of objects."""
