"""Which files of a folder are photos, and what is said of those that are not."""

import re
from pathlib import Path

from util.files.errors import note
from util.files.folders import files_below, leads_nowhere, visible

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
    ".heic",
    ".heif",
)
UNREAD = re.compile(  # names of pictures, volumes and videos that are not read
    r".*\.(arw|cr[23]|dng|eps|jp2|jxl|nef|orf|pdf|psd|raf|raw|rw2|svg|xcf|"
    r"czi|dcm|dicom|lif|mha|mhd|mrc|nd2|ndpi|nii|nii\.gz|nrrd|svs|"
    r"avi|m4v|mkv|mov|mp4|mpe?g|mts|webm|wmv)",
    re.I | re.DOTALL,
)


def photos_below(folder: Path, recursive: bool = True) -> list[Path]:
    """Return the photos of a folder, and of its sub-folders, in order; say what is of other kinds or leads nowhere.

    Links to folders are followed as ``files_below`` does. A link of a photo's name that leads nowhere counts as photo.
    """
    files = files_below(folder) if recursive else visible(folder.glob("*"), folder)
    photos = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = sorted({*files} - {*photos})
    unread = [path for path in others if UNREAD.fullmatch(path.name) or leads_nowhere(path)]
    if unread:
        note(
            f"{folder}: {len(unread)} files are not read, which are no photos in a known format or lead nowhere, "
            f"such as {unread[0].name}"
        )
    return [path for path in photos if path.is_file() or leads_nowhere(path)]
