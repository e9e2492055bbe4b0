from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

# The last two foreign keys that were looked up for every finding, a fifth of the time that
# storing one takes: to the sample, and from the sighting to its finding. The statements
# of 0006 keep them too. Whoever inserts shares a lock on the registered model; whoever
# deletes samples or findings takes it alone, and so sees what the others have written.
KEEP = """
CREATE OR REPLACE FUNCTION reviewapp_finding_has_parents() RETURNS trigger AS $$
BEGIN
  PERFORM FROM reviewapp_registeredmodel
    WHERE id IN (SELECT registered_model_id FROM fresh) ORDER BY id FOR KEY SHARE;
  PERFORM FROM reviewapp_label
    WHERE id IN (SELECT true_label_id FROM fresh
                 UNION SELECT predicted_label_id FROM fresh) ORDER BY id FOR KEY SHARE;
  IF EXISTS (
    SELECT FROM (SELECT DISTINCT dataset_id, registered_model_id, true_label_id,
                        predicted_label_id FROM fresh) f
      LEFT JOIN reviewapp_registeredmodel m
        ON m.id = f.registered_model_id AND m.dataset_id = f.dataset_id
      LEFT JOIN reviewapp_label t
        ON t.id = f.true_label_id AND t.dataset_id = f.dataset_id
      LEFT JOIN reviewapp_label p
        ON p.id = f.predicted_label_id AND p.dataset_id = f.dataset_id
     WHERE m.id IS NULL OR t.id IS NULL OR p.id IS NULL) THEN
    RAISE EXCEPTION 'a finding names a model or a label that its data set does not have'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  IF EXISTS (SELECT FROM fresh f LEFT JOIN reviewapp_sample s
                ON s.id = f.sample_id AND s.dataset_id = f.dataset_id
              WHERE s.id IS NULL) THEN
    RAISE EXCEPTION 'a finding names a sample that its data set does not have'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off;

CREATE OR REPLACE FUNCTION reviewapp_sighting_has_scan() RETURNS trigger AS $$
BEGIN
  PERFORM FROM reviewapp_registeredmodel WHERE id IN (
    SELECT v.registered_model_id FROM reviewapp_modelversion v JOIN reviewapp_scan s
        ON s.model_version_id = v.id
     WHERE s.id IN (SELECT scan_id FROM fresh)) ORDER BY id FOR KEY SHARE;
  PERFORM FROM reviewapp_scan
    WHERE id IN (SELECT scan_id FROM fresh) ORDER BY id FOR KEY SHARE;
  IF EXISTS (SELECT FROM (SELECT DISTINCT scan_id FROM fresh) f
               LEFT JOIN reviewapp_scan s ON s.id = f.scan_id WHERE s.id IS NULL) THEN
    RAISE EXCEPTION 'a sighting names a scan that is not there'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  IF EXISTS (SELECT FROM fresh f LEFT JOIN reviewapp_finding g ON g.id = f.finding_id
              WHERE g.id IS NULL) THEN
    RAISE EXCEPTION 'a sighting names a finding that is not there'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off;

CREATE FUNCTION reviewapp_sample_not_named() RETURNS trigger AS $$
BEGIN
  PERFORM FROM reviewapp_registeredmodel
    WHERE dataset_id IN (SELECT dataset_id FROM gone) ORDER BY id FOR UPDATE;
  IF EXISTS (SELECT FROM gone g JOIN reviewapp_finding f ON f.sample_id = g.id) THEN
    RAISE EXCEPTION 'findings or sightings still name rows of %', TG_TABLE_NAME
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off;

CREATE FUNCTION reviewapp_finding_not_named() RETURNS trigger AS $$
BEGIN
  PERFORM FROM reviewapp_registeredmodel
    WHERE id IN (SELECT registered_model_id FROM gone) ORDER BY id FOR UPDATE;
  IF EXISTS (SELECT FROM gone g JOIN reviewapp_sighting s ON s.finding_id = g.id) THEN
    RAISE EXCEPTION 'findings or sightings still name rows of %', TG_TABLE_NAME
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off;

CREATE TRIGGER sample_not_named AFTER DELETE ON reviewapp_sample
  REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_sample_not_named();
CREATE TRIGGER finding_not_named AFTER DELETE ON reviewapp_finding
  REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_finding_not_named();
"""
# The functions of 0006 may stay as they are here: they only check more.
LET_GO = """
DROP TRIGGER finding_not_named ON reviewapp_finding;
DROP TRIGGER sample_not_named ON reviewapp_sample;
DROP FUNCTION reviewapp_finding_not_named();
DROP FUNCTION reviewapp_sample_not_named();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0007_unfinished_shards'),
    ]

    operations = [
        migrations.AlterField(
            model_name='finding',
            name='sample',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='findings', to='reviewapp.sample'),
        ),
        migrations.AlterField(
            model_name='sighting',
            name='finding',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='sightings', to='reviewapp.finding'),
        ),
        migrations.RunSQL(KEEP, LET_GO),
    ]
