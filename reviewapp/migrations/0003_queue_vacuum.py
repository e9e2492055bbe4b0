from __future__ import annotations

from django.db import migrations

# Claims and verdicts leave dead rows in the queue's index; without frequent vacuums
# the queue gets slower with every verdict.
TUNE = """
ALTER TABLE reviewapp_finding SET (
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
  autovacuum_analyze_scale_factor = 0.02, fillfactor = 85);
ALTER TABLE reviewapp_claim SET (
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 200);
"""
RESET = """
ALTER TABLE reviewapp_finding RESET (
  autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
  autovacuum_analyze_scale_factor, fillfactor);
ALTER TABLE reviewapp_claim RESET (
  autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
"""


class Migration(migrations.Migration):
    dependencies = [("reviewapp", "0002_frozen_fix_sets")]
    operations = [migrations.RunSQL(TUNE, RESET)]
