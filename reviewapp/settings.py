"""Settings. Everything that differs between machines comes from the environment.

`docs/deploying.md` lists every variable; `tests/test_docs.py` keeps it complete.
"""

from __future__ import annotations

import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

import environ
from csp.constants import NONCE, SELF
from django.core.exceptions import ImproperlyConfigured

from reviewapp import services

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()  # NAME_FILE=/run/secrets/name works for every NAME


def _secret_key(var: Path) -> str:
    """Take SECRET_KEY from the environment, else make one once, under `var`."""
    key: str = env.str("SECRET_KEY", default="")
    if key:
        return key
    if env.bool("HARDMINE_HTTPS", default=False):
        raise ImproperlyConfigured("Set SECRET_KEY (or SECRET_KEY_FILE).")
    path = var / "secret-key"
    if not path.exists():
        fresh = var / f"secret-key.{secrets.token_hex(4)}"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(64))
        try:
            path.hardlink_to(fresh)  # only one of two racing processes wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text()


VAR = Path(env.str("HARDMINE_VAR", default=str(BASE_DIR / "var"))).resolve()
VAR.mkdir(parents=True, exist_ok=True)

# --- security -----------------------------------------------------------------
HTTPS = env.bool("HARDMINE_HTTPS", default=False)
SECRET_KEY = _secret_key(VAR)
DEBUG = env.bool("HARDMINE_DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_ENGINE = "reviewapp.sessions"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        # Plotly and htmx set style attributes at run time.
        "style-src": [SELF, "'unsafe-inline'"],
        "img-src": [SELF, "data:", "blob:"],
        "frame-ancestors": ["'none'"],
        "form-action": [SELF],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
    },
}

# --- applications -------------------------------------------------------------
INSTALLED_APPS = [
    "reviewapp",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "csp",
    "django_celery_beat",
    "django_filters",
    "django_htmx",
    "django_linear_migrations",
    "drf_spectacular",
    "knox",
    "rest_framework",
    "template_partials",
]
if not find_spec("django_linear_migrations"):  # it comes with the extra "dev"
    INSTALLED_APPS.remove("django_linear_migrations")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "reviewapp.sessions.SignInMiddleware",
    "reviewapp.sessions.SamePersonMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "reviewapp.views.errors.DomainErrorMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "reviewapp.urls"
WSGI_APPLICATION = "reviewapp.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

# --- servers: embedded unless named (design: one server kind, one code path) ---
_database_url = env.str("DATABASE_URL", default="")
_redis_url = env.str("REDIS_URL", default="")
_broker_url = _redis_url
if not (_database_url and _redis_url):
    _endpoints = services.ensure(
        VAR,
        postgres=not _database_url,
        valkey=not _redis_url,
        durable=env.bool("HARDMINE_DURABLE", default=True),
    )
    _database_url = _database_url or _endpoints.database_url
    _broker_url = _redis_url or _endpoints.broker_url
    _redis_url = _redis_url or _endpoints.redis_url

DATABASES = {"default": env.db_url_config(_database_url)}
DATABASES["default"]["CONN_MAX_AGE"] = 60
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = env.bool(
    "HARDMINE_PGBOUNCER", default=False
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": _redis_url,
        "KEY_PREFIX": "hardmine",
    },
}

# --- people -------------------------------------------------------------------
AUTH_USER_MODEL = "reviewapp.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "reviewapp.sessions.People",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "sign-in"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "people/locked_out.html"
AXES_HTTP_RESPONSE_CODE = 429
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_IPWARE_PROXY_COUNT = env.int("HARDMINE_PROXIES", default=0)
SILENCED_SYSTEM_CHECKS: list[str] = []

# --- files --------------------------------------------------------------------
# Folders (or fsspec URLs) under which data sets and checkpoints may lie.
DATA_ROOTS = env.list("HARDMINE_DATA_ROOTS", default=[str(VAR / "data")])
MODEL_ROOTS = env.list("HARDMINE_MODEL_ROOTS", default=[str(VAR / "models")])
MEDIA_ROOT = VAR / "media"
FILE_UPLOAD_HANDLERS = [
    "reviewapp.uploads.LimitedUploadHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]
STORAGES = {
    "default": {
        "BACKEND": env.str(
            "HARDMINE_STORAGE",
            default="django.core.files.storage.FileSystemStorage",
        ),
        "OPTIONS": env.json("HARDMINE_STORAGE_OPTIONS", default={}),
    },
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("HARDMINE_STATIC_ROOT", default=str(VAR / "static")))
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "reviewapp.staticfinders.PackageFinder",
]
# Served from the packages and static/ themselves, unless a folder was named for
# `collectstatic` to fill.
WHITENOISE_USE_FINDERS = not env.str("HARDMINE_STATIC_ROOT", default="")
if WHITENOISE_USE_FINDERS:
    STORAGES["staticfiles"]["BACKEND"] = (
        "django.contrib.staticfiles.storage.StaticFilesStorage"
    )

