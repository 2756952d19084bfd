# The images of the stack, one target each: airflow, init, emr, store (used by docker-compose.yaml).
# Base images are arguments with full version tags. To pin one to a digest, set for example
# PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:… in .env. The locks that `make lock` writes pin and hash-check every
# package. The file uses no BuildKit feature, so any builder works.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# All containers have the same user, so that one container can read what another writes into a shared volume. A named
# volume gets the owner of the folder that it covers. Services write only into the folders created here.
RUN groupadd --gid 50000 fruits \
 && useradd --uid 50000 --gid fruits --create-home --shell /usr/sbin/nologin fruits \
 && install --directory --owner=fruits --group=fruits /opt/airflow /opt/airflow/logs /opt/airflow/auth /state /data \
 && install --directory /opt/fruits \
 && python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    LC_ALL=C.UTF-8 \
    PYTHONUTF8=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/opt/fruits
COPY docker/install.sh docker/healthy.py /usr/local/bin/
COPY docker/uv.txt /usr/local/share/uv.txt
WORKDIR /opt/fruits

FROM base AS weed
COPY docker/store.txt /tmp/store.txt
RUN install.sh /tmp/store.txt

# The store's image contains only the program.
FROM base AS store
COPY --from=weed /opt/venv/bin/weed /usr/local/bin/weed
USER 50000:50000

FROM base AS airflow
COPY docker/airflow.txt /tmp/airflow.txt
RUN install.sh /tmp/airflow.txt
ENV AIRFLOW_HOME=/opt/airflow
# The sources are mounted read-only, so bytecode cannot be written.
ENV PYTHONDONTWRITEBYTECODE=1
USER 50000:50000

FROM base AS emr
# Debian keeps only the newest build of a version, so an exact pin would break at the next security update.
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update \
 && apt-get install --yes --no-install-recommends "openjdk-17-jre-headless=17.*" \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s "$(dirname "$(dirname "$(readlink -f /usr/bin/java)")")" /opt/java
ENV JAVA_HOME=/opt/java
COPY docker/emr.txt /tmp/emr.txt
RUN install.sh /tmp/emr.txt
# The build creates Spark's S3 connector and class archive in the image's environment. At run time, the sources are
# mounted over this copy.
COPY local/__init__.py local/__init__.py
COPY local/processes local/processes
COPY local/emr local/emr
RUN XDG_CACHE_HOME=/tmp/cache python -m local.emr.spark.s3_connector \
 && python -m local.emr.spark.spark_home \
 && rm -rf /tmp/cache /root/.ivy2*
ENV PYTHONDONTWRITEBYTECODE=1
USER 50000:50000

FROM airflow AS init
USER 0:0
COPY docker/init.txt /tmp/init.txt
RUN install.sh /tmp/init.txt
USER 50000:50000
