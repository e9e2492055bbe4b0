import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0010_standings'),
    ]

    operations = [
        migrations.AlterField(
            model_name='ranker',
            name='weights',
            field=models.JSONField(help_text='scores: name -> weight, mean and scale; intercept; both only with enough verdicts. reviewed: all verdicts at the time of the fit'),
        ),
        migrations.CreateModel(
            name='Preparation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('aids', 'lanes, exemplars and lookalikes'), ('pictures', 'thumbnails of the exemplars')], max_length=8)),
                ('due_at', models.DateTimeField(help_text='When it is asked for (again)')),
                ('scan', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='preparations', to='reviewapp.scan')),
            ],
        ),
        migrations.AddConstraint(
            model_name='preparation',
            constraint=models.UniqueConstraint(fields=('scan', 'what'), name='preparation_once_per_scan'),
        ),
        migrations.AddConstraint(
            model_name='preparation',
            constraint=models.CheckConstraint(condition=models.Q(('what__in', ['aids', 'pictures'])), name='preparation_what_known'),
        ),
    ]
