from __future__ import annotations

from django.db import migrations

# A set is frozen from the moment it has a time of freezing. Deleting it, with its data
# set, stays possible; changing it does not.
CREATE = """
CREATE FUNCTION reviewapp_refuse_frozen_item() RETURNS trigger AS $$
BEGIN
  IF EXISTS (SELECT FROM reviewapp_fixset
              WHERE id = NEW.fix_set_id AND frozen_at IS NOT NULL) THEN
    IF TG_OP = 'UPDATE' AND (NEW.finding_id IS NULL OR NEW.sample_id IS NULL)
       AND (to_jsonb(NEW) - 'finding_id' - 'sample_id')
         = (to_jsonb(OLD) - 'finding_id' - 'sample_id') THEN
      RETURN NEW;  -- what it pointed to was deleted; the content stays
    END IF;
    RAISE EXCEPTION 'fix set % is frozen', NEW.fix_set_id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER fixitem_frozen BEFORE INSERT OR UPDATE ON reviewapp_fixitem
  FOR EACH ROW EXECUTE FUNCTION reviewapp_refuse_frozen_item();

CREATE FUNCTION reviewapp_refuse_frozen_set() RETURNS trigger AS $$
BEGIN
  IF (NEW.digest, NEW.size, NEW.filter, NEW.frozen_at, NEW.dataset_id)
     IS DISTINCT FROM
     (OLD.digest, OLD.size, OLD.filter, OLD.frozen_at, OLD.dataset_id) THEN
    RAISE EXCEPTION 'fix set % is frozen', OLD.id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER fixset_frozen BEFORE UPDATE ON reviewapp_fixset
  FOR EACH ROW WHEN (OLD.frozen_at IS NOT NULL)
  EXECUTE FUNCTION reviewapp_refuse_frozen_set();
"""

DROP = """
DROP TRIGGER fixset_frozen ON reviewapp_fixset;
DROP FUNCTION reviewapp_refuse_frozen_set();
DROP TRIGGER fixitem_frozen ON reviewapp_fixitem;
DROP FUNCTION reviewapp_refuse_frozen_item();
"""


class Migration(migrations.Migration):
    dependencies = [("reviewapp", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
