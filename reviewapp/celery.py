"""The Celery application: JSON only, two queues, policy per task."""

from __future__ import annotations

import os

from celery import Celery

from reviewapp import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reviewapp.settings")  # noqa: TID251

broker.install()
app = Celery("hardmine")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["reviewapp"])
