import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


# What was fixed or back by the plain count stays so. A fixed line is compared with the
# last scan that counts: that one saw none of it.
JUDGED = """
UPDATE reviewapp_confusion c
   SET evidence = jsonb_build_object('says', c.state, 'why', 'before')
                  || CASE WHEN c.state = 'fixed' AND l.scan IS NOT NULL
                          THEN jsonb_build_object('proved_by', l.scan)
                          ELSE '{}' END
  FROM (SELECT c.id, max(s.id) AS scan
          FROM reviewapp_confusion c
          LEFT JOIN reviewapp_modelversion v
            ON v.registered_model_id = c.registered_model_id
          LEFT JOIN reviewapp_scan s
            ON s.model_version_id = v.id AND s.state = 'done' AND NOT s.for_record
         WHERE c.state IN ('fixed', 'regressed')
         GROUP BY c.id) l
 WHERE l.id = c.id
"""
# The first export of each fix set claims its lines, unless they came back after it.
CLAIMED = """
WITH first AS (
  SELECT fix_set_id, min(finished_at) AS at
    FROM reviewapp_export WHERE state = 'done' GROUP BY fix_set_id
), held AS (
  SELECT DISTINCT f.registered_model_id, f.true_label_id, f.predicted_label_id, first.at
    FROM first
    JOIN reviewapp_fixitem i ON i.fix_set_id = first.fix_set_id
    JOIN reviewapp_finding f ON f.id = i.finding_id
), back AS (
  SELECT confusion_id, max(created_at) AS at
    FROM reviewapp_confusionevent WHERE new_state = 'regressed' GROUP BY confusion_id
), claims AS (
  SELECT c.id, min(held.at) AS at
    FROM reviewapp_confusion c
    JOIN held USING (registered_model_id, true_label_id, predicted_label_id)
    LEFT JOIN back ON back.confusion_id = c.id
   WHERE back.at IS NULL OR held.at > back.at
   GROUP BY c.id
)
UPDATE reviewapp_confusion c SET claimed_at = claims.at FROM claims WHERE claims.id = c.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0017_waiting_at_the_end'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='confusion',
            name='claimed_at',
            field=models.DateTimeField(help_text='First export of a fix set that holds any of it, since it came back', null=True),
        ),
        migrations.AddField(
            model_name='confusion',
            name='evidence',
            field=models.JSONField(default=dict, help_text='What the last scan proved, as `mining.evidence.Evidence` has it'),
        ),
        migrations.AddField(
            model_name='confusion',
            name='owner',
            field=models.ForeignKey(db_index=False, help_text='Who sees to it', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='confusion',
            name='plan',
            field=models.CharField(blank=True, choices=[('collect', 'collect more'), ('augment', 'augment'), ('reweight', 'reweight'), ('fix_labels', 'fix labels'), ('classes', 'split or merge classes'), ('background', 'change the background'), ('nothing', 'nothing')], help_text='Empty: none yet', max_length=10),
        ),
        migrations.AddField(
            model_name='confusion',
            name='target',
            field=models.PositiveIntegerField(help_text='Most errors in a scan that would do', null=True),
        ),
        migrations.AlterField(
            model_name='confusion',
            name='state',
            field=models.CharField(choices=[('open', 'open'), ('in_review', 'in review'), ('fix_exported', 'fix exported'), ('improving', 'improving'), ('fixed', 'fixed'), ('regressed', 'back')], default='open', max_length=12),
        ),
        migrations.AlterField(
            model_name='confusionevent',
            name='new_state',
            field=models.CharField(choices=[('open', 'open'), ('in_review', 'in review'), ('fix_exported', 'fix exported'), ('improving', 'improving'), ('fixed', 'fixed'), ('regressed', 'back')], max_length=12),
        ),
        migrations.RemoveConstraint(
            model_name='confusion',
            name='confusion_state_known',
        ),
        migrations.AddConstraint(
            model_name='confusion',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['open', 'in_review', 'fix_exported', 'improving', 'fixed', 'regressed'])), name='confusion_state_known'),
        ),
        migrations.AddConstraint(
            model_name='confusion',
            constraint=models.CheckConstraint(condition=models.Q(('plan__in', ['', 'collect', 'augment', 'reweight', 'fix_labels', 'classes', 'background', 'nothing'])), name='confusion_plan_known'),
        ),
        migrations.RunSQL(JUDGED, migrations.RunSQL.noop),
        migrations.RunSQL(CLAIMED, migrations.RunSQL.noop),
    ]
