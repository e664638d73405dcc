#!/bin/sh
# nibabel 5.4.2, SimpleITK 2.5.7, Python 3.11
# Guess: a label map that was read by get_fdata(), changed, and written with the header of its file, which states whole
#   numbers, has whole numbers again: the class ids.
# Behaviour: get_fdata() gives floating-point numbers, and these are stretched to the whole range of the header's type,
#   with a factor in the header. What is read back differs from the class ids a little, so that "== 1" finds no pixel,
#   and astype(int) makes other classes of some. SimpleITK reads it as floating point.
# Seen on 30 November 2026, for classes 0, 1, 2 and 3, ids read back as whole numbers, pixels found of class 3:
#   uint8: stored 0, 85, 170, 255, read 0, 1, 2, 3; pixels of class 3: 0 of 4
#   int16: stored -32768, -10923, 10922, 32767, read 0, 0, 1, 2; pixels of class 3: 0 of 4
#   uint8 with 255: as it was, since the range is full
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nibabel==5.4.2 numpy==2.4.6 SimpleITK==2.5.7
cd "$folder"
venv/bin/python - <<'END'
import nibabel
import numpy as np
import SimpleITK


def written(ids, kind):
    labels = np.zeros((4, 4, 4), kind)
    labels.ravel()[: 4 * len(ids)] = np.repeat(ids, 4)
    nibabel.Nifti1Image(labels, np.eye(4)).to_filename("mask.nii")
    image = nibabel.load("mask.nii")
    changed = image.get_fdata()  # a program would change labels here
    nibabel.Nifti1Image(changed, image.affine, image.header).to_filename("changed.nii")
    again = nibabel.load("changed.nii")
    assert again.get_data_dtype() == kind
    first = slice(0, 4 * len(ids), 4)
    stored = again.dataobj.get_unscaled().ravel()[first].tolist()
    found = again.get_fdata()
    read = found.astype(int).ravel()[first].tolist()
    pixels = int((found == ids[-1]).sum())
    print(f"{np.dtype(kind)}: stored {stored}, read {read}; pixels of class {ids[-1]}: {pixels} of 4")
    return stored, read, pixels


assert written([0, 1, 2, 3], np.uint8) == ([0, 85, 170, 255], [0, 1, 2, 3], 0)
itk = SimpleITK.ReadImage("changed.nii")
assert itk.GetPixelIDTypeAsString() == "32-bit float"
assert written([0, 1, 2, 3], np.int16) == ([-32768, -10923, 10922, 32767], [0, 0, 1, 2], 0)
assert written([0, 1, 255], np.uint8) == ([0, 1, 255], [0, 1, 255], 4)
END
