"""A run's synthetic cohort in the formats that others read: CSV, Parquet, Croissant metadata and FHIR bundles."""
