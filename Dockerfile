FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# All forms of running: over a broker and with a store elsewhere too.
COPY requirements.txt requirements-celery.txt requirements-s3.txt ./
RUN for set in requirements requirements-celery requirements-s3; do \
        pip install --no-deps --require-hashes -r $set.txt || exit 1; \
    done

COPY manage.py ./
COPY project project
COPY importops importops

RUN useradd --system --uid 10001 --home-dir /data importops \
    && install -d -m 0700 -o importops -g importops /data
USER importops
ENV IMPORTOPS_DATA_DIR=/data
VOLUME /data
EXPOSE 3000
CMD ["python", "manage.py", "import_worker"]
