import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reviewapp', '0018_evidence'),
    ]

    operations = [
        migrations.CreateModel(
            name='ScanMatrix',
            fields=[
                ('scan', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='matrix', serialize=False, to='reviewapp.scan')),
                ('cells', models.BinaryField(help_text="Row, column (places in the scan's classes) and count of each cell")),
                ('cluster', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveIntegerField(), help_text="Places in the scan's classes, those confused with each other together", size=None)),
            ],
        ),
    ]
