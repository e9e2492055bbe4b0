import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# What was held aside is as frozen as the rest, and a recipe that is done never changes:
# a version that was trained with it names it.
FROZEN = """
CREATE TRIGGER helditem_frozen BEFORE INSERT OR UPDATE ON reviewapp_helditem
  FOR EACH ROW EXECUTE FUNCTION reviewapp_refuse_frozen_item();

CREATE FUNCTION reviewapp_refuse_done_recipe() RETURNS trigger AS $$
BEGIN
  IF (NEW.state, NEW.digest, NEW.content, NEW.settings, NEW.summary, NEW.fix_set_id)
     IS DISTINCT FROM
     (OLD.state, OLD.digest, OLD.content, OLD.settings, OLD.summary, OLD.fix_set_id) THEN
    RAISE EXCEPTION 'recipe % is done', OLD.id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER recipe_done BEFORE UPDATE ON reviewapp_recipe
  FOR EACH ROW WHEN (OLD.state = 'done')
  EXECUTE FUNCTION reviewapp_refuse_done_recipe();
"""

NOT_FROZEN = """
DROP TRIGGER recipe_done ON reviewapp_recipe;
DROP FUNCTION reviewapp_refuse_done_recipe();
DROP TRIGGER helditem_frozen ON reviewapp_helditem;
"""

# A set is stale when an image of it, its label or its verdict is another one by now. What
# an undo has named already is not named again. OFFSET 0 keeps the look-up by index,
# whatever the cached plan was made for.
STALE = """
CREATE FUNCTION reviewapp_say_stale(sets bigint[], keys text[], news text[])
RETURNS void AS $$
  UPDATE reviewapp_fixset s
     SET stale_because = trim(leading chr(10) FROM s.stale_because || chr(10)
           || to_char(now(), 'YYYY-MM-DD HH24:MI') || ' ' || held.what)
    FROM (SELECT c.fix_set, string_agg(c.what, ', ' ORDER BY c.place)
                   FILTER (WHERE c.place <= 5)
                 || CASE WHEN max(c.place) > 5
                         THEN ' and ' || max(c.place) - 5 || ' more' ELSE '' END AS what
            FROM (SELECT n.*, row_number() OVER (PARTITION BY n.fix_set ORDER BY n.key)
                           AS place
                    FROM (SELECT DISTINCT ON (fix_set, key) *
                            FROM unnest(sets, keys, news) AS u (fix_set, key, what)
                           ORDER BY fix_set, key) n
                    JOIN reviewapp_fixset f ON f.id = n.fix_set
                   WHERE f.frozen_at IS NOT NULL
                     AND position(n.key IN f.stale_because) = 0) c
           GROUP BY c.fix_set) held
   WHERE s.id = held.fix_set
$$ LANGUAGE sql;

CREATE FUNCTION reviewapp_fixset_samples_changed() RETURNS trigger AS $$
DECLARE
  sets bigint[]; keys text[]; news text[];
BEGIN
  SELECT array_agg(i.fix_set_id), array_agg(i.sample_key),
         array_agg(CASE
           WHEN a.removed_at IS NOT NULL THEN i.sample_key || ' went away'
           WHEN i.digest <> a.digest THEN 'the image ' || i.sample_key || ' changed'
           ELSE 'the label of ' || i.sample_key || ' is ' || l.name || ' now' END)
    INTO sets, keys, news
    FROM after a
    JOIN before b ON b.id = a.id
     AND (b.label_id, b.digest, b.removed_at)
         IS DISTINCT FROM (a.label_id, a.digest, a.removed_at)
    JOIN reviewapp_label l ON l.id = a.label_id
   CROSS JOIN LATERAL (SELECT * FROM reviewapp_fixitem
                        WHERE sample_id = a.id OFFSET 0) i
   WHERE a.removed_at IS NOT NULL OR i.digest <> a.digest OR i.label <> l.name;
  IF sets IS NOT NULL THEN
    PERFORM reviewapp_say_stale(sets, keys, news);
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER fixset_samples_changed AFTER UPDATE ON reviewapp_sample
  REFERENCING OLD TABLE AS before NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_fixset_samples_changed();

CREATE FUNCTION reviewapp_fixset_judged_anew() RETURNS trigger AS $$
DECLARE
  sets bigint[]; keys text[]; news text[];
BEGIN
  SELECT array_agg(i.fix_set_id), array_agg(i.sample_key),
         array_agg(u.username || ' gave ' || i.sample_key || ' the verdict ' || a.verdict)
    INTO sets, keys, news
    FROM after a
    JOIN reviewapp_user u ON u.id = a.reviewer_id
   CROSS JOIN LATERAL (SELECT * FROM reviewapp_fixitem
                        WHERE finding_id = a.finding_id OFFSET 0) i
   WHERE a.verdict <> i.verdict;
  IF sets IS NOT NULL THEN
    PERFORM reviewapp_say_stale(sets, keys, news);
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER fixset_judged_anew AFTER INSERT ON reviewapp_review
  REFERENCING NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION reviewapp_fixset_judged_anew();
"""

