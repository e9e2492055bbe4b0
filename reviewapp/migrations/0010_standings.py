from __future__ import annotations

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

COUNTS = """count(*) FILTER (WHERE presence IN ('seen', 'regressed')),
               count(*) FILTER (WHERE presence IN ('seen', 'regressed')
                                  AND review_state = 'open'),
               count(*) FILTER (WHERE presence = 'regressed' AND review_state = 'open'),
               count(*) FILTER (WHERE review_state <> 'open')"""

# What a verdict or a scan changes in the standings. The new findings of a shard are
# grouped once, for their parents (as in 0008) and for their standings.
#
# Up to 20 confusions change at once: those whose standing is free are changed; the others,
# and all where hundreds change, become rows of standingchange, which `fold_standings`
# adds. So nobody ever waits for a standing: neither the workers of a scan for each other
# nor reviewers in one confusion. Standings are made by one transaction at a time, for the
# same reason.
COUNT = """
CREATE TYPE reviewapp_standing_delta AS (
  dataset_id bigint, registered_model_id bigint, true_label_id bigint,
  predicted_label_id bigint, present int, waiting int, back int, reviewed int);

CREATE FUNCTION reviewapp_change_standings(deltas reviewapp_standing_delta[])
  RETURNS void AS $$
DECLARE free bigint[]; may_make boolean;
BEGIN
  IF cardinality(deltas) > 20 THEN
    INSERT INTO reviewapp_standingchange
           (dataset_id, registered_model_id, true_label_id, predicted_label_id,
            present, waiting, back, reviewed, created_at)
    SELECT d.*, statement_timestamp() FROM unnest(deltas) d;
    RETURN;
  END IF;
  free := ARRAY(
    SELECT s.id FROM unnest(deltas) d JOIN reviewapp_standing s
        ON s.registered_model_id = d.registered_model_id
       AND s.true_label_id = d.true_label_id
       AND s.predicted_label_id = d.predicted_label_id
       FOR NO KEY UPDATE OF s SKIP LOCKED);
  may_make := cardinality(free) < cardinality(deltas)
              AND pg_try_advisory_xact_lock(hashtext('reviewapp_standing'));
  WITH changed AS (
    UPDATE reviewapp_standing s
       SET present = s.present + d.present, waiting = s.waiting + d.waiting,
           back = s.back + d.back, reviewed = s.reviewed + d.reviewed
      FROM unnest(deltas) d
     WHERE s.id = ANY(free) AND s.registered_model_id = d.registered_model_id
       AND s.true_label_id = d.true_label_id
       AND s.predicted_label_id = d.predicted_label_id
    RETURNING s.registered_model_id, s.true_label_id, s.predicted_label_id
  ), made AS (
    INSERT INTO reviewapp_standing
           (dataset_id, registered_model_id, true_label_id, predicted_label_id, kind,
            present, waiting, back, reviewed, is_exported, label_from)
    SELECT d.dataset_id, d.registered_model_id, d.true_label_id, d.predicted_label_id,
           CASE WHEN d.true_label_id = d.predicted_label_id
                THEN 'near_miss' ELSE 'misclassified' END,
           d.present, d.waiting, d.back, d.reviewed, false, 1
      FROM unnest(deltas) d
     WHERE may_make AND NOT EXISTS (
           SELECT FROM reviewapp_standing s
            WHERE s.registered_model_id = d.registered_model_id
              AND s.true_label_id = d.true_label_id
              AND s.predicted_label_id = d.predicted_label_id)
        ON CONFLICT DO NOTHING
    RETURNING registered_model_id, true_label_id, predicted_label_id
  )
  INSERT INTO reviewapp_standingchange
         (dataset_id, registered_model_id, true_label_id, predicted_label_id,
          present, waiting, back, reviewed, created_at)
  SELECT d.*, statement_timestamp() FROM unnest(deltas) d
   WHERE (d.registered_model_id, d.true_label_id, d.predicted_label_id) NOT IN (
         SELECT * FROM changed UNION ALL SELECT * FROM made);
END $$ LANGUAGE plpgsql;

CREATE FUNCTION reviewapp_finding_moved() RETURNS trigger AS $$
DECLARE deltas reviewapp_standing_delta[];
BEGIN
  deltas := ARRAY(
    SELECT ROW(dataset_id, registered_model_id, true_label_id, predicted_label_id,
               sum(n * seen::int), sum(n * (seen AND open)::int),
               sum(n * (presence = 'regressed' AND open)::int), sum(n * (NOT open)::int)
           )::reviewapp_standing_delta
      FROM (SELECT f.*, presence IN ('seen', 'regressed') AS seen,
                   review_state = 'open' AS open
              FROM (SELECT 1 AS n, dataset_id, registered_model_id, true_label_id,
                           predicted_label_id, presence, review_state FROM fresh
                    UNION ALL
                    SELECT -1, dataset_id, registered_model_id, true_label_id,
                           predicted_label_id, presence, review_state FROM gone) f) f
     GROUP BY dataset_id, registered_model_id, true_label_id, predicted_label_id
    HAVING sum(n * seen::int) <> 0 OR sum(n * (seen AND open)::int) <> 0
        OR sum(n * (presence = 'regressed' AND open)::int) <> 0
        OR sum(n * (NOT open)::int) <> 0);
  IF cardinality(deltas) > 0 THEN
    PERFORM reviewapp_change_standings(deltas);
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;

-- Only what is there is changed: the standings of a data set may go before its findings.
CREATE FUNCTION reviewapp_finding_uncounted() RETURNS trigger AS $$
BEGIN
  PERFORM FROM reviewapp_standing s
    WHERE (s.registered_model_id, s.true_label_id, s.predicted_label_id) IN (
          SELECT registered_model_id, true_label_id, predicted_label_id FROM gone)
    ORDER BY s.registered_model_id, s.true_label_id, s.predicted_label_id
      FOR NO KEY UPDATE;
  UPDATE reviewapp_standing s
     SET present = s.present - d.present, waiting = s.waiting - d.waiting,
         back = s.back - d.back, reviewed = s.reviewed - d.reviewed
    FROM (SELECT registered_model_id, true_label_id, predicted_label_id, COUNTS
            FROM gone GROUP BY 1, 2, 3)
         AS d (registered_model_id, true_label_id, predicted_label_id,
               present, waiting, back, reviewed)
   WHERE s.registered_model_id = d.registered_model_id
     AND s.true_label_id = d.true_label_id
     AND s.predicted_label_id = d.predicted_label_id;
  RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE OR REPLACE FUNCTION reviewapp_finding_has_parents() RETURNS trigger AS $$
DECLARE deltas reviewapp_standing_delta[];
BEGIN
  deltas := ARRAY(
    SELECT ROW(dataset_id, registered_model_id, true_label_id, predicted_label_id,
               COUNTS)::reviewapp_standing_delta
      FROM fresh
     GROUP BY dataset_id, registered_model_id, true_label_id, predicted_label_id);
  IF cardinality(deltas) = 0 THEN
    RETURN NULL;
  END IF;
  PERFORM FROM reviewapp_registeredmodel
    WHERE id IN (SELECT registered_model_id FROM unnest(deltas))
    ORDER BY id FOR KEY SHARE;
  PERFORM FROM reviewapp_label
    WHERE id IN (SELECT true_label_id FROM unnest(deltas)
                 UNION SELECT predicted_label_id FROM unnest(deltas))
    ORDER BY id FOR KEY SHARE;
  IF EXISTS (
    SELECT FROM unnest(deltas) f
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
  PERFORM reviewapp_change_standings(deltas);
  RETURN NULL;
END $$ LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off;

CREATE TRIGGER finding_moved AFTER UPDATE ON reviewapp_finding
  REFERENCING OLD TABLE AS gone NEW TABLE AS fresh
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_finding_moved();
CREATE TRIGGER finding_uncounted AFTER DELETE ON reviewapp_finding
  REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_finding_uncounted();
""".replace("COUNTS", COUNTS)
UNCOUNT = """
DROP TRIGGER finding_uncounted ON reviewapp_finding;
DROP TRIGGER finding_moved ON reviewapp_finding;
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
DROP FUNCTION reviewapp_finding_uncounted();
DROP FUNCTION reviewapp_finding_moved();
DROP FUNCTION reviewapp_change_standings(reviewapp_standing_delta[]);
DROP TYPE reviewapp_standing_delta;
"""

