import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0026_finding_gone'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='notice',
            name='notice_kind_known',
        ),
        migrations.RemoveConstraint(
            model_name='webhook',
            name='webhook_events_known',
        ),
        migrations.AddField(
            model_name='analysis',
            name='losses',
            field=models.PositiveSmallIntegerField(default=0, help_text='Workers that went silent over it since it was asked for'),
        ),
        migrations.AddField(
            model_name='comparison',
            name='losses',
            field=models.PositiveSmallIntegerField(default=0, help_text='Workers that went silent over it since it was asked for'),
        ),
        migrations.AddField(
            model_name='export',
            name='losses',
            field=models.PositiveSmallIntegerField(default=0, help_text='Workers that went silent over it since it was asked for'),
        ),
        migrations.AddField(
            model_name='recipe',
            name='losses',
            field=models.PositiveSmallIntegerField(default=0, help_text='Workers that went silent over it since it was asked for'),
        ),
        migrations.AddField(
            model_name='report',
            name='losses',
            field=models.PositiveSmallIntegerField(default=0, help_text='Workers that went silent over it since it was asked for'),
        ),
        migrations.AlterField(
            model_name='notice',
            name='kind',
            field=models.CharField(choices=[('scan.finished', 'scan finished'), ('regression', 'regression'), ('gate.failed', 'gate failed'), ('training.finished', 'training finished'), ('report.finished', 'report finished'), ('test', 'test')], max_length=20),
        ),
        migrations.AlterField(
            model_name='user',
            name='mails',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('scan.finished', 'scan finished'), ('regression', 'regression'), ('gate.failed', 'gate failed'), ('training.finished', 'training finished'), ('report.finished', 'report finished')], max_length=20), blank=True, default=list, help_text='What they want an e-mail of, on each of their data sets', size=None),
        ),
        migrations.AlterField(
            model_name='webhook',
            name='events',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('scan.finished', 'scan finished'), ('regression', 'regression'), ('gate.failed', 'gate failed'), ('training.finished', 'training finished'), ('report.finished', 'report finished')], max_length=20), size=None),
        ),
        migrations.AddConstraint(
            model_name='notice',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['scan.finished', 'regression', 'gate.failed', 'training.finished', 'report.finished', 'test'])), name='notice_kind_known'),
        ),
        migrations.AddConstraint(
            model_name='webhook',
            constraint=models.CheckConstraint(condition=models.Q(('events__contained_by', ['scan.finished', 'regression', 'gate.failed', 'training.finished', 'report.finished'])), name='webhook_events_known'),
        ),
    ]
