from __future__ import annotations

from django.db import migrations, models


# Findings are counted by what they have in common before it is asked what they count as.
COUNTS = """coalesce(sum(n) FILTER (WHERE presence IN ('seen', 'regressed')), 0),
                 coalesce(sum(n) FILTER (WHERE presence IN ('seen', 'regressed')
                                           AND review_state = 'open'), 0),
                 coalesce(sum(n) FILTER (WHERE presence = 'regressed'
                                           AND review_state = 'open'), 0),
                 coalesce(sum(n) FILTER (WHERE review_state <> 'open'), 0)"""
COUNT = """
CREATE OR REPLACE FUNCTION reviewapp_finding_has_parents() RETURNS trigger AS $$
DECLARE deltas reviewapp_standing_delta[];
BEGIN
  deltas := ARRAY(
    SELECT ROW(dataset_id, registered_model_id, true_label_id, predicted_label_id,
               COUNTS)::reviewapp_standing_delta
      FROM (SELECT dataset_id, registered_model_id, true_label_id, predicted_label_id,
                   presence, review_state, count(*)::int AS n
              FROM fresh GROUP BY 1, 2, 3, 4, 5, 6) f
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
    SELECT FROM (SELECT dataset_id, array_agg(DISTINCT registered_model_id) AS models,
                        array_agg(DISTINCT true_label_id) AS trues,
                        array_agg(DISTINCT predicted_label_id) AS predictions
                   FROM unnest(deltas) GROUP BY dataset_id) f
     WHERE cardinality(f.models) <> (
             SELECT count(*) FROM reviewapp_registeredmodel m
              WHERE m.id = ANY(f.models) AND m.dataset_id = f.dataset_id)
        OR cardinality(f.trues) <> (
             SELECT count(*) FROM reviewapp_label l
              WHERE l.id = ANY(f.trues) AND l.dataset_id = f.dataset_id)
        OR cardinality(f.predictions) <> (
             SELECT count(*) FROM reviewapp_label l
              WHERE l.id = ANY(f.predictions) AND l.dataset_id = f.dataset_id)) THEN
    RAISE EXCEPTION 'a finding names a model or a label that its data set does not have'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  IF EXISTS (SELECT FROM (SELECT dataset_id, array_agg(DISTINCT sample_id) AS samples
                            FROM fresh GROUP BY dataset_id) f
              WHERE cardinality(f.samples) <> (
                SELECT count(*) FROM reviewapp_sample s
                 WHERE s.id = ANY(f.samples) AND s.dataset_id = f.dataset_id)) THEN
    RAISE EXCEPTION 'a finding names a sample that its data set does not have'
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  PERFORM reviewapp_change_standings(deltas);
  RETURN NULL;
END $$ LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off
  SET enable_seqscan = off;
-- A worker's session keeps the plan that it made when the tables were small.
ALTER FUNCTION reviewapp_sighting_has_scan() SET enable_seqscan = off;

CREATE OR REPLACE FUNCTION reviewapp_finding_moved() RETURNS trigger AS $$
DECLARE deltas reviewapp_standing_delta[];
BEGIN
  deltas := ARRAY(
    SELECT d FROM (
      SELECT ROW(dataset_id, registered_model_id, true_label_id, predicted_label_id,
                 COUNTS)::reviewapp_standing_delta AS d
        FROM (SELECT dataset_id, registered_model_id, true_label_id,
                     predicted_label_id, presence, review_state, sum(n)::int AS n
                FROM (SELECT 1 AS n, dataset_id, registered_model_id, true_label_id,
                             predicted_label_id, presence, review_state FROM fresh
                      UNION ALL
                      SELECT -1, dataset_id, registered_model_id, true_label_id,
                             predicted_label_id, presence, review_state FROM gone) f
               GROUP BY 1, 2, 3, 4, 5, 6) f
       GROUP BY dataset_id, registered_model_id, true_label_id, predicted_label_id) f
     WHERE ((d).present, (d).waiting, (d).back, (d).reviewed) <> (0, 0, 0, 0));
  IF cardinality(deltas) > 0 THEN
    PERFORM reviewapp_change_standings(deltas);
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;
""".replace("COUNTS", COUNTS)


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0028_parents_at_once'),
    ]

    operations = [
        # Backwards they may stay: they count and check the same.
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_queue',
        ),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_queue_confusion',
        ),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_queue_newest',
        ),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_queue_confidence',
        ),
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_queue_back',
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'misclassified'), ('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', '-priority', '-id'], name='finding_hardest_misclassified'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'near_miss'), ('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', '-priority', '-id'], name='finding_hardest_near_miss'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'misclassified'), ('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', 'id'], name='finding_newest_misclassified'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'near_miss'), ('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', 'id'], name='finding_newest_near_miss'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'misclassified'), ('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', 'confidence', 'id'], name='finding_surest_misclassified'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'near_miss'), ('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['dataset', 'confidence', 'id'], name='finding_surest_near_miss'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'misclassified'), ('presence', 'regressed'), ('review_state', 'open')), fields=['dataset', '-priority', '-id'], name='finding_back_misclassified'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('kind', 'near_miss'), ('presence', 'regressed'), ('review_state', 'open')), fields=['dataset', '-priority', '-id'], name='finding_back_near_miss'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('presence__in', ['seen', 'regressed']), ('review_state', 'open')), fields=['true_label', 'predicted_label', '-priority', '-id'], name='finding_queue_pair'),
        ),
    ]
