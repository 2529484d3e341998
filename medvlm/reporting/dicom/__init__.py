"""DICOM objects of a report: SEG, SR (TID 1500 and TID 2000), Encapsulated PDF and Secondary Capture."""
