"""What ``spark-submit`` is given for the pca job; ``spark_jobs.zip`` comes with ``--py-files``."""

import sys

from spark_jobs.pca import main

if __name__ == "__main__":
    sys.exit(main())