NOT_STALE = """
DROP TRIGGER fixset_judged_anew ON reviewapp_review;
DROP FUNCTION reviewapp_fixset_judged_anew();
DROP TRIGGER fixset_samples_changed ON reviewapp_sample;
DROP FUNCTION reviewapp_fixset_samples_changed();
DROP FUNCTION reviewapp_say_stale(bigint[], text[], text[]);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0019_scan_matrix'),
    ]

    operations = [
        migrations.AlterField(
            model_name='fixset',
            name='stale_because',
            field=models.TextField(blank=True, help_text='What of it changed since, a line each'),
        ),
        migrations.CreateModel(
            name='HeldItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sample_key', models.TextField()),
                ('digest', models.CharField(max_length=64)),
                ('split', models.CharField(blank=True, max_length=5)),
                ('original_label', models.CharField(max_length=200)),
                ('true_label', models.CharField(max_length=200)),
                ('label', models.CharField(help_text='The label to train with', max_length=200)),
                ('predicted', models.CharField(max_length=200)),
                ('verdict', models.CharField(max_length=7)),
                ('causes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), default=list, size=None)),
                ('p_true', models.FloatField()),
                ('confidence', models.FloatField()),
                ('reviewer', models.CharField(max_length=150)),
                ('reviewed_at', models.DateTimeField()),
                ('note', models.TextField(blank=True)),
                ('reason', models.CharField(choices=[('ambiguous', 'ambiguous or out of scope'), ('label_suspect', 'label in doubt'), ('outlier', 'outlier'), ('duplicate', 'duplicate')], max_length=13)),
                ('finding', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='reviewapp.finding')),
                ('fix_set', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='held_aside', to='reviewapp.fixset')),
                ('sample', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='reviewapp.sample')),
            ],
            options={
                'ordering': ['fix_set', 'sample_key', 'predicted'],
                'constraints': [models.UniqueConstraint(fields=('fix_set', 'sample_key', 'true_label', 'predicted'), name='helditem_once'), models.CheckConstraint(condition=models.Q(('reason__in', ['ambiguous', 'label_suspect', 'outlier', 'duplicate'])), name='helditem_reason_known')],
            },
        ),
        migrations.CreateModel(
            name='Recipe',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('settings', models.JSONField(help_text='The fields of `mining.recipe.RecipeSettings`')),
                ('state', models.CharField(choices=[('queued', 'queued'), ('running', 'running'), ('done', 'done'), ('failed', 'failed')], default='queued', max_length=7)),
                ('message', models.TextField(blank=True)),
                ('digest', models.CharField(blank=True, max_length=64)),
                ('summary', models.JSONField(default=dict, help_text='What pages show, as `reviewapp.recipes.summary_of` says')),
                ('content', models.TextField(blank=True, help_text='The JSON of `mining.recipe.Recipe`, in its one spelling')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('heartbeat_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('fix_set', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='recipes', to='reviewapp.fixset')),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['created_at'], name='recipe_active')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'running', 'done', 'failed'])), name='recipe_state_known'), models.CheckConstraint(condition=models.Q(models.Q(('digest__regex', '^[0-9a-f]{64}$'), ('state', 'done')), models.Q(models.Q(('state', 'done'), _negated=True), ('digest', '')), _connector='OR'), name='recipe_done_has_digest')],
            },
        ),
        migrations.RunSQL(FROZEN, NOT_FROZEN),
        migrations.RunSQL(STALE, NOT_STALE),
    ]
