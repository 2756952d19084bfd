"""What the report shows of the photos: a map, the meaning of the components, suspects, outliers, duplicates."""
