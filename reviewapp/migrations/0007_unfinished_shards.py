from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0006_lean_findings'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='shard',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['scan'], name='shard_unfinished'),
        ),
    ]
