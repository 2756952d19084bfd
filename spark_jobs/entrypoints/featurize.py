"""``spark-submit --py-files spark_jobs.zip featurize.py <flags>``."""

import os

# Before numpy is imported. BLAS' threads wait for one another by spinning: beside other processes an eigendecomposition
# then takes seconds, with one thread 0.4 s, with two on a quiet machine 0.3 s.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from spark_jobs.featurize import job

raise SystemExit(job.main())
