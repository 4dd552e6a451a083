"""De-identified copies of DICOM files: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile.

`folder.deidentify` is the use case; `dataset.DatasetCleaner` does the header, `pixels` and `burned_in` the image.
"""
