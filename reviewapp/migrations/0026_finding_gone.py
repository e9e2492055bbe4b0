# What is back and waits has an index of the queue: one less for a scan to write to.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0025_doubt_order'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='finding',
            name='finding_not_seen',
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(models.Q(('presence', 'seen'), _negated=True), models.Q(('presence', 'regressed'), ('review_state', 'open'), _negated=True)), fields=['dataset', 'presence', '-priority', '-id'], name='finding_gone'),
        ),
    ]
