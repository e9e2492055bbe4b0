
import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0020_recipes'),
    ]

    operations = [
        migrations.CreateModel(
            name='TrainingRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('settings', models.JSONField(help_text='The fields of `mining.training.settings.TrainSettings`')),
                ('scan_split', models.CharField(blank=True, choices=[('', 'no split'), ('train', 'train'), ('val', 'val'), ('test', 'test')], default='test', help_text='What the verifying scan looks at; empty: every sample', max_length=5)),
                ('state', models.CharField(choices=[('queued', 'queued'), ('running', 'running'), ('done', 'done'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='queued', max_length=9)),
                ('content', models.TextField(blank=True, help_text='Of a control: the recipe drawn for it, as JSON')),
                ('material', models.CharField(blank=True, help_text='Digest of the samples it trains with', max_length=64)),
                ('saved', models.TextField(blank=True, help_text='Name in the storage of what it can go on from')),
                ('epochs', models.JSONField(default=list, help_text='The figures of each epoch')),
                ('progress', models.JSONField(default=dict, help_text='`epoch`, samples `done` of `all` in it, `rate` in 1/s')),
                ('outcome', models.JSONField(default=dict, help_text='Of one that is done: best epoch, device, samples')),
                ('message', models.TextField(blank=True)),
                ('worker', models.CharField(blank=True, max_length=200)),
                ('attempts', models.PositiveIntegerField(default=0, help_text='Grows with each claim; a worker writes under its own')),
                ('losses', models.PositiveSmallIntegerField(default=0, help_text='Attempts whose worker went silent')),
                ('verify_until', models.DateTimeField(help_text='When to stop trying to start that scan', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('requested_at', models.DateTimeField(help_text='The last time it was queued')),
                ('claimed_at', models.DateTimeField(null=True)),
                ('heartbeat_at', models.DateTimeField(null=True)),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='notice',
            name='notice_kind_known',
        ),
        migrations.RemoveConstraint(
            model_name='webhook',
            name='webhook_events_known',
        ),
        migrations.AddField(
            model_name='modelversion',
            name='lineage',
            field=models.JSONField(default=dict, help_text='Of a retrained one: digests of parent, fix set, recipe and data set'),
        ),
        migrations.AlterField(
            model_name='notice',
            name='kind',
            field=models.CharField(choices=[('scan.finished', 'scan finished'), ('regression', 'regression'), ('gate.failed', 'gate failed'), ('training.finished', 'training finished'), ('test', 'test')], max_length=20),
        ),
        migrations.AlterField(
            model_name='scan',
            name='trigger',
            field=models.CharField(choices=[('page', 'page'), ('api', 'API'), ('command', 'command line'), ('schedule', 'schedule'), ('import', 'import'), ('training', 'training')], max_length=8),
        ),
        migrations.AlterField(
            model_name='user',
            name='mails',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('scan.finished', 'scan finished'), ('regression', 'regression'), ('gate.failed', 'gate failed'), ('training.finished', 'training finished')], max_length=20), blank=True, default=list, help_text='What they want an e-mail of, on each of their data sets', size=None),
        ),
        migrations.AlterField(
            model_name='webhook',
            name='events',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('scan.finished', 'scan finished'), ('regression', 'regression'), ('gate.failed', 'gate failed'), ('training.finished', 'training finished')], max_length=20), size=None),
        ),
        migrations.AddConstraint(
            model_name='notice',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['scan.finished', 'regression', 'gate.failed', 'training.finished', 'test'])), name='notice_kind_known'),
        ),
        migrations.AddConstraint(
            model_name='webhook',
            constraint=models.CheckConstraint(condition=models.Q(('events__contained_by', ['scan.finished', 'regression', 'gate.failed', 'training.finished'])), name='webhook_events_known'),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='control_of',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='controls', to='reviewapp.trainingrun'),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='dataset',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='training_runs', to='reviewapp.dataset'),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='parent',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='training_runs', to='reviewapp.modelversion'),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='recipe',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='training_runs', to='reviewapp.recipe'),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='requested_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='verifying_scan',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='reviewapp.scan'),
        ),
        migrations.AddField(
            model_name='trainingrun',
            name='version',
            field=models.ForeignKey(help_text='What came of it; the same weights are the same version', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='made_by', to='reviewapp.modelversion'),
        ),
        migrations.AddIndex(
            model_name='trainingrun',
            index=models.Index(fields=['dataset', '-id'], name='training_dataset_newest'),
        ),
        migrations.AddIndex(
            model_name='trainingrun',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['requested_at'], name='training_active'),
        ),
        migrations.AddIndex(
            model_name='trainingrun',
            index=models.Index(condition=models.Q(('state', 'done'), ('verifying_scan__isnull', True)), fields=['verify_until'], name='training_unverified'),
        ),
        migrations.AddConstraint(
            model_name='trainingrun',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'running', 'done', 'failed', 'cancelled'])), name='training_state_known'),
        ),
        migrations.AddConstraint(
            model_name='trainingrun',
            constraint=models.CheckConstraint(condition=models.Q(('control_of__isnull', True), ('recipe__isnull', True), _connector='OR'), name='training_control_has_no_recipe'),
        ),
        migrations.AddConstraint(
            model_name='trainingrun',
            constraint=models.CheckConstraint(condition=models.Q(('scan_split__in', ['', 'train', 'val', 'test'])), name='training_split_known'),
        ),
    ]
