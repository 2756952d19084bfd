"""``spark-submit --py-files spark_jobs.zip featurize.py <flags>``."""

from spark_jobs import featurize

raise SystemExit(featurize.main())
