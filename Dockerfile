# Every image of the stack, one target each: airflow, init, emr, store (docker-compose.yaml names them).
# Base images are arguments; their tags are full versions. To pin one to its digest, give it as
# PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:… in .env. Every package is pinned and hash-checked by the files that
# `make lock` writes. No BuildKit feature is used: any builder will do.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# One user everywhere, so that what one container writes into a shared volume another can read. A named volume takes the
# owner of the folder that it covers: these folders are the only places that are written to.
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

# Nothing but the program goes into the store's image.
FROM base AS store
COPY --from=weed /opt/venv/bin/weed /usr/local/bin/weed
USER 50000:50000

FROM base AS airflow
COPY docker/airflow.txt /tmp/airflow.txt
RUN install.sh /tmp/airflow.txt
ENV AIRFLOW_HOME=/opt/airflow
# The sources are mounted read-only.
ENV PYTHONDONTWRITEBYTECODE=1
USER 50000:50000

FROM base AS emr
# Debian keeps only the newest build of a version, so a full pin would break with the next security update.
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update \
 && apt-get install --yes --no-install-recommends "openjdk-17-jre-headless=17.*" \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s "$(dirname "$(dirname "$(readlink -f /usr/bin/java)")")" /opt/java
ENV JAVA_HOME=/opt/java
COPY docker/emr.txt /tmp/emr.txt
RUN install.sh /tmp/emr.txt
# Spark's S3 connector and the archive of classes are made here, in the image's environment; the sources themselves are
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
