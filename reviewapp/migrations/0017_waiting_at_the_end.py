from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0016_notices'),
    ]

    operations = [
        migrations.AddField(
            model_name='scan',
            name='waiting',
            field=models.PositiveIntegerField(help_text='Findings of its model without a verdict when it had ended', null=True),
        ),
    ]
