from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0003_queue_vacuum'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='modelversion',
            name='version_format_known',
        ),
        migrations.RemoveConstraint(
            model_name='scan',
            name='scan_state_known',
        ),
        migrations.RemoveConstraint(
            model_name='shard',
            name='shard_state_known',
        ),
        migrations.AddField(
            model_name='scan',
            name='changed',
            field=models.PositiveIntegerField(help_text='Of these, predictions that float32 changed', null=True),
        ),
        migrations.AddField(
            model_name='scan',
            name='rechecked',
            field=models.PositiveIntegerField(help_text='Close calls computed again in float32', null=True),
        ),
        migrations.AddField(
            model_name='shard',
            name='changed',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='shard',
            name='failures',
            field=models.PositiveSmallIntegerField(default=0, help_text='Attempts that ended with an error'),
        ),
        migrations.AddField(
            model_name='shard',
            name='losses',
            field=models.PositiveSmallIntegerField(default=0, help_text='Attempts whose worker went silent'),
        ),
        migrations.AddField(
            model_name='shard',
            name='pace',
            field=models.JSONField(default=dict, help_text='What its worker measured: device, seconds, memory'),
        ),
        migrations.AddField(
            model_name='shard',
            name='rechecked',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='unreadablesample',
            name='digest',
            field=models.CharField(blank=True, help_text='Names the thumbnails, where the bytes could be shown', max_length=64),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='checkpoint',
            field=models.TextField(blank=True, help_text='File or fsspec URL under a configured root; empty for predictions'),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='digest',
            field=models.CharField(help_text='SHA-256 of the checkpoint, or of the predictions', max_length=64),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='format',
            field=models.CharField(choices=[('safetensors', 'safetensors'), ('state_dict', 'PyTorch state dict'), ('onnx', 'ONNX'), ('torch_export', 'torch.export archive'), ('predictions', 'predictions made elsewhere')], max_length=12),
        ),
        migrations.AlterField(
            model_name='scan',
            name='state',
            field=models.CharField(choices=[('queued', 'queued'), ('running', 'running'), ('finishing', 'finishing'), ('done', 'done'), ('partial', 'partial'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='queued', max_length=9),
        ),
        migrations.AlterField(
            model_name='scan',
            name='trigger',
            field=models.CharField(choices=[('page', 'page'), ('api', 'API'), ('command', 'command line'), ('schedule', 'schedule'), ('import', 'import')], max_length=8),
        ),
        migrations.AlterField(
            model_name='shard',
            name='attempts',
            field=models.PositiveIntegerField(default=0, help_text='Grows with each claim; a worker writes under its own'),
        ),
        migrations.AlterField(
            model_name='shard',
            name='state',
            field=models.CharField(choices=[('queued', 'queued'), ('running', 'running'), ('done', 'done'), ('quarantined', 'quarantined')], default='queued', max_length=11),
        ),
        migrations.RunSQL(
            "UPDATE reviewapp_shard SET state = 'quarantined' WHERE state = 'failed'",
            "UPDATE reviewapp_shard SET state = 'failed' WHERE state = 'quarantined'",
        ),
        migrations.AddConstraint(
            model_name='modelversion',
            constraint=models.CheckConstraint(condition=models.Q(('format__in', ['safetensors', 'state_dict', 'onnx', 'torch_export', 'predictions'])), name='version_format_known'),
        ),
        migrations.AddConstraint(
            model_name='scan',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'running', 'finishing', 'done', 'partial', 'failed', 'cancelled'])), name='scan_state_known'),
        ),
        migrations.AddConstraint(
            model_name='shard',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'running', 'done', 'quarantined'])), name='shard_state_known'),
        ),
    ]
