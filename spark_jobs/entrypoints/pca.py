"""``spark-submit --py-files spark_jobs.zip pca.py <flags>``."""

import os

# As in featurize.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from spark_jobs.pca import job
from spark_jobs.runtime import hidden_pandas

hidden_pandas.hide()
raise SystemExit(job.main())