# What is there already.
FILL = """
INSERT INTO reviewapp_standing
       (dataset_id, registered_model_id, true_label_id, predicted_label_id, kind,
        present, waiting, back, reviewed, is_exported, label_from)
SELECT dataset_id, registered_model_id, true_label_id, predicted_label_id, kind, COUNTS,
       coalesce(bool_or(id IN (
         SELECT i.finding_id FROM reviewapp_fixitem i JOIN reviewapp_export e
             ON e.fix_set_id = i.fix_set_id AND e.state = 'done')), false), 1
  FROM reviewapp_finding
 GROUP BY dataset_id, registered_model_id, true_label_id, predicted_label_id, kind
""".replace("COUNTS", COUNTS)
EMPTY = "DELETE FROM reviewapp_standing"

# The scan and the finding are the key: one index and one sequence less for each row.
KEY = """
ALTER TABLE reviewapp_sighting DROP CONSTRAINT reviewapp_sighting_pkey, DROP COLUMN id;
ALTER TABLE reviewapp_sighting DROP CONSTRAINT sighting_once;
ALTER TABLE reviewapp_sighting
  ADD CONSTRAINT reviewapp_sighting_pkey PRIMARY KEY (scan_id, finding_id);
"""
NO_KEY = """
ALTER TABLE reviewapp_sighting DROP CONSTRAINT reviewapp_sighting_pkey;
ALTER TABLE reviewapp_sighting ADD CONSTRAINT sighting_once UNIQUE (scan_id, finding_id);
ALTER TABLE reviewapp_sighting
  ADD COLUMN id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY;
"""

