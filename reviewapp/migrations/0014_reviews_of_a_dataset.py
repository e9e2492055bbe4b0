from __future__ import annotations

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

BATCH = 20_000  # rows of one transaction

# A review knows its data set, so that a reviewer's own list is read from one index. Not in
# one transaction: millions of reviews are filled in batches. Every step may be repeated,
# so an upgrade that was interrupted goes on where it stopped.
ADD = "ALTER TABLE reviewapp_review ADD COLUMN IF NOT EXISTS dataset_id bigint"
KEEP = "ALTER TABLE reviewapp_review ALTER COLUMN dataset_id SET NOT NULL"
DROP = "ALTER TABLE reviewapp_review DROP COLUMN IF EXISTS dataset_id"
FILL = """
UPDATE reviewapp_review r SET dataset_id = f.dataset_id
  FROM reviewapp_finding f
 WHERE f.id = r.finding_id AND r.id BETWEEN %s AND %s AND r.dataset_id IS NULL
"""

# What a reviewer says where the answer is known is kept whole: a line without its reason
# and note would tell in their own list that it was none like the others.
SAY = """
ALTER TABLE reviewapp_knownattempt
  ADD COLUMN IF NOT EXISTS reason varchar(12) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS causes varchar(20)[] NOT NULL DEFAULT '{}',
  ADD COLUMN IF NOT EXISTS note text NOT NULL DEFAULT '';
ALTER TABLE reviewapp_knownattempt ALTER COLUMN reason DROP DEFAULT,
  ALTER COLUMN causes DROP DEFAULT, ALTER COLUMN note DROP DEFAULT
"""
UNSAY = """
ALTER TABLE reviewapp_knownattempt DROP COLUMN IF EXISTS reason,
  DROP COLUMN IF EXISTS causes, DROP COLUMN IF EXISTS note
"""
CAUSES = [('similar_appearance', 'similar appearance'), ('pose', 'pose'), ('occlusion', 'occlusion'), ('background', 'background'), ('blur', 'blur'), ('small_object', 'small object'), ('lighting', 'lighting'), ('label_wrong', 'label wrong'), ('ambiguous', 'ambiguous'), ('out_of_scope', 'out of scope')]
REASONS = [('ambiguous', 'ambiguous'), ('out_of_scope', 'out of scope'), ('duplicate', 'duplicate'), ('unreadable', 'unreadable')]


def fill(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT min(id), max(id) FROM reviewapp_review")
        first, last = cursor.fetchone()
        if first is None:
            return
        for start in range(first, last + 1, BATCH):
            cursor.execute(FILL, [start, start + BATCH - 1])


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('reviewapp', '0013_comparisons'),
    ]

    operations = [
        migrations.RunSQL(ADD, DROP),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunSQL(
            KEEP,
            migrations.RunSQL.noop,
            state_operations=[
                migrations.AddField(
                    model_name='review',
                    name='dataset',
                    field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='reviews', to='reviewapp.dataset'),
                ),
            ],
        ),
        migrations.RunSQL(
            "CREATE INDEX IF NOT EXISTS review_own_list"
            " ON reviewapp_review (reviewer_id, dataset_id, id DESC)",
            "DROP INDEX IF EXISTS review_own_list",
            state_operations=[
                migrations.AddIndex(
                    model_name='review',
                    index=models.Index(fields=['reviewer', 'dataset', '-id'], name='review_own_list'),
                ),
            ],
        ),
        migrations.RunSQL(
            "DROP INDEX IF EXISTS review_reviewer_newest",
            "CREATE INDEX IF NOT EXISTS review_reviewer_newest"
            " ON reviewapp_review (reviewer_id, id DESC)",
            state_operations=[
                migrations.RemoveIndex(model_name='review', name='review_reviewer_newest'),
            ],
        ),
        migrations.RunSQL(
            SAY,
            UNSAY,
            state_operations=[
                migrations.AddField(
                    model_name='knownattempt',
                    name='reason',
                    field=models.CharField(blank=True, choices=REASONS, max_length=12),
                ),
                migrations.AddField(
                    model_name='knownattempt',
                    name='causes',
                    field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=CAUSES, max_length=20), default=list, size=None),
                ),
                migrations.AddField(
                    model_name='knownattempt',
                    name='note',
                    field=models.TextField(blank=True),
                ),
            ],
        ),
    ]
