"""Operations on maps and masks."""
