# The two databases' URLs. Terraform makes the secrets and never knows their values: an operator puts them, so that
# they are in no state file. The output `next_steps` has the commands.

resource "aws_secretsmanager_secret" "source" {
  #checkov:skip=CKV_AWS_149:Encrypted with the account's own key for Secrets Manager; only this account reads it
  #checkov:skip=CKV2_AWS_57:The database's owner rotates its password, and puts the new value here
  name                    = "totes/${var.project}/source"
  description             = "The database that is read, as postgresql://… or JSON with PG_USER, PG_PASSWORD, PG_HOST, PG_PORT and PG_DATABASE."
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "warehouse" {
  #checkov:skip=CKV_AWS_149:Encrypted with the account's own key for Secrets Manager; only this account reads it
  #checkov:skip=CKV2_AWS_57:The database's owner rotates its password, and puts the new value here
  name                    = "totes/${var.project}/warehouse"
  description             = "The database that is loaded, as postgresql://… or JSON with PG_USER, PG_PASSWORD, PG_HOST, PG_PORT and PG_DATABASE."
  recovery_window_in_days = 7
}