# --- jobs ---------------------------------------------------------------------
CELERY_BROKER_URL = _broker_url
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A task that is not acknowledged for so long is handed out again. Longer than any
    # shard may take: else it would be delivered a second time while it runs.
    "visibility_timeout": 2 * 3600,
    # A server that restarted, or a network that swallows packets, is noticed.
    "health_check_interval": 25,
    "socket_keepalive": True,
    "retry_on_timeout": True,
}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    # Where the images can be read.
    "reviewapp.tasks.run_shard": {"queue": "scan"},
    "reviewapp.tasks.make_pictures": {"queue": "scan"},
    "reviewapp.tasks.run_training": {"queue": "scan"},
    "reviewapp.tasks.run_folds": {"queue": "scan"},
}
CELERY_TASK_TIME_LIMIT = 3600
CELERY_TASK_SOFT_TIME_LIMIT = 3500
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker for ever
# A shard goes on while the broker is away: the database holds its claim.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BEAT_SCHEDULER = "reviewapp.scheduling:PatientScheduler"
CELERY_BEAT_SCHEDULE = {
    "recover-lost-work": {
        "task": "reviewapp.tasks.recover_lost_work",
        "schedule": env.float("HARDMINE_SWEEP_SECONDS", default=60),
    },
}
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- what leaves the server: webhooks and e-mail --------------------------------
# How links in them begin.
_origins = [origin for origin in CSRF_TRUSTED_ORIGINS if "*" not in origin]
PUBLIC_URL = (
    env.str("HARDMINE_PUBLIC_URL", default="")
    or next(iter(_origins), "http://127.0.0.1:8000")
).rstrip("/")
# Hosts that webhooks may be sent to; none unless listed. One that is named without "*" may
# be of the own network.
WEBHOOK_HOSTS = env.list("HARDMINE_WEBHOOK_HOSTS", default=[])
WEBHOOK_HTTP = env.bool("HARDMINE_WEBHOOK_HTTP", default=False)
WEBHOOK_SECONDS = 10.0  # for all of one attempt
# smtp+tls://user:password@host:587; consolemail:// prints them. None unless set.
_mail = env.email_url_config(env.str("EMAIL_URL", default="") or "dummymail://")
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_USE_TLS = _mail.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = _mail.get("EMAIL_USE_SSL", False)
EMAIL_HOST = _mail["EMAIL_HOST"] or ""
EMAIL_PORT = _mail["EMAIL_PORT"] or (
    587 if EMAIL_USE_TLS else 465 if EMAIL_USE_SSL else 25
)
EMAIL_HOST_USER = _mail["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_PASSWORD"] or ""
EMAIL_FILE_PATH = _mail["EMAIL_FILE_PATH"]
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="hardmine@localhost")

# An MLflow server that trainings are logged to, as MLflow's own clients name it.
MLFLOW_TRACKING_URI = env.str("MLFLOW_TRACKING_URI", default="")
MLFLOW_TRACKING_TOKEN = env.str("MLFLOW_TRACKING_TOKEN", default="")
MLFLOW_TRACKING_USERNAME = env.str("MLFLOW_TRACKING_USERNAME", default="")
MLFLOW_TRACKING_PASSWORD = env.str("MLFLOW_TRACKING_PASSWORD", default="")

# --- scanning and reviewing -----------------------------------------------------
# A shard silent for longer belongs to a dead worker.
SHARD_LEASE_SECONDS = env.float("HARDMINE_SHARD_LEASE_SECONDS", default=120)
# A worker without progress is given up after this, even if it lives.
SHARD_STALL_SECONDS = CELERY_TASK_TIME_LIMIT
# What a shard may go through until it is quarantined: errors, and workers that died.
SHARD_MAX_FAILURES = env.int("HARDMINE_SHARD_MAX_FAILURES", default=3)
SHARD_MAX_LOSSES = env.int("HARDMINE_SHARD_MAX_LOSSES", default=10)
DATABASE_PATIENCE_SECONDS = 60  # a restart of PostgreSQL takes no longer
# The largest file of predictions that is taken, and what an array in it may unpack to.
IMPORT_MAX_BYTES = env.int("HARDMINE_IMPORT_MAX_BYTES", default=8 * 2**30)
CLAIM_SECONDS = 600  # how long a finding stays with a reviewer who does nothing
CLAIM_BATCH = 5

# --- API ----------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "reviewapp.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["reviewapp.api.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "reviewapp.api.pagination.KeysetPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "reviewapp.api.errors.exception_handler",
    "PAGE_SIZE": 100,
}
REST_KNOX = {"TOKEN_TTL": None, "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "Hardmine",
    "DESCRIPTION": "Scans, findings, reviews, confusions and fix sets of a vision model.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "CauseEnum": "reviewapp.models.Cause",
        "CheckpointFormatEnum": "reviewapp.models.ModelVersion.Format",
        "ConfusionStateEnum": "reviewapp.models.Confusion.State",
        "DismissReasonEnum": "reviewapp.models.DismissReason",
        "ExportFormatEnum": "reviewapp.models.Export.Format",
        "HeldReasonEnum": "reviewapp.models.HeldItem.Reason",
        "ImportFormatEnum": "reviewapp.models.Import.Format",
        "ImportStateEnum": "reviewapp.models.Import.State",
        "JobStateEnum": "reviewapp.models.Export.State",
        "KindEnum": "reviewapp.models.Finding.Kind",
        "NoticeKindEnum": "reviewapp.models.NoticeKind",
        "RunStateEnum": "reviewapp.models.TrainingRun.State",
        "ScanStateEnum": "reviewapp.models.Scan.State",
        "SplitEnum": "reviewapp.models.Split",
    },
}

# --- the rest -----------------------------------------------------------------
LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("TZ", default="UTC")
USE_TZ = True
USE_THOUSAND_SEPARATOR = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": sys.stderr,
            "formatter": "line",
        }
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="WARNING")},
    "loggers": {"reviewapp": {"level": env.str("LOG_LEVEL", default="INFO")}},
}
