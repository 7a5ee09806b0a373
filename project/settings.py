"""The one settings file. Everything that differs between installations comes from the environment.

docs/running.md explains each variable. Nonsense in one stops the process at start, naming all
that are wrong.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from datetime import timedelta
from pathlib import Path

from environs import Env, validate

from importops import conf, deployment, logs

env = Env(eager=False)

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("IMPORTOPS_DATA_DIR") or BASE_DIR / "var").resolve()
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)


def secret_key() -> str:
    """The key in var/secret_key, made on the first start; only its owner can read it."""
    path = DATA_DIR / "secret_key"
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=DATA_DIR)  # 0600
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
        # Whole or not at all, and the first of two that start together wins.
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
        os.unlink(name)
    return path.read_text()


DEBUG = env.bool("IMPORTOPS_DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
ALLOWED_HOSTS = env.list("IMPORTOPS_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("IMPORTOPS_TRUSTED_ORIGINS", default=[])
CORS_ALLOWED_ORIGINS: list[str] = env.list("IMPORTOPS_CORS_ORIGINS", default=[])
HTTPS = env.bool("IMPORTOPS_HTTPS", default=False)
IMPORTOPS = conf.read(env, data_dir=DATA_DIR)
DATABASES = {
    "default": env.dj_db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'importops.sqlite3'}")
}
# Beside PostgreSQL there may be other machines, and they share no files.
ON_SQLITE = (DATABASES["default"] or {}).get("ENGINE") == "django.db.backends.sqlite3"
CACHES = {
    "default": env.dj_cache_url(
        "CACHE_URL",
        default=f"file:///{DATA_DIR / 'cache'}?timeout=300"
        if ON_SQLITE
        else "db://importops_cache",
    )
}
# More than Django's 300: the cache counts the calls of every client, and throws out at random.
CACHES["default"].setdefault("OPTIONS", {}).setdefault("MAX_ENTRIES", 10_000)
QUEUE = deployment.Queue(
    kind=env.str("IMPORTOPS_QUEUE", default="database"),
    broker_url=env.str("IMPORTOPS_BROKER_URL", default=""),
)
STORAGE = env.str("IMPORTOPS_STORAGE", default="file")
OBJECT_STORE = deployment.ObjectStore(
    bucket=env.str("IMPORTOPS_S3_BUCKET", default=""),
    endpoint=env.str("IMPORTOPS_S3_ENDPOINT", default=""),
    region=env.str("IMPORTOPS_S3_REGION", default=""),
    access_key=env.str("IMPORTOPS_S3_ACCESS_KEY", default=""),
    secret_key=env.str("IMPORTOPS_S3_SECRET_KEY", default=""),
)
TIME_ZONE = env.str("IMPORTOPS_TIME_ZONE", default="UTC")
LANGUAGE_CODE = env.str("IMPORTOPS_LANGUAGE", default="en")
METRICS_TOKEN = env.str("IMPORTOPS_METRICS_TOKEN", default="")
LOG_LEVEL = env.str("IMPORTOPS_LOG_LEVEL", default="INFO")
LOG_FORMAT = env.str(
    "IMPORTOPS_LOG_FORMAT", default=logs.LINES, validate=validate.OneOf([logs.LINES, logs.JSON])
)
env.seal()
deployment.refuse(
    [*QUEUE.problems(), *OBJECT_STORE.problems(STORAGE, has_secret_key=bool(SECRET_KEY))]
)

SECRET_KEY = SECRET_KEY or secret_key()

if ON_SQLITE:
    # WAL: readers never wait for the writer. IMMEDIATE: a transaction that will write says so at its
    # start and waits its turn, instead of failing half-way with "database is locked".
    # Tests use a real file too: an in-memory database knows no WAL and no second process.
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}
    DATABASES["default"]["CONN_MAX_AGE"] = None  # opening one costs more than a poll
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8000;"
            # The log is folded in every 16 MiB: pages that a batch touches again are written once.
            "PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=67108864"
        ),
    }
else:
    DATABASES["default"] |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
    if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
        options = DATABASES["default"].get("OPTIONS", {})
        # A process that was stopped keeps its locks, which no fence can free: the server ends its
        # transaction before the lease of its slice runs out.
        lease = IMPORTOPS.lease_seconds * 1000
        ours = (
            f"-c lock_timeout={lease // 2} -c idle_in_transaction_session_timeout={lease * 3 // 4}"
        )
        DATABASES["default"]["OPTIONS"] = {
            # A server that vanished without a word is noticed, instead of waited for until the
            # system's own time-outs, which take hours.
            "connect_timeout": 10,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 25_000,
            **options,
            "options": f"{options.get('options', '')} {ours}".strip(),
        }

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_tasks",
    "django_tasks_db",
    "axes",
    "corsheaders",
    "importops",
]
MIDDLEWARE = [
    "importops.monitoring.middleware.Probes",
    "importops.monitoring.request_ids.RequestIds",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
    # Below here is for pages only; a request to the API goes straight to its view.
    "importops.api.middleware.ApiLane",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
if CORS_ALLOWED_ORIGINS:
    # Only then: it would cost every poll something. First, or errors would go out without its headers.
    MIDDLEWARE.insert(0, "corsheaders.middleware.CorsMiddleware")
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = True
USE_TZ = True
USE_I18N = True

# Accounts
AUTH_USER_MODEL = "importops.User"
# Names are unique by their folded key, and every look-up goes through it (models/accounts.py).
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = ["importops.hashers.DigestArgon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
    }
}
AXES_FAILURE_LIMIT = IMPORTOPS.login_failures
AXES_COOLOFF_TIME = timedelta(seconds=IMPORTOPS.login_lock_seconds)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "importops.clients.attempted_name"
AXES_CLIENT_IP_CALLABLE = "importops.clients.client_address"
AXES_LOCKOUT_CALLABLE = "importops.admin.lockout.lockout_response"
AXES_RESET_ON_SUCCESS = True
# Else whoever keeps knocking is never let in again, and `Retry-After` would be a lie.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_ENABLE_ACCESS_FAILURE_LOG = False
# A row for every login there ever was; `last_login` and the log say enough.
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
# Whoever reads the log has to see where an attack comes from. Names stay out of it: people type
# passwords there by mistake. The admin's list of access attempts has them.
AXES_SENSITIVE_PARAMETERS = ["username"]

# The REST door
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["importops.api.authentication.HeaderTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["importops.api.permissions.RunImport"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "importops.api.exceptions.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
# Pages of other sites may call the API only when listed, and never with a cookie.
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_METHODS = ["GET", "POST"]
CORS_ALLOW_HEADERS = [
    "accept",
    "content-type",
    "x-user-id",
    "x-auth-token",
    "x-2fa-code",
    "x-2fa-method",
]
CORS_EXPOSE_HEADERS = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "retry-after",
]
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024**2

# Background work: one id a task, on whichever queue is configured here.
TASKS = QUEUE.tasks()

# Files
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": DATA_DIR / "storage",
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
if STORAGE == "s3":
    STORAGES["default"] = OBJECT_STORE.storage()
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "uploads"
FILE_UPLOAD_TEMP_DIR.mkdir(mode=0o700, exist_ok=True)
FILE_UPLOAD_PERMISSIONS = 0o600
STATIC_URL = "static/"
# Assets are served from the installed packages: a fresh clone needs no collectstatic step.
WHITENOISE_USE_FINDERS = True
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)

LOGGING = logs.logging_config(LOG_LEVEL, LOG_FORMAT)