# A verdict updates its standing in place as long as the page has room. Changes come and go.
TUNE = """
ALTER TABLE reviewapp_standing SET (
  fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 200);
ALTER TABLE reviewapp_standingchange SET (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"""
RESET = """
ALTER TABLE reviewapp_standing RESET (
  fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0009_desk'),
    ]

    operations = [
        migrations.CreateModel(
            name='StandingChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('present', models.IntegerField()),
                ('waiting', models.IntegerField()),
                ('back', models.IntegerField()),
                ('reviewed', models.IntegerField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_list',
        ),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_list_confusion',
        ),
        migrations.AddField(
            model_name='fixset',
            name='stale_because',
            field=models.TextField(blank=True, help_text='Verdicts in it that were taken back, a line each'),
        ),
        migrations.AddField(
            model_name='standing',
            name='is_exported',
            field=models.BooleanField(default=False, help_text='Whether a frozen, exported fix set holds any of them'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', 'kind', '-id'], name='finding_queue_newest'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', 'kind', 'confidence', 'id'], name='finding_queue_confidence'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence', 'regressed'), ('review_state', 'open')), fields=['dataset', 'kind', '-priority', '-id'], name='finding_queue_back'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence__in', ['seen', 'regressed']), ('review_state', 'open'), _negated=True), fields=['dataset', 'kind', '-priority', '-id'], name='finding_settled'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence__in', ['seen', 'regressed']), ('review_state', 'open'), _negated=True), fields=['dataset', 'true_label', 'predicted_label', '-priority', '-id'], name='finding_settled_confusion'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('review_state', 'open'), _negated=True), fields=['dataset', 'review_state', '-priority', '-id'], name='finding_reviewed'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence', 'seen'), _negated=True), fields=['dataset', 'presence', '-priority', '-id'], name='finding_not_seen'),
        ),
        migrations.AlterField(
            model_name='review',
            name='reviewer',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='review',
            index=models.Index(fields=['reviewer', 'created_at'], name='review_reviewer_day'),
        ),
        migrations.AddIndex(
            model_name='review',
            index=django.contrib.postgres.indexes.GinIndex(condition=models.Q(('causes', []), _negated=True), fields=['causes'], name='review_causes'),
        ),
        migrations.AddField(
            model_name='standingchange',
            name='dataset',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='reviewapp.dataset'),
        ),
        migrations.AddField(
            model_name='standingchange',
            name='predicted_label',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='reviewapp.label'),
        ),
        migrations.AddField(
            model_name='standingchange',
            name='registered_model',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='reviewapp.registeredmodel'),
        ),
        migrations.AddField(
            model_name='standingchange',
            name='true_label',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='reviewapp.label'),
        ),
        migrations.AddIndex(
            model_name='standingchange',
            index=models.Index(fields=['registered_model', 'true_label', 'predicted_label'], name='standing_change_pair'),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(KEY, NO_KEY)],
            state_operations=[
                migrations.RemoveConstraint(
                    model_name='sighting',
                    name='sighting_once',
                ),
                migrations.RemoveField(
                    model_name='sighting',
                    name='id',
                ),
                migrations.AddField(
                    model_name='sighting',
                    name='pk',
                    field=models.CompositePrimaryKey('scan', 'finding', blank=True, editable=False, primary_key=True, serialize=False),
                ),
            ],
        ),
        migrations.RunSQL(COUNT, UNCOUNT),
        # Not after the rows: their foreign keys are checked at the end, and a table with
        # checks ahead cannot be altered.
        migrations.RunSQL(TUNE, RESET),
        migrations.RunSQL(FILL, EMPTY),
    ]
