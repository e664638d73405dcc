"""The size of the photos that the tests mark, and the box of their object."""

WIDTH, HEIGHT = 60, 44
BOX = (12, 8, 40, 30)  # x0, y0, x1, y1
