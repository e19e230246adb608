# The two databases' secrets. Terraform never knows their values. Where var.databases names one that is there, it is read; else
# one is made, and an operator puts the value: the output `next_steps` has the commands.

locals {
  # Only the database that is made here has a secret of RDS's own.
  made_secrets = { source = null, warehouse = one(aws_db_instance.warehouse[*].master_user_secret[0].secret_arn) }
  own_secrets  = { source = aws_secretsmanager_secret.source, warehouse = aws_secretsmanager_secret.warehouse }
  parameters = {
    source    = var.databases.source.parameters
    warehouse = merge(concat(local.database_parameters, [var.databases.warehouse.parameters])...)
  }

  secrets = {
    for database in ["source", "warehouse"] : database => {
      arn   = coalesce(var.databases[database].secret_arn, local.made_secrets[database], one(local.own_secrets[database][*].arn))
      name  = coalesce(var.databases[database].secret_arn, local.made_secrets[database], one(local.own_secrets[database][*].name))
      query = join("&", [for name, value in local.parameters[database] : "${name}=${urlencode(value)}"])
    }
  }

  # As the settings have it: secretsmanager:NAME?parameters
  secret_urls = {
    for database, secret in local.secrets : database => "secretsmanager:${secret.name}${secret.query == "" ? "" : "?${secret.query}"}"
  }
}

resource "aws_secretsmanager_secret" "source" {
  #checkov:skip=CKV_AWS_149:The variable kms_key_arn names a key; without one it is the account's own for Secrets Manager
  #checkov:skip=CKV2_AWS_57:The database's owner rotates its password, and puts the new value here
  count = var.databases.source.secret_arn == null ? 1 : 0

  name                    = "totes/${var.project}/source"
  description             = "The database that is read: postgresql://…, or JSON as docs/how-to/secrets.md has it."
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "warehouse" {
  #checkov:skip=CKV_AWS_149:The variable kms_key_arn names a key; without one it is the account's own for Secrets Manager
  #checkov:skip=CKV2_AWS_57:The database's owner rotates its password, and puts the new value here
  count = var.databases.warehouse.secret_arn == null && var.warehouse_database == null ? 1 : 0

  name                    = "totes/${var.project}/warehouse"
  description             = "The database that is loaded: postgresql://…, or JSON as docs/how-to/secrets.md has it."
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 7
}
