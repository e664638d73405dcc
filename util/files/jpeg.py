"""A check of JPEGs for damage that OpenCV and Pillow pass over: pixels that are cut off or overwritten."""

import re

import numpy as np
import simplejpeg

START_OF_SCAN = 0xDA  # the second byte of a marker
END_OF_IMAGE = b"\xff\xd9"  # a marker
STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9$")  # libjpeg's first complaint, at the end of all pixels
FEW_STRAY = 8  # bytes, beside those that libjpeg has in hand; more are damage, unless they fill a gap
FILLER = 0.9  # the share of one value in bytes that fill a gap


def check_jpeg(content: bytes) -> None:
    """Refuse (ValueError) the content of a JPEG that libjpeg complains about.

    It reports its first complaint. Bytes before the end marker that no pixel needs are none if they are few, or fill a
    gap: where pixels are damaged, a long rest of others' data may be left over there.
    """
    try:
        _decode_small(content)
    except ValueError as error:
        complaint = STRAY.search(str(error))
        if complaint is None or not _are_harmless(content, stray=int(complaint[1])):
            raise


def _decode_small(content: bytes) -> None:
    """Decode a JPEG at an eighth of each side, which is quick; ValueError for libjpeg's first complaint."""
    stored_colours = simplejpeg.decode_jpeg_header(content, strict=True)[2]
    colours = "CMYK" if stored_colours in ("CMYK", "YCCK") else "GRAY"
    simplejpeg.decode_jpeg(content, colours, fastdct=True, min_height=1, min_width=1, min_factor=8)


def _are_harmless(content: bytes, stray: int) -> bool:
    """Return whether so many stray bytes before the end marker are few, or almost all of one value."""
    end = content.index(END_OF_IMAGE, _start_of_scan(content))
    values = np.frombuffer(content[end - stray : end], np.uint8)
    most_frequent = np.bincount(values).max()
    return bool(stray <= FEW_STRAY or most_frequent >= FILLER * stray)


def _start_of_scan(content: bytes) -> int:
    """Return the place of the first scan's marker in a JPEG that libjpeg has read: headers may hold other pictures."""
    place = 2
    while content[place + 1] != START_OF_SCAN:
        is_filler = content[place] != 0xFF or content[place + 1] in (0x00, 0xFF)
        segment_length = int.from_bytes(content[place + 2 : place + 4], "big")
        place += 1 if is_filler else 2 + segment_length
    return place
