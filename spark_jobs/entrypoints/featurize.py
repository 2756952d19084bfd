"""``spark-submit --py-files spark_jobs.zip featurize.py <flags>``."""

import os

# Set before numpy is imported. BLAS threads wait for each other by spinning: with two threads, an eigendecomposition
# takes 0.3 s on a quiet machine, but seconds on a busy one; with one thread it takes 0.4 s.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from spark_jobs.featurize import job
from spark_jobs.runtime import hidden_pandas

hidden_pandas.hide()
raise SystemExit(job.main())
