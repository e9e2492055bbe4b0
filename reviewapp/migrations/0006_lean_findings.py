from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


# A foreign key looks its row up for every finding: six of them took as long as storing
# the findings and their sightings. Those to the few rows that a whole shard shares (the
# model, its data set, the labels, the scan) are kept by statement instead: the shared
# rows are locked and looked up once, as a foreign key does it per row. It is told more,
# too: model and labels are the data set's. The keys to the sample and from the sighting
# to its finding stay foreign keys.
KEEP = """
CREATE FUNCTION reviewapp_finding_has_parents() RETURNS trigger AS $$
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
  RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE FUNCTION reviewapp_sighting_has_scan() RETURNS trigger AS $$
BEGIN
  PERFORM FROM reviewapp_scan
    WHERE id IN (SELECT scan_id FROM fresh) ORDER BY id FOR KEY SHARE;
  IF EXISTS (SELECT FROM (SELECT DISTINCT scan_id FROM fresh) f
               LEFT JOIN reviewapp_scan s ON s.id = f.scan_id WHERE s.id IS NULL) THEN
    RAISE EXCEPTION 'a sighting names a scan that is not there'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE FUNCTION reviewapp_still_named() RETURNS trigger AS $$
DECLARE named boolean;
BEGIN
  EXECUTE 'SELECT EXISTS (' || TG_ARGV[0] || ')' INTO named;
  IF named THEN
    RAISE EXCEPTION 'findings or sightings still name rows of %', TG_TABLE_NAME
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER finding_has_parents AFTER INSERT ON reviewapp_finding
  REFERENCING NEW TABLE AS fresh
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_finding_has_parents();
CREATE TRIGGER sighting_has_scan AFTER INSERT ON reviewapp_sighting
  REFERENCING NEW TABLE AS fresh
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_sighting_has_scan();
CREATE TRIGGER label_not_named AFTER DELETE ON reviewapp_label
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION
  reviewapp_still_named('SELECT FROM gone g JOIN reviewapp_finding f
    ON f.dataset_id = g.dataset_id AND g.id IN (f.true_label_id, f.predicted_label_id)');
CREATE TRIGGER registeredmodel_not_named AFTER DELETE ON reviewapp_registeredmodel
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION
  reviewapp_still_named('SELECT FROM gone g JOIN reviewapp_finding f
    ON f.dataset_id = g.dataset_id AND f.registered_model_id = g.id');
CREATE TRIGGER scan_not_named AFTER DELETE ON reviewapp_scan
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION
  reviewapp_still_named('SELECT FROM gone g JOIN reviewapp_sighting s
    ON s.scan_id = g.id');
"""
LET_GO = """
DROP TRIGGER scan_not_named ON reviewapp_scan;
DROP TRIGGER registeredmodel_not_named ON reviewapp_registeredmodel;
DROP TRIGGER label_not_named ON reviewapp_label;
DROP TRIGGER sighting_has_scan ON reviewapp_sighting;
DROP TRIGGER finding_has_parents ON reviewapp_finding;
DROP FUNCTION reviewapp_still_named();
DROP FUNCTION reviewapp_sighting_has_scan();
DROP FUNCTION reviewapp_finding_has_parents();
"""


# Every line that a scan saw is updated when it ends: with room on its page, no index is.
ROOM = "ALTER TABLE reviewapp_confusion SET (fillfactor = 50)"
NO_ROOM = "ALTER TABLE reviewapp_confusion RESET (fillfactor)"


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0005_imports'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='finding',
            name='finding_once',
        ),
        migrations.RemoveConstraint(
            model_name='sighting',
            name='sighting_once',
        ),
        migrations.RemoveField(
            model_name='finding',
            name='first_scan',
        ),
        migrations.RemoveField(
            model_name='finding',
            name='last_scan',
        ),
        migrations.AlterField(
            model_name='finding',
            name='dataset',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='findings', to='reviewapp.dataset'),
        ),
        migrations.AlterField(
            model_name='finding',
            name='predicted_label',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='reviewapp.label'),
        ),
        migrations.AlterField(
            model_name='finding',
            name='registered_model',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='findings', to='reviewapp.registeredmodel'),
        ),
        migrations.AlterField(
            model_name='finding',
            name='sample',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='findings', to='reviewapp.sample'),
        ),
        migrations.AlterField(
            model_name='finding',
            name='true_label',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='reviewapp.label'),
        ),
        migrations.AlterField(
            model_name='sighting',
            name='scan',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='sightings', to='reviewapp.scan'),
        ),
        migrations.AddConstraint(
            model_name='finding',
            constraint=models.UniqueConstraint(fields=('sample', 'registered_model', 'true_label', 'predicted_label'), name='finding_once'),
        ),
        migrations.AddConstraint(
            model_name='sighting',
            constraint=models.UniqueConstraint(fields=('scan', 'finding'), name='sighting_once'),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='dataset',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='confusions', to='reviewapp.dataset'),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='first_scan',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='reviewapp.scan'),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='last_scan',
            field=models.ForeignKey(db_index=False, help_text='Last that saw it', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='reviewapp.scan'),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='predicted_label',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='reviewapp.label'),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='registered_model',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='confusions', to='reviewapp.registeredmodel'),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='true_label',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='reviewapp.label'),
        ),
        migrations.RunSQL(KEEP, LET_GO),
        migrations.RunSQL(ROOM, NO_ROOM),
    ]
