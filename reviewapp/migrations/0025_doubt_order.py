# In which order of a model's errors wrong labels come first.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0024_out_of_fold'),
    ]

    operations = [
        migrations.AddField(
            model_name='registeredmodel',
            name='doubt_order',
            field=models.CharField(blank=True, choices=[('surest', 'surest first'), ('hardest', 'hardest first')], default='', help_text='In which order of its errors wrong labels come first; empty: unknown', max_length=7),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            model_name='registeredmodel',
            constraint=models.CheckConstraint(condition=models.Q(('doubt_order__in', ['', 'surest', 'hardest'])), name='model_doubt_order_known'),
        ),
    ]
