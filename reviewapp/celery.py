"""The Celery application: JSON only, two queues, policy per task."""

from __future__ import annotations

import os

from celery import Celery

from mining.threads import available_cpus, limit_arenas
from reviewapp import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reviewapp.settings")  # noqa: TID251

broker.install()
limit_arenas(available_cpus())  # before there are threads, so that it holds for all
app = Celery("hardmine")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["reviewapp"])
