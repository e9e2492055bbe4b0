# One image for every service of docker-compose.yml; the command makes the difference.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# For data sets and storage in buckets: s3, gcs, both or "".
ARG EXTRAS=s3
# The dependencies alone, so that a change of the program does not install them again.
RUN python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *(r for e in sys.argv[1:] for r in p['optional-dependencies'][e]), sep='\n')" $EXTRAS > requirements.txt
RUN /opt/venv/bin/pip install -r requirements.txt -c constraints.txt

FROM python:3.11-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    HARDMINE_STATIC_ROOT=/app/staticfiles \
    HARDMINE_VAR=/var/lib/hardmine
RUN useradd --uid 10001 --user-group --no-create-home hardmine \
    && install -d -o hardmine -g hardmine /var/lib/hardmine
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY . .
# The addresses name no server; they keep the embedded ones from starting.
RUN SECRET_KEY=build DATABASE_URL=postgresql://build/none REDIS_URL=redis://build \
    HARDMINE_VAR=/tmp/build python manage.py collectstatic --noinput \
    && rm -r /tmp/build
USER hardmine
EXPOSE 8000
# The first of ALLOWED_HOSTS must be a plain name, or the request would be refused.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:8000/healthz/', headers={'Host': os.environ.get('ALLOWED_HOSTS', 'localhost').split(',')[0], 'X-Forwarded-Proto': 'https'}), timeout=4)"]
CMD ["gunicorn", "reviewapp.wsgi:application", "--bind", "0.0.0.0:8000", \
     "--workers", "2", "--threads", "8", "--worker-tmp-dir", "/dev/shm"]
