"""Studies from a PACS and reports back to it: DICOMweb and C-STORE."""
